"""What a teacher says is computed once for each image, where its view never changes, and comes with the batches."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import datasets, pipeline, views
from larq_ssl.data.targets import compute_targets, is_fixed, with_targets
from tests.input.test_datasets import encode, picture


def teacher(images):
    """Something of every pixel."""
    flat = tf.cast(tf.reshape(images, [tf.shape(images)[0], -1]), tf.float32)
    return tf.stack([tf.reduce_mean(flat, axis=1), tf.math.reduce_std(flat, axis=1)], axis=1)


@pytest.fixture
def digits():
    return datasets.load_dataset("digits", limit=130)


def test_a_plain_view_never_changes_and_others_do():
    plain = views.policy("evaluation", 16)
    assert is_fixed(plain)
    for name in ("digits", "bssl", "moco_v2", "infomin"):
        assert not is_fixed(views.policy(name, 16).first(1))
    (view,) = plain.global_views
    for field in ("flip", "jitter_probability", "grey_probability", "blur_probability", "solarise_probability"):
        assert not is_fixed(dataclasses.replace(plain, global_views=(dataclasses.replace(view, **{field: 0.1}),)))
    assert not is_fixed(dataclasses.replace(plain, global_views=(dataclasses.replace(view, crop_scale=(1.0, 1.0)),)))
    assert not is_fixed(dataclasses.replace(plain, global_views=(view, view)))


@pytest.mark.parametrize("batch_size", [32, 130, 1000])
def test_every_batch_has_what_the_teacher_says_of_its_images(digits, batch_size):
    policy = views.policy("evaluation", 16)
    seen = []
    table = compute_targets(digits, policy, batch_size, teacher, progress=lambda done, total: seen.append(done / total))
    assert table.shape == (130, 2)
    assert np.isfinite(table).all()
    assert seen[-1] == 1
    for seed in (0, 1):
        batches = with_targets(pipeline.view_batches(digits, policy, 32, seed), table)
        for batch in batches.take(5):
            np.testing.assert_allclose(batch["targets"], teacher(batch["global"][:, 0]), rtol=1e-5)
            assert batch["targets"].shape == (32, 2)


def test_images_that_cannot_be_read_have_no_targets(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    for i in range(11):
        data = encode(picture(i, 70, 90)) if i not in (3, 7) else b"broken"
        (tmp_path / "train" / "cat" / f"{i:02}.png").write_bytes(data)
    dataset = datasets.load_dataset("folder", data_dir=str(tmp_path))
    policy = views.policy("evaluation", 16)
    table = compute_targets(dataset, policy, 4, teacher, max_bad_images=0.5)
    assert np.flatnonzero(~np.isfinite(table).all(axis=1)).tolist() == [3, 7]
    batches = with_targets(pipeline.view_batches(dataset, policy, 4, 0, max_bad_images=0.5), table)
    for batch in batches.take(6):
        np.testing.assert_allclose(batch["targets"], teacher(batch["global"][:, 0]), rtol=1e-5)


def test_random_views_are_refused(digits):
    with pytest.raises(ValueError, match="policy is 'digits': its views are random"):
        compute_targets(digits, views.policy("digits", 16).first(1), 32, teacher)
