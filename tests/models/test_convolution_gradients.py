"""Gradients of convolutions; by kernels as products of matrices."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.models import convolution_gradients
from larq_ssl.models.convolution_gradients import Convolution


@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1), (2, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("padding", "side"), [("SAME", (5, 6)), ("SAME", (1, 1)), ("VALID", (5, 6)), ("VALID", (7, 9))]
)
def test_products_of_matrices_are_the_gradient_by_the_kernel(kernel_size, stride, padding, side, monkeypatch):
    """Of small whole numbers, whose sums bfloat16 holds exactly; float64 is not oneDNN's."""
    monkeypatch.setattr(convolution_gradients, "_FEW", 100)
    convolve, draw = Convolution((stride, stride), padding), np.random.default_rng(0)
    signs, kernel = (tf.constant(draw.choice([-1.0, 1.0], shape)) for shape in ((2, *side, 4), (*kernel_size, 4, 3)))
    with tf.GradientTape() as tape:
        tape.watch([signs, kernel])
        outputs = convolve(signs, kernel)
    upstream = tf.constant(draw.choice([-1.0, 1.0], outputs.shape))
    small = [tf.cast(values, tf.bfloat16) for values in (signs, kernel, upstream)]
    made = mock.patch.object(
        Convolution, "_kernel_gradient_by_products", autospec=True, side_effect=Convolution._kernel_gradient_by_products
    )
    with made as by_products:
        found = convolve.gradients(*small)
    assert by_products.call_count == 1
    for one, other in zip(found, tape.gradient(outputs, [signs, kernel], upstream), strict=True):
        np.testing.assert_array_equal(tf.cast(one, tf.float64), other)
        assert np.any(other)


def test_large_maps_are_left_to_the_convolution():
    convolve, kernel = Convolution(), tf.ones([3, 3, 4, 2], tf.bfloat16)
    run = tf.function(lambda maps: convolve.gradients(maps, kernel, convolve(maps, kernel)), autograph=False)
    for batch, products in ((1, 9), (2, 0)):
        operations = run.get_concrete_function(tf.ones([batch, 8, 8, 4], tf.bfloat16)).graph.get_operations()
        assert sum(operation.type == "MatMul" for operation in operations) == products


def test_what_sees_padding_alone_is_not_multiplied():
    """Of a 3x3 on a single pixel eight are."""
    convolve, kernel = Convolution(), tf.ones([3, 3, 4, 2], tf.bfloat16)
    run = tf.function(lambda maps: convolve.gradients(maps, kernel, convolve(maps, kernel)), autograph=False)
    for side, products in ((1, 1), (2, 9)):
        graph = run.get_concrete_function(tf.ones([8, side, side, 4], tf.bfloat16)).graph
        scopes = [operation.name for operation in graph.get_operations() if operation.type == "MatMul"]
        assert len(scopes) == products
        assert {scope.split("/")[0] for scope in scopes} == {convolution_gradients.KERNEL_GRADIENT}


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (1, "VALID")])
def test_pieces_of_maps_are_not_made_before_the_backward_pass(stride, padding):
    """They are nine times as large as the maps, which would be kept instead."""
    convolve, kernel = Convolution((stride, stride), padding), tf.ones([3, 3, 4, 2], tf.bfloat16)
    run = tf.function(convolve.gradients, autograph=False)
    small = tf.ones([1, 6, 6, 4], tf.bfloat16)
    graph = run.get_concrete_function(small, kernel, convolve(small, kernel)).graph
    upstream, waiting, early = graph.inputs[2].op.name, set(), []
    for operation in graph.get_operations():
        awaited = [*operation.control_inputs, *(one.op for one in operation.inputs)]
        if any(one.name == upstream or one.name in waiting for one in awaited):
            waiting.add(operation.name)
        elif operation.name.startswith(convolution_gradients.KERNEL_GRADIENT) and operation.type != "Const":
            early.append(operation.name)
    assert any(name.startswith(convolution_gradients.KERNEL_GRADIENT) for name in waiting)
    assert not early
