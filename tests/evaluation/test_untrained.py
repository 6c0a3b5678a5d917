import numpy as np
import pytest

from larq_ssl import models
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.untrained import raw_pixels, untrained
from larq_ssl.models.folder import encoder_hash
from larq_ssl.models.transfer import named_weights


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet_18", {"width": 0.125, "stem": "cifar"}), ("vit_tiny_32", {})],
)
def test_random_weights_of_its_own(name, arguments):
    """A network without BatchNorm has nothing to calibrate, and is a baseline all the same."""
    like = models.build(name, binarization="none", image_size=32, preprocessing="unit", **arguments)
    encoder = untrained(like, load_dataset("digits", "train"), 32, seed=3)
    assert encoder.spec.image_size is None
    assert (encoder.spec.name, encoder.spec.preprocessing) == (name, "unit")
    moving = {key: weight for key, weight in named_weights(encoder).items() if "/moving_" in key}
    assert bool(moving) == (name == "resnet_18")
    for key, weight in moving.items():
        assert np.abs(weight - key.endswith("variance")).max() > 1e-3, key
    kernels = [
        (weight.numpy(), other.numpy())
        for weight, other in zip(encoder.weights, like.weights, strict=True)
        if len(weight.shape) > 1
    ]
    assert kernels
    assert not any(np.array_equal(weight, other) for weight, other in kernels)


def test_raw_pixels_are_those_of_the_evaluation_view():
    images = load_dataset("digits", "val").subset(np.arange(11), "few")
    pixels = raw_pixels(24)
    result = extract(pixels, images, 24, batch_size=4)
    (batch,) = pipeline.image_batches(images, 24, 11)
    np.testing.assert_allclose(result.features, batch["image"].numpy().reshape(11, -1) / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(result.labels, images.labels())
    assert (pixels.feature_dim, pixels.weights) == (24 * 24 * 3, [])
    assert encoder_hash(pixels) == encoder_hash(raw_pixels(8))
