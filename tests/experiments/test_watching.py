"""What a run is watched by: always the same images, no pipeline of their own, and all that is behind the encoder."""

import types

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.experiments import watching
from larq_ssl.experiments.training_data import Data
from larq_ssl.heads import mlp_head
from tests.experiments.commands import SHORT_FLOAT


@pytest.mark.parametrize(
    ("images", "batch_size", "needed", "watched"),
    [
        (2000, 100, 3, 256),
        (2000, 300, 1, 256),
        # Whole batches of one epoch: in the next one, images come again.
        (50, 12, 4, 48),
        (9, 9, 1, 9),
    ],
)
@pytest.mark.parametrize("views", [1, 2, 3])
def test_watched_images_are_those_of_the_first_batches(monkeypatch, images, batch_size, needed, watched, views):
    monkeypatch.setattr(watching, "FLAGS", types.SimpleNamespace(batch_size=batch_size))
    pixels = np.random.default_rng(0).integers(0, 256, (10, batch_size, views, 4, 4, 3), np.uint8)
    data = Data(types.SimpleNamespace(size=images), None, steps_per_epoch=1)
    left = iter([{"global": tf.constant(batch)} for batch in pixels])
    found = watching._fixed_views(data, left)
    np.testing.assert_array_equal(found, pixels.reshape(-1, views, 4, 4, 3)[:watched, :2])
    assert len(list(left)) == 10 - needed


@pytest.mark.parametrize(
    "names", [(), ("student_head",), ("projector", "student_head"), ("student_head", "predictor", "projector")]
)
def test_projections_are_of_all_that_is_between_features_and_loss(names):
    widths = {"projector": (3, 5), "student_head": (5 if "projector" in names else 3, 2), "predictor": (2, 2)}
    networks = {name: mlp_head(name, widths[name][0], [], widths[name][1], norm="none") for name in names}
    head = watching._behind_encoder(types.SimpleNamespace(networks=networks))
    if not names:
        assert head is None
        return
    features = tf.random.normal([7, 3])
    expected = networks["projector"](features) if "projector" in names else features
    np.testing.assert_array_equal(head(features, training=False), networks["student_head"](expected))


def test_a_run_that_collapses_says_so(commands):
    """MSBReg's centroid loss alone, without BatchNorm in its heads; BYOL's would do the same."""
    words = (
        *("--lambda_s=0", "--lambda_b=0", "--num_views=2", "--epochs=6", "--steps_per_epoch=16", "--batch_size=64"),
        *("--image_size=8", "--knn_every=0", "--diagnostics_every=0", "--lr=3e-3", "--optimizer=adam", *SHORT_FLOAT),
        *("--hidden_dim=32", "--embedding_dim=16", "--weight_decay=0", "--momentum=0.8"),
    )
    for norm in ("layer", "batch"):
        done = commands.run("msbreg", *words, f"--head_norm={norm}", f"--workdir=collapse-{norm}")
        assert done.code == 0, done.err
        told = done.out + done.err
        assert told.count("COLLAPSE") == (norm == "layer"), told
