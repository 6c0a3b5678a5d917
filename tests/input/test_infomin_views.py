"""InfoMin's views: published numbers, RandAugment between blur and grey, and patches of a third crop."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data import augment, families, jigsaw, per_image, pipeline, rand_augment, resize, rng, view_ops, views
from larq_ssl.data.blur import gaussian_blur
from larq_ssl.data.jigsaw import Jigsaw
from larq_ssl.data.rand_augment import OPS, RandAugment
from larq_ssl.data.rng import Op
from larq_ssl.data.views import View, ViewPolicy, policy
from tests.input.test_pipeline import SOURCES, assert_same, by_example, images_in_memory

SIZE = 20
INFOMIN = View(
    224,
    crop_scale=(0.2, 1.0),
    ratio=(3 / 4, 4 / 3),
    interpolation="bilinear",
    flip=0.5,
    jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_probability=0.8,
    grey_probability=0.2,
    blur_probability=0.5,
    blur_sigma=(0.1, 2.0),
    solarise_probability=0.0,
    family="torchvision",
    rand_augment=RandAugment(ops=2, magnitude=10.0, deviation=0.5, probability=0.5),
)
# Every op as often as not, so that few examples show all of them.
OFTEN = dataclasses.replace(
    INFOMIN,
    size=SIZE,
    jitter_probability=0.5,
    grey_probability=0.5,
    solarise_probability=0.5,
    rand_augment=RandAugment(ops=3),
)


@pytest.mark.parametrize(
    ("name", "view", "patches"),
    [
        ("infomin", INFOMIN, None),
        ("infomin_jigsaw", INFOMIN, Jigsaw(cell=85, patch=64, crop_scale=(0.6, 1.0), flip=0.5)),
        ("infomin_cifar", dataclasses.replace(INFOMIN, blur_probability=0.0), None),
    ],
)
def test_policy_is_as_published(name, view, patches):
    assert policy(name, 224) == ViewPolicy(name, (view, view), jigsaw=patches)


def test_any_policy_can_have_patches():
    digits = policy("digits", 56)
    changed = digits.with_jigsaw()
    # Not flipped, as its views are not, and in proportion.
    assert changed == dataclasses.replace(digits, jigsaw=Jigsaw(cell=21, patch=16, flip=0.0))
    assert changed.with_jigsaw() == changed
    assert changed.first(2) == digits
    own = dataclasses.replace(digits, jigsaw=Jigsaw(cell=9, patch=8))
    assert own.with_jigsaw() == own
    crop = View(63, (0.6, 1.0), interpolation="bilinear")
    assert changed.groups == {"global": digits.global_views, "patches": (crop,)}
    assert changed.views == (*digits.global_views, crop)


def draws(examples, chosen):
    return rng.view_uniforms(7, np.zeros(examples, np.int64), np.arange(examples), (0, 1), view_ops.columns(chosen))


def by_hand(pixels, row, columns):
    """One view, op after op."""
    u = dict(zip(columns, row, strict=True))
    planes, done = augment.to_planes(tf.constant(pixels[None])), []
    if u[Op.JITTER, 0] < 0.5:
        done.append("jitter")
        middle = np.array([1.0, 1.0, 1.0, 0.0])
        drawn = np.array([u[Op.JITTER, 2 + op] for op in range(4)])
        factors = middle + np.array(OFTEN.jitter) * (2 * drawn - 1)
        order = augment.ORDERS[int(24 * u[Op.JITTER, 1])]
        planes = augment.jitter(planes, tf.constant(order[None]), tf.constant(factors[None], tf.float32))
    if u[Op.BLUR, 0] < 0.5:
        done.append("blur")
        planes = gaussian_blur(planes, tf.constant([0.1 + 1.9 * u[Op.BLUR, 1]], tf.float64), 2.0)
    if u[Op.SOLARISE, 0] < 0.5:
        done.append("solarise")
        planes = augment.solarise(planes)
    for place in range(3):
        one = [u[Op.RAND_AUGMENT, 5 * place + number] for number in range(5)]
        op, number = rand_augment.draw(tf.constant([one], tf.float64), RandAugment(ops=1))
        if int(op[0, 0]) < len(OPS):
            done.append("rand_augment")
            planes = rand_augment.rand_augment(planes, op, number)
    if u[Op.GREY, 0] < 0.5:
        done.append("grey")
        planes = augment.grey(planes)
    return augment.from_planes(planes)[0].numpy(), done


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_view_gets_the_ops_that_it_drew_in_their_order(one_by_one):
    chosen, examples = ViewPolicy("often", (OFTEN, OFTEN)), 20
    uniforms = draws(examples, chosen)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * examples, SIZE, SIZE, 3), np.uint8)
    planes = augment.to_planes(tf.constant(pixels))
    # As in `pipeline`, where autograph is off.
    apply = tf.function(view_ops.apply_colour, autograph=False)
    actual = apply(planes, tf.constant(uniforms), chosen.global_views, one_by_one)
    rows, seen = uniforms.reshape(2 * examples, -1), set()
    for result, image, row in zip(actual.numpy(), pixels, rows, strict=True):
        expected, done = by_hand(image, row, view_ops.columns(chosen))
        np.testing.assert_array_equal(result, expected, err_msg=str(done))
        seen |= set(done)
        if done and done[-1] == "grey":
            assert (result == result[..., :1]).all()
    assert seen == {"jitter", "blur", "solarise", "rand_augment", "grey"}


def test_what_a_policy_has_not_is_not_drawn():
    plain, strong, both = (policy(name, 32) for name in ("moco_v2", "infomin", "infomin_jigsaw"))
    assert view_ops.columns(plain) == view_ops.COLUMNS
    assert view_ops.columns(strong) == (*view_ops.COLUMNS, *RandAugment().columns)
    assert view_ops.columns(both) == (*view_ops.columns(strong), *jigsaw.COLUMNS)
    assert view_ops.columns(plain.with_jigsaw()) == (*view_ops.COLUMNS, *jigsaw.COLUMNS)
    assert len(set(view_ops.columns(both))) == len(view_ops.columns(both))


@pytest.mark.slow
@pytest.mark.parametrize("source", list(SOURCES))
def test_the_same_pixels_whatever_the_batch_size_shards_and_calls(source, monkeypatch):
    dataset, chosen = SOURCES[source](24), policy("infomin_jigsaw", SIZE)
    first = pipeline.view_batches(dataset, chosen, 6, seed=1, boxes=True)
    shapes = {name: (*spec.shape,) for name, spec in first.element_spec.items()}
    assert shapes["patches"] == (6, 9, 8, 8, 3)
    assert shapes["boxes"] == (6, 2, 4)
    expected = by_example(first.take(8))
    assert len(expected) == 48
    wider = {"batch_size": 12, "seed": 1, "boxes": True, "num_shards": 2, "start_step": 2, "parallel_calls": 1}
    shards = [pipeline.view_batches(dataset, chosen, shard=shard, **wider).take(2) for shard in range(2)]
    last = {(0, example): row for (epoch, example), row in expected.items() if epoch == 1}
    assert_same(last, by_example(batch for shard in shards for batch in shard))
    # Chunks of one or two images, ops on one view at a time.
    monkeypatch.setattr(pipeline, "_CHUNK_BYTES", 2 * 12 * (2 * SIZE**2 + 24**2))
    monkeypatch.setattr(view_ops, "_BATCHED_SIDE", 8)
    assert_same(expected, by_example(pipeline.view_batches(dataset, chosen, 6, seed=1, boxes=True).take(8)))


def test_patches_are_of_a_third_crop_that_is_flipped_and_nothing_else():
    dataset, chosen = images_in_memory(16), policy("infomin_jigsaw", SIZE)
    batch = next(iter(pipeline.view_batches(dataset, chosen, 16, seed=3)))
    ids = batch["id"].numpy()
    columns = view_ops.columns(chosen)
    uniforms = rng.view_uniforms(3, np.zeros(16, np.int64), ids, (2,), columns)
    sides = np.full(16, 12)
    crop = (chosen.views[-1],)
    boxes = families.crop_boxes(uniforms, sides, sides, crop)
    assert boxes[..., 2:].min() >= 7
    flips = uniforms[..., columns.index((Op.FLIP, 0))] < 0.5
    assert {True, False} == set(flips.ravel())
    images = tf.gather(dataset.images, ids)
    planes = resize.crop_resize(images, tf.constant(boxes), tf.constant(flips), chosen.jigsaw.size, "bilinear")
    crops = augment.from_planes(planes)
    places = [columns.index(column) for column in jigsaw.COLUMNS]
    expected = jigsaw.cut(crops, tf.constant(uniforms[:, 0, places]), chosen.jigsaw)
    np.testing.assert_array_equal(batch["patches"], expected)


def test_views_are_the_same_with_patches_and_without():
    dataset = images_in_memory(8)
    both, one = (
        next(iter(pipeline.view_batches(dataset, policy(name, SIZE), 8, seed=1)))
        for name in ("infomin_jigsaw", "infomin")
    )
    np.testing.assert_array_equal(both["global"], one["global"])
    assert "patches" not in one


def test_views_patches_and_epochs_differ():
    dataset, chosen = images_in_memory(12), policy("infomin_jigsaw", SIZE)
    epochs = by_example(pipeline.view_batches(dataset, chosen, 12, seed=1).take(2))
    for example in range(12):
        first, second = (epochs[epoch, example] for epoch in (0, 1))
        assert (first["global"][0] != first["global"][1]).any()
        for name in ("global", "patches"):
            assert (first[name] != second[name]).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(OFTEN, size=7), "size is 7: it must be at least 8 with RandAugment"),
        (
            lambda: views.policy("byol", 32, rand_augment=RandAugment()),
            r"rand_augment is RandAugment\(.*\): family 'byol' has none",
        ),
        (
            lambda: ViewPolicy("two", (OFTEN, dataclasses.replace(OFTEN, rand_augment=None))),
            "rand_augment differs: all views of a policy must have the same",
        ),
        (
            lambda: policy("simclr", 32).with_jigsaw(),
            "jigsaw is .*: its crops are torchvision's, those of simclr are not",
        ),
        (
            lambda: per_image.per_image_batches(images_in_memory(), policy("infomin", 32), 4),
            "policy is 'infomin': image by image there is neither RandAugment nor a jigsaw",
        ),
        (
            lambda: per_image.per_image_batches(images_in_memory(), policy("bssl", 32).with_jigsaw(), 4),
            "policy is 'bssl': image by image there is neither",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
