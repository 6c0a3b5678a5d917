"""What follows a network and what does not."""

import numpy as np
import tensorflow as tf

from larq_ssl.methods.momentum import follow
from tests.methods import tiny


def test_parameters_follow_and_statistics_do_not():
    source, target = tiny.encoder("source"), tiny.encoder("target")
    source(tiny.batch()["global"][:, 0], training=True)
    before = {name: tiny.parameters(network) for name, network in (("source", source), ("target", target))}
    moving = tiny.statistics(target)
    follow(source, target, 0.75)
    expected = {key: 0.75 * before["target"][key] + 0.25 * before["source"][key] for key in before["target"]}
    tiny.assert_close(tiny.parameters(target), expected, 1e-6)
    tiny.assert_identical(tiny.statistics(target), moving)
    tiny.assert_identical(tiny.parameters(source), before["source"])


def test_momentum_may_be_a_tensor_in_a_graph():
    source, target = tiny.encoder("source"), tiny.encoder("target")
    graph = tf.function(lambda momentum: follow(source, target, momentum), autograph=False)
    graph(tf.constant(0.0))
    tiny.assert_close(tiny.parameters(target), tiny.parameters(source), 1e-6)


def test_latent_kernels_of_binary_layers_are_averaged_not_their_signs():
    source, target = (tiny.binary_encoder(name) for name in ("source", "target"))
    kernels = [encoder.get_layer("block1/conv3x3").kernel for encoder in (source, target)]
    latent = [tf.convert_to_tensor(kernel).numpy() for kernel in kernels]
    follow(source, target, 0.5)
    average = 0.5 * (latent[0] + latent[1])
    np.testing.assert_allclose(tf.convert_to_tensor(kernels[1]), average, atol=1e-6)
    assert len(np.unique(np.abs(average))) > 10
