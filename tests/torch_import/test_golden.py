"""The networks of the papers' official code, through files of either layout, give the official features."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.torch_import import import_checkpoint
from tests import golden
from tests.torch_import import official, writing

# Architecture, binarization that has to be said, kind, layout, and the largest difference: see
# `tests/models/test_networks.py`.
NETWORKS = {
    "reactnet_a_step1": ("reactnet_a", None, "reactnet", "legacy", 1e-4),
    "reactnet_a_step2": ("reactnet_a", None, "reactnet", "zip", 1e-4),
    "react_r18_step1": ("reactnet_18", "activations", "reactnet", "zip", 1e-4),
    "react_r18_step2": ("reactnet_18", "full", "reactnet", "legacy", 1e-4),
    "burn_reactnet_stage2": ("reactnet_a_burn", "full", "burn", "zip", 1e-4),
    "resnet18": ("resnet_18", None, "resnet", "zip", 1e-3),
    "resnet50": ("resnet_50", None, "resnet", "legacy", 5e-2),
    "mobilenet_v2": ("mobilenet_v2", None, "mobilenet_v2", "zip", 1e-3),
}
CASES = [(net, layout) for net, (_, _, _, layout, _) in NETWORKS.items()] + [("resnet18", "legacy")]


@pytest.fixture(scope="module")
def n3():
    return golden.load("n3_networks")


@pytest.mark.parametrize(("net", "layout"), CASES)
def test_features_and_logits(net, layout, n3, tmp_path):
    name, binarization, kind, _, tolerance = NETWORKS[net]
    expected = {key[len(net) + 1 :]: array for key, array in n3.items() if key.startswith(f"{net}/")}
    weights = golden.network_weights(net)
    alone = kind in ("resnet", "mobilenet_v2")
    tensors = official.state_dict(name, weights, "" if alone else "module.")
    if net == "reactnet_a_step2":
        tensors = official.flattened(tensors)
    contents = tensors if alone else {"epoch": 127, "state_dict": tensors, "best_top1_acc": 0.5}
    file = writing.save(tmp_path / "checkpoint.pth.tar", contents, layout)
    has_classes = "fc/kernel" in weights
    imported = import_checkpoint(file, binarization=binarization, classifier=has_classes)
    file.unlink()
    assert (imported.kind, imported.layout) == (kind, layout)
    assert imported.tensors == {"student": len(weights)}
    assert imported.left_out == {"num_batches_tracked": sum(key.endswith("moving_variance") for key in weights)}

    encoder = imported.encoders["student"]
    assert encoder.spec.rotate_input
    assert encoder.spec.preprocessing == "imagenet"
    # The arrays hold images that are normalised already.
    normalised = encoder.get_layer("preprocessing").output
    outputs = {"features": encoder.named_outputs["extra_fc" if kind == "burn" else "pooled"]}
    if has_classes:
        outputs["logits"] = encoder.output
    actual = tf.keras.Model(normalised, outputs)(expected["x"], training=False)
    for name in outputs:
        np.testing.assert_allclose(actual[name], expected[f"eval/{name}"], rtol=0, atol=tolerance)
