"""What holds of crops, policies, orders, splits and choices of labels, whatever their numbers are (by Hypothesis)."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from larq_ssl.data import rng
from larq_ssl.data.crops import COLUMNS, crop_boxes
from larq_ssl.data.crops_tf import byol_boxes, simclr_boxes
from larq_ssl.data.datasets import ImageDataset, split_indices
from larq_ssl.data.label_subsets import balanced_labels, known_share, read_labels
from larq_ssl.data.view_policy import View
from larq_ssl.data.views import POLICIES, policy

# The same examples each time: what fails here fails everywhere.
settings.register_profile("larq_ssl", deadline=None, derandomize=True, database=None, max_examples=100)
settings.load_profile("larq_ssl")

SIDES = st.integers(1, 5000)
SEEDS = st.integers(0, 2**31 - 1)
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(lambda found: np.array(found, np.int64))


@st.composite
def draws(draw, views: int = 1) -> np.ndarray:
    """Numbers in [0, 1), often at its ends."""
    number = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))
    found = draw(st.lists(number, min_size=views * len(COLUMNS), max_size=views * len(COLUMNS)))
    return np.array(found).reshape(1, views, len(COLUMNS))


@st.composite
def pairs(draw, low: float, high: float) -> tuple[float, float]:
    first, second = draw(st.floats(low, high)), draw(st.floats(low, high))
    return min(first, second), max(first, second)


def dataset(labels: np.ndarray, classes: int) -> ImageDataset:
    names = tuple(str(number) for number in range(classes))
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    return ImageDataset("toy", "train", len(labels), classes, names, "toy", targets=labels, images=images)


@pytest.mark.parametrize("boxes", [crop_boxes, simclr_boxes, byol_boxes])
@given(SIDES, SIDES, draws(), pairs(1e-4, 1.0), pairs(0.05, 20.0))
def test_a_crop_lies_in_its_image(boxes, height, width, uniforms, scale, ratio):
    view = View(size=8, crop_scale=scale, ratio=ratio)
    ((box,),) = boxes(uniforms, np.array([height]), np.array([width]), (view,))
    top, left, rows, columns = (int(number) for number in box)
    assert rows >= 1
    assert columns >= 1
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - columns


@pytest.mark.parametrize("boxes", [crop_boxes, simclr_boxes, byol_boxes])
@given(SIDES, SIDES, draws())
def test_a_view_without_a_crop_is_the_whole_image(boxes, height, width, uniforms):
    ((box,),) = boxes(uniforms, np.array([height]), np.array([width]), (View(size=8, crop_scale=None),))
    assert box.tolist() == [0, 0, height, width]


@pytest.mark.parametrize("boxes", [crop_boxes, simclr_boxes, byol_boxes])
@settings(max_examples=25)
@given(SIDES, SIDES, draws(views=2), pairs(0.01, 1.0))
def test_the_crops_of_a_view_do_not_depend_on_the_other_views(boxes, height, width, uniforms, scale):
    views = (View(size=8, crop_scale=scale), View(size=8, crop_scale=(0.3, 0.9)))
    sides = np.array([height]), np.array([width])
    both = boxes(uniforms, *sides, views)
    np.testing.assert_array_equal(both[:, :1], boxes(uniforms[:, :1], *sides, views[:1]))


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1), st.just(0.0))


@given(
    st.sampled_from(sorted(POLICIES)), st.integers(1, 300), NUMBERS, NUMBERS, st.none() | st.integers(-2, 200),
    st.none() | st.integers(-2, 9),
)  # fmt: skip
def test_a_policy_is_refused_or_has_sound_views(name, size, smallest_global, largest_local, local_size, local_views):
    try:
        made = policy(
            name,
            size,
            smallest_global=smallest_global,
            largest_local=largest_local,
            local_size=local_size,
            local_views=local_views,
        )
    except ValueError as error:
        told = str(error)
        assert len(told.splitlines()) == 1
        return
    assert len(made.global_views) >= 1
    assert len(made.local_views) == (len(made.local_views) if local_views is None else local_views)
    for view in made.views:
        low, high = view.crop_scale or (1.0, 1.0)
        assert 0 < low <= high <= 1
        assert view.size >= 1
        assert dataclasses.replace(view) == view


@settings(max_examples=30)
@given(st.integers(1, 700), SEEDS, st.integers(0, 10_000))
def test_an_epoch_shows_every_image_once(size, seed, epoch):
    order = rng.shuffled(tf.range(size, dtype=tf.int64), seed, tf.fill([size], tf.constant(epoch, tf.int64)), size)
    assert sorted(order.numpy().tolist()) == list(range(size))


@given(LABELS, st.data(), SEEDS)
def test_a_split_loses_and_doubles_nothing_and_has_each_class_in_proportion(labels, data, seed):
    count = data.draw(st.integers(0, len(labels)))
    train, val = split_indices(labels, count, seed)
    assert len(val) == count
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(val) > 0)
    again = split_indices(labels, count, seed)
    np.testing.assert_array_equal(again[1], val)
    classes, sizes = np.unique(labels, return_counts=True)
    held = np.array([np.sum(labels[val] == number) for number in classes])
    # One image more or less for each class, which is rounded.
    assert np.all(np.abs(held - sizes * count / len(labels)) <= len(classes) / 2 + 1)


@given(LABELS, st.integers(1, 12), SEEDS)
def test_as_many_of_each_class_keep_their_label(labels, per_class, seed):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    classes = int(labels.max()) + 1
    of = dataset(labels, classes)
    if per_class > np.bincount(labels).min():
        with pytest.raises(ValueError, match=rf"per_class is {per_class}: it must lie in \[1, "):
            balanced_labels(of, per_class=per_class, seed=seed)
        return
    chosen = balanced_labels(of, per_class=per_class, seed=seed)
    assert np.bincount(labels[chosen.ids], minlength=classes).tolist() == [per_class] * classes
    smaller = balanced_labels(of, per_class=max(per_class - 1, 1), seed=seed)
    assert set(smaller.ids) <= set(chosen.ids)
    hidden = chosen.hide_others(of).labels()
    np.testing.assert_array_equal(np.flatnonzero(hidden >= 0), chosen.ids)


@given(LABELS, st.floats(0.01, 1.0), SEEDS)
def test_a_share_of_the_labels_is_a_share(labels, fraction, seed):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    of = dataset(labels, int(labels.max()) + 1)
    wanted = int(np.floor(fraction * len(labels) + 1e-6))
    if fraction < 1 and wanted < of.class_count():
        with pytest.raises(ValueError, match="fraction is"):
            balanced_labels(of, fraction, seed=seed)
        return
    chosen = balanced_labels(of, fraction, seed=seed)
    assert len(chosen.ids) == wanted
    assert known_share(chosen.origin) == pytest.approx(fraction, rel=1e-4)
    # As equal as the sizes of the classes allow: only one that is exhausted has fewer than another has but one.
    kept, there = np.bincount(labels[chosen.ids], minlength=of.class_count()), np.bincount(labels)
    assert np.all((kept == there) | (kept >= kept.max() - 1))


@settings(max_examples=40)
@given(LABELS, SEEDS)
def test_a_choice_of_labels_survives_its_file(tmp_path_factory, labels, seed):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    of = dataset(labels, int(labels.max()) + 1)
    chosen = balanced_labels(of, per_class=1, seed=seed)
    file = tmp_path_factory.mktemp("labels") / "labels.json"
    file.write_text(chosen.to_json())
    read = read_labels(file)
    np.testing.assert_array_equal(read.ids, chosen.ids)
    assert (read.data, read.origin, read.fingerprint) == (chosen.data, chosen.origin, chosen.fingerprint)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@settings(max_examples=150)
@given(
    st.fixed_dictionaries({"format": st.just("larq_ssl labels, version 1"), "ids": JSON, "data": JSON, "origin": JSON})
)
def test_a_file_of_labels_of_anything_is_refused_or_ascends(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("labels") / "labels.json"
    file.write_text(json.dumps(content))
    try:
        read = read_labels(file)
    except ValueError as error:
        told = str(error)
        assert "is not a file of labels" in told
        return
    assume(len(read.ids) > 1)
    assert np.all(np.diff(read.ids) > 0)
