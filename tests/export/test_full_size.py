"""Networks as they are published: all of their binary layers are packed, and the files are as small as they can be."""

import numpy as np
import pytest

from larq_ssl import export, models
from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.export.writing import float_twin
from larq_ssl.models import Encoder
from tests.export.networks import photos

pytest.importorskip("larq_compute_engine")
pytestmark = pytest.mark.slow

MEGABYTE = 1e6


def calibrated(size: int, *arguments, **more) -> Encoder:
    """A network of random weights through which images pass as through a trained one."""
    return calibrate_batch_norm(models.build(*arguments, **more), [photos(16, size, seed=1)])


def audited(encoder: Encoder, size: int, count: int = 4):
    product = export.make_product(encoder, size)
    content = export.packed_file(product)
    found = export.audit(content, product, export.AuditImages(photos(count, size)))
    assert export.problems(found) == []
    assert found["packed_layers"] == found["binary_layers"] == len(encoder.binary_layers)
    assert len(found["flips"]["layers"]) == len(encoder.binary_layers)
    return product, content, found


def test_reactnet_a_at_224():
    encoder = calibrated(224, "reactnet_a", classes=1000)
    product, content, found = audited(encoder, 224)
    assert found["packed_layers"] == found["operations"]["LceBconv2d"] == 31
    assert len(content) <= 8.0 * MEGABYTE
    assert len(content) == pytest.approx(found["size"]["larq_bytes"], rel=0.05)
    assert len(export.float_file(float_twin(product))) == pytest.approx(117.4 * MEGABYTE, rel=0.01)


def test_its_last_layer_in_8_bits_takes_a_quarter():
    encoder = calibrated(64, "reactnet_a", classes=1000)
    images = export.AuditImages(photos(16, 64))
    product = export.make_product(encoder, 64)
    in_float32, _, _ = export.choose(product, images, with_int8=False)
    content, found, told = export.choose(product, images)
    assert told["last"] == "int8"
    assert export.problems(found) == []
    assert len(in_float32) - len(content) == pytest.approx(0.75 * 4 * 1024 * 1000, rel=0.05)


@pytest.mark.parametrize(
    ("name", "layers"), [("reactnet_a_burn", 31), ("reactnet_18", 16), ("birealnet_18", 16), ("xnor_18", 16)]
)
def test_our_other_networks_at_224(name, layers):
    _, _, found = audited(calibrated(224, name), 224, count=2)
    assert found["packed_layers"] == layers


@pytest.mark.parametrize("rotated", [False, True])
def test_networks_that_turn_their_images(rotated):
    _, _, found = audited(calibrated(64, "reactnet_18", rotate_input=rotated), 64)
    assert found["operations"].get("REVERSE_V2", 0) == rotated


ZOO = [name for name in models.ARCHITECTURES if name.startswith("zoo:")]


@pytest.mark.parametrize("name", ZOO)
def test_the_networks_of_the_zoo(name):
    _, _, found = audited(calibrated(64, name, preprocessing="zoo"), 64)
    errors = [equal["max"] for equal in found["equal_inputs"].values()]
    assert np.all(np.array(errors) <= found["tolerance"])
