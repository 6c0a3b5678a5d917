"""Views of the SimCLR and BYOL families: each op that was drawn, by both ways of making them; repeatable and random."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import augment, augment_tf, datasets, families, per_image, pipeline, rng, view_ops, views
from larq_ssl.data.decode import decode
from larq_ssl.data.reader import evaluation_image
from larq_ssl.data.rng import Op
from larq_ssl.data.view_policy import FAMILIES
from larq_ssl.data.views import View, ViewPolicy
from tests.input.test_datasets import encode
from tests.input.test_pipeline import SOURCES, assert_same, by_example
from tests.input.test_view_ops import column

SIZE = 24
JITTER = (0.4, 0.3, 0.2, 0.1)
OTHERS = ("simclr", "byol")


def view_of(family, **changes):
    view = View(
        SIZE,
        crop_scale=(0.1, 1.0),
        flip=0.5,
        jitter=JITTER,
        jitter_probability=0.5,
        grey_probability=0.4,
        blur_probability=0.6,
        blur_sigma=(0.5, 1.5),
        solarise_probability=0.3,
        family=family,
    )
    return dataclasses.replace(view, **changes)


def policy_of(family):
    """Every op, global views that differ, and local views."""
    local = view_of(family, size=12, crop_scale=(0.1, 0.4))
    return ViewPolicy("every", (view_of(family), view_of(family, flip=0.0, blur_probability=0.1)), (local,) * 2)


@pytest.fixture(params=OTHERS)
def family(request):
    return request.param


def draws(examples, numbers=(0,)):
    return rng.view_uniforms(7, np.zeros(examples, np.int64), np.arange(examples), numbers, view_ops.COLUMNS)


def by_hand(pixels, uniforms, family):
    """One view, op after op."""
    planes, done = tf.constant(pixels[None].transpose(3, 0, 1, 2) / np.float32(255.0)), []
    if column(uniforms, Op.JITTER) < 0.5:
        done.append("jitter")
        added = family == "byol"
        brightness = augment_tf.added_brightness if added else augment_tf.brightness
        ops = (brightness, augment_tf.contrast, augment_tf.saturation, augment_tf.hue)
        for op in augment.ORDERS[int(24 * column(uniforms, Op.JITTER, 1))]:
            middle = 0.0 if op == 3 or (added and op == 0) else 1.0
            factor = middle + JITTER[op] * (2 * column(uniforms, Op.JITTER, 2 + op) - 1)
            planes = tf.clip_by_value(ops[op](planes, tf.constant([factor], tf.float32)), 0.0, 1.0)
    if column(uniforms, Op.GREY) < 0.4:
        done.append("grey")
        planes = augment_tf.grey(planes)
    if column(uniforms, Op.BLUR) < 0.6:
        done.append("blur")
        planes = augment_tf.gaussian_blur(planes, tf.constant([0.5 + column(uniforms, Op.BLUR, 1)]), 3)
    if column(uniforms, Op.SOLARISE) < 0.3:
        done.append("solarise")
        planes = augment_tf.solarise(planes)
    return np.rint(np.clip(planes.numpy()[:, 0].transpose(1, 2, 0), 0, 1) * 255), done


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_view_gets_the_ops_that_it_drew_in_their_order(one_by_one, family):
    examples = 24
    uniforms, group = draws(examples, (0, 1)), (view_of(family),) * 2
    pixels = np.random.default_rng(0).integers(0, 256, (examples * 2, SIZE, SIZE, 3), np.uint8)
    actual = view_ops.apply_colour(augment.to_planes(tf.constant(pixels)), tf.constant(uniforms), group, one_by_one)
    assert actual.dtype == tf.uint8
    seen = {}
    for result, image, row in zip(actual.numpy(), pixels, uniforms.reshape(examples * 2, -1), strict=True):
        expected, done = by_hand(image, row, family)
        difference = np.abs(result - expected)
        # A number that is just at a half, or at the threshold of solarising, falls to either side.
        assert np.mean(difference > 0) < 1e-3, done
        seen.setdefault(tuple(done), []).append(not np.array_equal(result, image))
    for op in ("jitter", "grey", "blur", "solarise"):
        assert {op in done for done in seen} == {True, False}
    assert all(all(changed) for done, changed in seen.items() if done)
    assert not any(seen[()])


def test_brightness_is_a_factor_or_added(family):
    uniforms = tf.constant(draws(4000))
    # Factors above 0 alone; what is added may be anything up to the whole range.
    strong = (view_of(family, jitter=(1.2, 0.8, 1.2, 0.2)),)
    _, _, factors = view_ops.jitter_parameters(uniforms, strong)
    low, high = np.min(factors[:, 0], axis=0), np.max(factors[:, 0], axis=0)
    np.testing.assert_allclose(low, [-1.0 if family == "byol" else 0.0, 0.2, 0.0, -0.2], atol=2e-3)
    np.testing.assert_allclose(high, [1.2 if family == "byol" else 2.2, 1.8, 2.2, 0.2], atol=2e-3)


@pytest.mark.parametrize("source", list(SOURCES))
def test_the_same_pixels_whatever_the_batch_size_shards_and_calls(source, family, monkeypatch):
    dataset, policy = SOURCES[source](24), policy_of(family)
    expected = by_example(pipeline.view_batches(dataset, policy, 6, seed=1, boxes=True).take(8))
    assert len(expected) == 48
    wider = {"batch_size": 12, "seed": 1, "boxes": True, "num_shards": 2, "start_step": 2, "parallel_calls": 1}
    shards = [pipeline.view_batches(dataset, policy, shard=shard, **wider).take(2) for shard in range(2)]
    last = {(0, example): row for (epoch, example), row in expected.items() if epoch == 1}
    assert_same(last, by_example(batch for shard in shards for batch in shard))
    # Chunks of one or three images, ops on one view at a time.
    monkeypatch.setattr(pipeline, "_CHUNK_BYTES", 3 * 12 * (2 * SIZE**2 + 2 * 12**2))
    monkeypatch.setattr(view_ops, "_BATCHED_SIDE", 16)
    assert_same(expected, by_example(pipeline.view_batches(dataset, policy, 6, seed=1, boxes=True).take(8)))


def test_views_epochs_seeds_and_families_differ(family):
    dataset, policy = SOURCES["encoded"](12), ViewPolicy("two", (view_of(family),) * 2)
    first, second = (by_example(pipeline.view_batches(dataset, policy, 12, seed=s).take(2)) for s in (1, 2))
    others = [
        by_example(pipeline.view_batches(dataset, ViewPolicy("two", (view_of(other),) * 2), 12, seed=1).take(1))
        for other in FAMILIES
        if other != family
    ]
    for example in range(12):
        one, two = first[0, example]["global"]
        for other in (two, first[1, example]["global"][0], second[0, example]["global"][0]):
            assert (one != other).any()
    for other in others:
        assert np.mean([(first[0, i]["global"] != other[0, i]["global"]).any() for i in range(12)]) > 0.8


def test_memory_and_encoded_images_are_cut_alike(family):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), np.uint8)
    labels = np.zeros(16, np.int64)
    memory = datasets.ImageDataset("m", "train", 16, None, (), "x", targets=labels, images=pixels)
    data = [encode(image) for image in pixels]
    encoded = datasets.ImageDataset("e", "train", 16, None, (), "x", read=lambda i: (data[i], -1))
    policy = ViewPolicy("crops", (View(SIZE, (0.1, 1.0), flip=0.5, family=family),))
    one, other = (next(iter(pipeline.view_batches(d, policy, 16, 0, boxes=True))) for d in (memory, encoded))
    np.testing.assert_array_equal(one["boxes"], other["boxes"])
    difference = np.abs(one["global"].numpy().astype(int) - other["global"].numpy())
    # One of thousands is just at a half.
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def test_a_view_shows_its_box_without_antialiasing(family):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 60, 60, 3), np.uint8)
    dataset = datasets.ImageDataset("m", "train", 8, None, (), "x", targets=np.zeros(8, np.int64), images=pixels)
    policy = ViewPolicy("crops", (View(SIZE, (0.1, 1.0), family=family),))
    batch = next(iter(pipeline.view_batches(dataset, policy, 8, 0, boxes=True)))
    for example, box, shown in zip(batch["id"].numpy(), batch["boxes"][:, 0], batch["global"][:, 0], strict=True):
        top, left, height, width = box.numpy()
        crop = pixels[example, top : top + height, left : left + width]
        expected = tf.clip_by_value(tf.image.resize(crop, (SIZE, SIZE), "bicubic"), 0, 255)
        assert np.abs(shown.numpy() - expected.numpy()).max() < 0.51


def test_what_a_family_cannot_do_is_refused(family):
    with pytest.raises(ValueError, match=f"policy is 'every', of family '{family}'"):
        per_image.per_image_batches(SOURCES["memory"](4), policy_of(family), 2)
    with pytest.raises(ValueError, match=f"interpolation is 'bilinear': family '{family}' has only 'bicubic'"):
        view_of(family, interpolation="bilinear")
    mixed = (view_of(family), view_of("torchvision"))
    for groups in ((mixed, ()), (mixed[:1], mixed[1:])):
        with pytest.raises(ValueError, match=f"family is {family} and torchvision: all views of a policy"):
            ViewPolicy("mixed", *groups)


def test_image_batches_follow_a_protocol():
    dataset = SOURCES["encoded"](5)
    (batch,) = pipeline.image_batches(dataset, SIZE, 5, protocol="simclr")
    for image, example in zip(batch["image"].numpy(), batch["id"].numpy(), strict=True):
        np.testing.assert_array_equal(image, evaluation_image(decode(dataset.encoded(example)[0]), SIZE, "simclr"))
    (other,) = pipeline.image_batches(dataset, SIZE, 5)
    assert np.mean(other["image"].numpy() != batch["image"].numpy()) > 0.5
    with pytest.raises(ValueError, match=r"protocol is 'byol'.*torchvision"):
        pipeline.image_batches(dataset, SIZE, 5, protocol="byol")


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"family is 'swav': it must be one of .*simclr"):
        view_of("swav")
    with pytest.raises(ValueError, match=r"crop_scale is \(0.01, 0.09\): family 'simclr' draws crops of less than 0.1"):
        view_of("simclr", crop_scale=(0.01, 0.09))
    assert view_of("byol", crop_scale=(0.01, 0.09)).crop_scale == (0.01, 0.09)
    assert families.family_of(policy_of("simclr").global_views) is not families.family_of([view_of("byol")])
    assert views.policy("moco_v2", 32).global_views[0].family == "torchvision"
