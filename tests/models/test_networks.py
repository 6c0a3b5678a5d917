"""Whole networks against the official code, at the weights that a rule draws."""

import re

import larq
import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D
from larq_ssl.models.transfer import assign_weights, named_weights, rotate_kernels
from tests import golden

# The network, its binarization, the channels of its stem at width 1, and the largest difference in eval and
# train mode (absolute: each binary network takes 10^5 signs, and one flip would move features by about 1).
NETWORKS = {
    "reactnet_a_step1": ("reactnet_a", "activations", 32, 1e-4, 1e-4),
    "reactnet_a_step2": ("reactnet_a", "full", 32, 1e-4, 1e-4),
    "react_r18_step1": ("reactnet_18", "activations", 64, 1e-4, 1e-4),
    "react_r18_step2": ("reactnet_18", "full", 64, 1e-4, 1e-4),
    "burn_reactnet_stage2": ("reactnet_a_burn", "full", 32, 1e-4, 1e-4),
    "resnet18": ("resnet_18", "none", 64, 1e-3, 2e-4),
    "resnet50": ("resnet_50", "none", 64, 5e-2, 1e-2),
    "mobilenet_v2": ("mobilenet_v2", "none", 32, 1e-3, 1e-2),
}


@pytest.fixture(scope="module")
def n3():
    return golden.load("n3_networks")


def _block_outputs(encoder):
    """The output of each block, in order; of MobileNets also that of the stem and of the head."""
    last = {}
    for layer in encoder.layers:
        block = re.match(r"(stage\d/)?block\d+", layer.name)
        if block:
            last[block[0]] = layer.output
    if encoder.spec.name == "mobilenet_v2":
        last = {"stem": encoder.get_layer("stem/relu6").output, **last, "head": encoder.named_outputs["stride32"]}
    if encoder.spec.name.startswith("reactnet_a"):
        last = {"stem": encoder.get_layer("stem/bn").output, **last}
    return list(last.values())


CASES = [
    *[(net, "float32") for net in NETWORKS],
    # To the same digits: nearly all sums of random signs are within 256, and those are exact.
    *[(net, "bfloat16") for net, (_, binarization, *_) in NETWORKS.items() if binarization == "full"],
]


@pytest.mark.parametrize(("net", "compute"), CASES, ids=["-".join(case) for case in CASES])
def test_network(n3, net, compute):
    name, binarization, channels, eval_tolerance, train_tolerance = NETWORKS[net]
    weights = golden.network_weights(net)
    expected = {key[len(net) + 1 :]: array for key, array in n3.items() if key.startswith(f"{net}/")}
    encoder = models.build(
        name,
        binarization=binarization,
        width=weights["stem/conv/kernel"].shape[-1] / channels,
        preprocessing="none",
        classes=weights["fc/bias"].shape[0] if "fc/bias" in weights else None,
        rotate_input=True,
        binary_compute=compute,
    )
    kind = Bfloat16BinaryConv2D if compute == "bfloat16" else larq.layers.QuantConv2D
    assert {type(layer) for layer in encoder.binary_layers} == ({kind} if binarization != "none" else set())
    report = assign_weights(encoder, rotate_kernels(weights))
    assert report.tensors == len(weights)

    features = encoder.named_outputs["extra_fc" if name == "reactnet_a_burn" else "pooled"]
    outputs = [features, encoder.output, *_block_outputs(encoder)]
    network = tf.keras.Model(encoder.input, outputs)
    actual_features, logits, *maps = network(expected["x"], training=False)
    block_means = [array for key, array in sorted(expected.items()) if "/block_means/" in key]
    assert len(maps) == len(block_means)
    for index, (actual, mean) in enumerate(zip(maps, block_means, strict=True)):
        scale = max(1.0, np.abs(mean).max())
        actual = tf.reduce_mean(actual, axis=[1, 2])
        np.testing.assert_allclose(actual, mean, rtol=0, atol=1e-4 * scale, err_msg=f"block {index}")
    np.testing.assert_allclose(actual_features, expected["eval/features"], rtol=0, atol=eval_tolerance)
    if "eval/logits" in expected:
        np.testing.assert_allclose(logits, expected["eval/logits"], rtol=0, atol=eval_tolerance)

    actual_features, *_ = network(expected["x"], training=True)
    np.testing.assert_allclose(actual_features, expected["train/features"], rtol=0, atol=train_tolerance)
    statistics = {key.split("/", 3)[3]: array for key, array in expected.items() if "/new/" in key}
    assert statistics
    for key, array in statistics.items():
        actual = named_weights(encoder)[key]
        np.testing.assert_allclose(actual, array, rtol=train_tolerance, atol=train_tolerance, err_msg=key)
