"""Batches: the same pixels whatever the batch size, shards, calls and start; others in every view and epoch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from larq_ssl.data import augment, datasets, per_image, pipeline, rng, view_ops, views
from larq_ssl.data.reader import evaluation_image
from tests.input.test_datasets import encode, picture

SIZE = 20


def images_in_memory(count=50):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return datasets.ImageDataset(
        "memory", "train", count, 7, tuple("abcdefg"), "x", targets=np.arange(count) % 7, images=pixels
    )


def images_encoded(count=50):
    data = [encode(picture(i, 70 + i % 4, 80)) for i in range(count)]
    return datasets.ImageDataset("encoded", "train", count, 7, tuple("abcdefg"), "x", read=lambda i: (data[i], i % 7))


SOURCES = {"memory": images_in_memory, "encoded": images_encoded}


@pytest.fixture(params=list(SOURCES))
def dataset(request):
    return SOURCES[request.param]()


def multi_crop():
    """Every op, global views that differ, and local views."""
    base = views.policy("bssl", SIZE, solarise_probability=0.3, blur_probability=0.5).global_views[0]
    small = dataclasses.replace(base, size=9, crop_scale=(0.05, 0.4), interpolation="bilinear")
    return views.ViewPolicy("multi_crop", (base, dataclasses.replace(base, flip=0.0)), (small,) * 3)


def by_example(batches):
    """All rows of some batches, by (occurrence, id)."""
    rows, seen = {}, {}
    for batch in batches:
        for i, example in enumerate(batch["id"].numpy()):
            seen[example] = seen.get(example, -1) + 1
            rows[seen[example], example] = {k: v[i].numpy() for k, v in batch.items() if k != "id"}
    return rows


def assert_same(rows, others):
    assert rows.keys() == others.keys()
    for key, row in rows.items():
        for name in row:
            np.testing.assert_array_equal(row[name], others[key][name])


def test_batch(dataset):
    stream = pipeline.view_batches(dataset, multi_crop(), 10, seed=1, boxes=True)
    shapes = {name: (*spec.shape[1:],) for name, spec in stream.element_spec.items()}
    assert shapes == {"id": (), "label": (), "global": (2, SIZE, SIZE, 3), "local": (3, 9, 9, 3), "boxes": (5, 4)}
    assert stream.element_spec["global"].shape[0] == 10
    batch = next(iter(stream))
    assert batch["global"].dtype == batch["local"].dtype == tf.uint8
    assert batch["id"].dtype == batch["label"].dtype == tf.int64
    np.testing.assert_array_equal(batch["label"], batch["id"] % 7)
    assert "local" not in next(iter(pipeline.view_batches(dataset, views.policy("bssl", SIZE), 10, seed=1)))


def test_the_same_pixels_whatever_the_batch_size_and_calls(dataset, monkeypatch):
    policy = multi_crop()
    expected = by_example(pipeline.view_batches(dataset, policy, 10, seed=1, boxes=True).take(10))
    assert len(expected) == 100
    single = pipeline.view_batches(dataset, policy, 25, seed=1, boxes=True, parallel_calls=1)
    assert_same(expected, by_example(single.take(4)))
    # Chunks of one or three images, ops on one view at a time.
    monkeypatch.setattr(pipeline, "_CHUNK_BYTES", 3 * 12 * (2 * SIZE**2 + 3 * 9**2))
    monkeypatch.setattr(view_ops, "_BATCHED_SIDE", 10)
    assert_same(expected, by_example(pipeline.view_batches(dataset, policy, 10, seed=1, boxes=True).take(10)))


def test_resume_and_shards_are_slices(dataset):
    policy = views.policy("digits", SIZE)
    whole = list(pipeline.view_batches(dataset, policy, 12, seed=2).take(10))
    resumed = list(pipeline.view_batches(dataset, policy, 12, seed=2, start_step=7).take(3))
    parts = [
        list(pipeline.view_batches(dataset, policy, 12, seed=2, num_shards=2, shard=i, start_step=3).take(4))
        for i in range(2)
    ]
    for name in whole[0]:
        for step in range(3):
            np.testing.assert_array_equal(resumed[step][name], whole[7 + step][name])
        for step in range(4):
            joined = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(joined, whole[3 + step][name])


def test_epochs(dataset):
    steps = pipeline.steps_per_epoch(dataset, 12)
    assert steps == 4
    ids = [b["id"].numpy() for b in pipeline.view_batches(dataset, views.policy("digits", 8), 12, 3).take(3 * steps)]
    epochs = np.concatenate(ids).reshape(3, -1)
    left_out = [set(range(50)) - set(epoch) for epoch in epochs]
    assert [len(left) for left in left_out] == [2, 2, 2]
    assert left_out[0] != left_out[1] or left_out[1] != left_out[2]
    assert (epochs[0] != epochs[1]).mean() > 0.8


def test_views_epochs_and_seeds_differ(dataset):
    policy = views.policy("bssl", SIZE)
    first, second = (by_example(pipeline.view_batches(dataset, policy, 50, seed=s).take(2)) for s in (1, 2))
    for example in range(50):
        one, two = first[0, example]["global"]
        assert (one != two).any()
        assert (one != first[1, example]["global"][0]).any()
        assert (one != second[0, example]["global"][0]).any()


def test_boxes_are_what_the_views_show():
    """Without other ops, a view is its box of the image."""
    dataset = images_encoded(8)
    view = views.View(SIZE, crop_scale=(0.1, 1.0), flip=0.5)
    stream = pipeline.view_batches(dataset, views.ViewPolicy("crops", (view,)), 8, seed=0, boxes=True)
    batch, flipped = next(iter(stream)), 0
    for example, box, shown in zip(batch["id"].numpy(), batch["boxes"][:, 0], batch["global"][:, 0], strict=True):
        top, left, height, width = box.numpy()
        image = Image.fromarray(picture(example, 70 + example % 4, 80))
        crop = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        same, mirrored = (np.array_equal(x, shown) for x in (np.asarray(crop), np.asarray(crop)[:, ::-1]))
        assert same or mirrored
        flipped += mirrored
    assert 0 < flipped < 8


def test_memory_and_pillow_cut_the_same_crops():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), np.uint8)
    labels = np.zeros(16, np.int64)
    memory = datasets.ImageDataset("m", "train", 16, None, (), "x", targets=labels, images=pixels)
    data = [encode(image) for image in pixels]
    encoded = datasets.ImageDataset("e", "train", 16, None, (), "x", read=lambda i: (data[i], -1))
    for interpolation in views.INTERPOLATIONS:
        policy = views.ViewPolicy("crops", (views.View(SIZE, (0.1, 1.0), interpolation=interpolation, flip=0.5),))
        one, other = (next(iter(pipeline.view_batches(d, policy, 16, 0, boxes=True))) for d in (memory, encoded))
        np.testing.assert_array_equal(one["boxes"], other["boxes"])
        difference = np.abs(one["global"].numpy().astype(int) - other["global"].numpy())
        # Bilinear weights of small images are simple fractions: exact halves are rounded either way.
        assert difference.max() <= 2
        assert difference.mean() < 0.1


def test_parameters_follow_the_policy():
    view = views.policy("moco_v2", 32).global_views[0]
    other = dataclasses.replace(view, jitter=(0.8, 0.0, 1.5, 0.2), jitter_probability=0.0, flip=1.0)
    n = 20_000
    uniforms = tf.constant(rng.view_uniforms(0, np.zeros(n, np.int64), np.arange(n), (0, 1), view_ops.COLUMNS))
    mask, order, factors = view_ops.jitter_parameters(uniforms, (view, other))
    deviation = 6 * 0.5 / np.sqrt(n)
    np.testing.assert_allclose(np.mean(mask, axis=0), [0.8, 0.0], atol=deviation)
    np.testing.assert_allclose(np.mean(view_ops.flips(uniforms, (view, other)), axis=0), [0.5, 1.0], atol=deviation)
    np.testing.assert_allclose(np.mean(view_ops.grey_mask(uniforms, (view, other)), axis=0), 0.2, atol=deviation)
    blur, sigma = view_ops.blur_parameters(uniforms, (view, other))
    np.testing.assert_allclose(np.mean(blur, axis=0), 0.5, atol=deviation)
    np.testing.assert_allclose([np.min(sigma), np.max(sigma), np.mean(sigma)], [0.1, 2.0, 1.05], atol=0.02)
    _, counts = np.unique(np.asarray(order[:, 0]) @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert np.abs(counts - n / 24).max() < 6 * np.sqrt(n / 24)
    low, high = np.min(factors, axis=0), np.max(factors, axis=0)
    np.testing.assert_allclose(low, [[0.6, 0.6, 0.6, -0.1], [0.2, 1.0, 0.0, -0.2]], atol=2e-3)
    np.testing.assert_allclose(high, [[1.4, 1.4, 1.4, 0.1], [1.8, 1.0, 2.5, 0.2]], atol=2e-3)


def test_colour_one_by_one_is_colour_in_a_batch():
    group = multi_crop().global_views
    n = 12
    pixels = np.random.default_rng(1).integers(0, 256, (2 * n, SIZE, SIZE, 3), np.uint8)
    uniforms = tf.constant(rng.view_uniforms(5, np.zeros(n, np.int64), np.arange(n), (0, 1), view_ops.COLUMNS))
    planes = augment.to_planes(tf.constant(pixels))
    batch, single = (view_ops.apply_colour(planes, uniforms, group, one_by_one) for one_by_one in (False, True))
    np.testing.assert_array_equal(batch, single)
    assert (batch.numpy() != pixels).mean() > 0.5


def test_policies():
    assert views.policy("bssl", 32, flip=0.25).global_views[1].flip == 0.25
    for name in views.POLICIES:
        assert views.policy(name, 24).global_views[0].size == 24
    digits = views.policy("digits", 16).global_views[0]
    assert (digits.flip, digits.jitter[3], digits.grey_probability, digits.solarise_probability) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="'blur' is not a field.*blur_probability"):
        views.policy("bssl", 32, blur=0.5)
    with pytest.raises(ValueError, match="policy is 'blurry'.*bssl"):
        views.policy("blurry", 32)
    with pytest.raises(ValueError, match=r"flip is 1.5"):
        views.policy("bssl", 32, flip=1.5)


def test_one_view_of_a_policy_has_the_pixels_of_its_first():
    dataset, whole = images_encoded(8), views.policy("s2bnn", SIZE)
    both, one = (next(iter(pipeline.view_batches(dataset, policy, 4, 1))) for policy in (whole, whole.first(1)))
    assert one["global"].shape == (4, 1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(one["global"][:, 0], both["global"][:, 0])
    np.testing.assert_array_equal(one["id"], both["id"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 51}, "batch_size is 51"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 10, "num_shards": 3}, "num_shards is 3"),
        ({"batch_size": 10, "num_shards": 2, "shard": 2}, "shard is 2"),
        ({"batch_size": 10, "start_step": -1}, "start_step is -1"),
        ({"batch_size": 10, "prefetch": 0}, "prefetch is 0: it must be at least 1"),
        ({"batch_size": 10, "cache_bytes": -1}, "cache_bytes is -1: it must be at least 0"),
        ({"batch_size": 10, "max_bad_images": 2.0}, "max_bad_images is 2.0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline.view_batches(images_in_memory(), views.policy("bssl", 8), seed=0, **arguments)


def test_evaluation_image():
    big = Image.fromarray(picture(0, 150, 200))
    assert evaluation_image(big, 56).shape == (56, 56, 3)
    resized = big.resize((85, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(evaluation_image(big, 56), np.asarray(resized)[4:60, 14:70])
    tall = evaluation_image(big.transpose(Image.Transpose.TRANSPOSE), 56)
    # (Pillow resizes rows before columns, and rounds in between.)
    assert np.abs(tall.transpose(1, 0, 2).astype(int) - evaluation_image(big, 56)).max() <= 2
    small = picture(0, 64, 64)
    np.testing.assert_array_equal(evaluation_image(Image.fromarray(small), 64), small)
    assert evaluation_image(Image.fromarray(picture(0, 300, 30)), 32).shape == (32, 32, 3)


def test_image_batches_of_memory():
    dataset = images_in_memory(11)
    batches = list(pipeline.image_batches(dataset, 12, 4))
    assert [len(b["image"]) for b in batches] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), dataset.images)


@pytest.mark.parametrize("source", list(SOURCES))
def test_per_image_pipeline_makes_the_same_kind_of_batches(source):
    if source == "encoded":
        data = [encode(picture(i), "JPEG") for i in range(6)]
        dataset = datasets.ImageDataset("e", "train", 6, None, (), "x", read=lambda i: (data[i], -1))
    else:
        dataset = images_in_memory(6)
    policy = multi_crop()
    ours, theirs = pipeline.view_batches(dataset, policy, 6, 0), per_image.per_image_batches(dataset, policy, 6)
    batch = next(iter(theirs))
    assert batch["global"].shape == ours.element_spec["global"].shape
    assert batch["local"].shape == ours.element_spec["local"].shape
    assert batch["global"].dtype == tf.uint8
    assert sorted(batch["id"].numpy()) == list(range(6))
    assert (batch["global"][:, 0].numpy() != batch["global"][:, 1].numpy()).mean() > 0.5
