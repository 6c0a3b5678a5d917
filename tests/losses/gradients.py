"""Gradients by TensorFlow and by differences."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def value_and_gradients(function: Callable, *inputs: np.ndarray) -> tuple[np.ndarray, Sequence]:
    """Value of a scalar function and its gradients, `None` where there is none."""
    tensors = [tf.convert_to_tensor(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    gradients = tape.gradient(value, tensors)
    return value.numpy(), [None if gradient is None else gradient.numpy() for gradient in gradients]


def central_differences(function: Callable, *inputs: np.ndarray, step: float = 1e-5) -> list[np.ndarray]:
    """Gradients of a scalar numpy function, in float64."""
    arrays = [np.array(array, np.float64) for array in inputs]
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            at = array[index]
            array[index] = at + step
            above = function(*arrays)
            array[index] = at - step
            gradient[index] = (above - function(*arrays)) / (2 * step)
            array[index] = at
        gradients.append(gradient)
    return gradients
