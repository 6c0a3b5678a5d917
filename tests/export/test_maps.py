"""The backbone of a detector as a packed file: every binary layer packed, every map that of Keras on equal inputs."""

import json

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.export import maps
from tests.experiments.commands import add_short_networks

pytest.importorskip("larq_compute_engine")
add_short_networks()

NAMES = ("stride8", "stride16", "stride32")


@pytest.fixture(scope="module")
def encoder():
    encoder = models.build("reactnet_stages", None, "full", width=0.25)
    draw = np.random.default_rng(0)
    for layer in encoder.layers:
        if "moving_variance" in [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]:
            # As after training: not zeros and ones.
            layer.moving_mean.assign(draw.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(draw.uniform(0.5, 2.0, layer.moving_variance.shape))
    return encoder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (64, 64), (32, 128)])
def test_all_binary_layers_are_packed_and_compute_what_keras_computes(encoder, images, tmp_path, height, width):
    """Also where the last maps are smaller than a kernel."""
    shown = np.tile(images, (1, 2, 2, 1))[:, :height, :width]
    record = maps.write_maps(tmp_path / "backbone", encoder, shown, NAMES)
    audit = record["audit"]
    assert audit["packed_layers"] == audit["binary_layers"] == len(encoder.binary_layers) == 4
    assert audit["not_packed"] == []
    for errors in audit["equal_inputs"].values():
        assert set(NAMES) < set(errors)
        assert len(errors) == len(NAMES) + 4
        assert max(errors.values()) <= maps.TOLERANCE
    assert (tmp_path / "backbone" / "backbone.tflite").stat().st_size == audit["file_bytes"]
    assert json.loads((tmp_path / "backbone" / "export.json").read_text()) == record


def test_an_audit_that_fails_is_told(encoder, images):
    """Another network's file: its kernels are not those of this one; a map that is off."""
    made = maps.maps_file(encoder, 64, 96, NAMES)
    tf.keras.utils.set_random_seed(7)  # another one than that of each test
    other = models.build("reactnet_stages", None, "full", width=0.25)
    wrong = maps.audit_maps(
        maps.MapsFile(maps.maps_file(other, 64, 96, NAMES).content, made.product, NAMES, 64, 96), images
    )
    assert len(wrong["not_packed"]) == wrong["binary_layers"]
    assert "binary layers are not packed: " in maps.problems_of_maps(wrong)[0]
    off = {"not_packed": [], "equal_inputs": {"default": {"stride8": 0.5}}}
    assert maps.problems_of_maps(off) == ["With the default kernels stride8 differs from Keras by 0.5 on equal inputs."]


def test_nothing_is_written_of_a_file_that_fails(encoder, images, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="The packed backbone is not written: With the default kernels before stage1"):
        maps.write_maps(tmp_path / "backbone", encoder, images, NAMES)
    assert not (tmp_path / "backbone").exists()


def test_what_cannot_be_packed_is_refused(encoder):
    with pytest.raises(ValueError, match="The backbone cannot be packed: The reactnet_stages is a float network"):
        maps.maps_file(models.build("reactnet_stages", None, "none", width=0.125), 64, 64, NAMES)
    with pytest.raises(ValueError, match="Sides of the images must be multiples of 32, got 60 x 64"):
        maps.maps_file(encoder, 60, 64, NAMES)
