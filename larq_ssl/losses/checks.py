"""What every loss asks of its inputs."""

import math

import tensorflow as tf


def float32_rows(name: str, tensor: tf.Tensor) -> tf.Tensor:
    """Returns `tensor` as float32, or says why it is no matrix of floats.

    # Arguments
        name: What the caller calls this argument.
        tensor: Anything that converts to a float tensor `[rows, dim]`.
    # Returns
        Float32 tensor `[rows, dim]`.
    # Raises
        TypeError: If the tensor is not of a float type.
        ValueError: If the tensor has not two dimensions.
    """
    tensor = tf.convert_to_tensor(tensor)
    if not tensor.dtype.is_floating:
        raise TypeError(f"{name} must be a float tensor, got {tensor.dtype.name}.")
    if tensor.shape.rank not in (None, 2):
        raise ValueError(f"{name} must have shape [rows, dim], got {tensor.shape}.")
    return tf.cast(tensor, tf.float32)


def rows_of_views(name: str, tensor: tf.Tensor, views: int) -> tf.Tensor:
    """The rows of each view, or why they cannot be told apart.

    # Arguments
        name: What the caller calls this argument.
        tensor: Anything that converts to a float tensor `[views * batch, dim]`, view-major.
        views: Number of views, at least 1.
    # Returns
        Float32 tensor `[views, batch, dim]`.
    # Raises
        TypeError: If the tensor is not of a float type.
        ValueError: If it has not two dimensions, or not the same number of rows for each view.
    """
    rows = float32_rows(name, tensor)
    count = rows.shape[0]
    if count is not None and count % views:
        raise ValueError(f"{name} must have the same number of rows for each of {views} views, got {count}.")
    dim = tf.shape(rows)[1] if rows.shape[1] is None else rows.shape[1]
    # Not -1: a row that does not fit is not to be lost among the others.
    return tf.reshape(rows, [views, (tf.shape(rows)[0] if count is None else count) // views, dim])


def check_same_shape(**tensors: tf.Tensor) -> None:
    """Raises a `ValueError` that names both arguments, if two shapes cannot be equal."""
    (first, left), (second, right) = tensors.items()
    if not left.shape.is_compatible_with(right.shape):
        raise ValueError(f"{first} and {second} must have one shape, got {left.shape} and {right.shape}.")


def check_temperature(temperature: float) -> None:
    """Raises a `ValueError` unless the temperature is positive and finite."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
