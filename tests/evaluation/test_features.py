import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.evaluation import features
from larq_ssl.evaluation.features import Features, extract, holdout
from larq_ssl.models.encoder import Architecture, Encoder, EncoderSpec

SIZE = 8


class Counter(tf.keras.layers.Layer):
    """Counts how often Python traces it and how often the graph runs it."""

    def build(self, input_shape):
        self.traces = 0
        # Not a variable: those are weights, and a weight that changes is another encoder.
        self.runs = 0
        super().build(input_shape)

    def _ran(self):
        self.runs += 1

    def call(self, inputs):
        self.traces += 1
        tf.py_function(self._ran, [], [])
        return inputs


def trunk(images, spec, layers):
    x = layers(tf.keras.layers.Conv2D, "conv", filters=4, kernel_size=3, padding="same")(images)
    x = layers(tf.keras.layers.BatchNormalization, "bn")(x)
    return {"stride4": layers(Counter, "counter")(x)}


def encoder(**spec):
    tf.keras.utils.set_random_seed(0)
    model = Encoder(Architecture(trunk), EncoderSpec("tiny", binarization="none", **spec))
    model.get_layer("counter").traces = 0
    return model


def dataset(count=11, fingerprint="abc", name="made/up"):
    images = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 3
    return ImageDataset(
        name=name,
        split="val",
        size=len(images),
        classes=3,
        class_names=("a", "b", "c"),
        fingerprint=fingerprint,
        targets=labels,
        images=images,
    )


def runs(model):
    return model.get_layer("counter").runs


def test_features_are_those_of_inference_in_order_and_traced_once():
    model, data = encoder(), dataset()
    model.get_layer("bn").moving_mean.assign([0.5, -1.0, 2.0, 0.0])
    done = []
    result = extract(model, data, SIZE, batch_size=4, progress=lambda *p: done.append(p))
    np.testing.assert_allclose(result.features, model(data.images, training=False), rtol=1e-5, atol=1e-6)
    assert result.features.dtype == np.float32
    np.testing.assert_array_equal(result.labels, data.labels())
    np.testing.assert_array_equal(result.ids, np.arange(11))
    assert result.labels.dtype == result.ids.dtype == np.int64
    assert done == [(4, 11), (8, 11), (11, 11)]


def test_the_cache_is_written_and_read_without_a_second_copy(monkeypatch, tmp_path):
    wide = Features(np.ones((2**15, 2**10), np.float32), np.zeros(2**15, np.int64), np.arange(2**15))
    monkeypatch.setattr(features, "_run", lambda *_: wide)
    model, peaks = encoder(), []
    for _ in range(2):
        tracemalloc.start()
        found = extract(model, dataset(), SIZE, cache_dir=tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    np.testing.assert_array_equal(found.features, wide.features)
    # NumPy writes and reads files by buffers of at most 16 MiB.
    assert peaks[0] < wide.features.nbytes / 2
    assert peaks[1] < wide.features.nbytes * 1.5


def test_one_trace_serves_partial_batches_and_later_calls():
    model = encoder()
    for count in (11, 7):
        extract(model, dataset(count), SIZE, batch_size=4)
    assert model.get_layer("counter").traces == 1
    assert runs(model) == 5
    before = extract(model, dataset(), SIZE).features
    model.get_layer("conv").bias.assign(np.ones(4))
    assert not np.allclose(extract(model, dataset(), SIZE).features, before)


def test_compiled_functions_do_not_keep_the_encoder():
    model = encoder()
    extract(model, dataset(), SIZE)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_features_are_float32_under_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    assert extract(encoder(), dataset(), SIZE).features.dtype == np.float32


def test_a_second_call_is_served_from_the_cache(tmp_path):
    model = encoder()
    first = extract(model, dataset(), SIZE, cache_dir=tmp_path)
    count = runs(model)
    second = extract(model, dataset(), SIZE, batch_size=3, cache_dir=tmp_path)
    assert runs(model) == count > 0
    for name in ("features", "labels", "ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert len(list(tmp_path.iterdir())) == 1


def _other_weight(model):
    model.get_layer("conv").bias.assign_add([0, 0, 0, 1e-3])
    return model


def _other_statistics(model):
    model.get_layer("bn").moving_mean.assign_add([0, 0, 0, 1e-3])
    return model


@pytest.mark.parametrize("change", [_other_weight, _other_statistics])
def test_other_weights_miss_the_cache(tmp_path, change):
    model = encoder()
    extract(model, dataset(), SIZE, cache_dir=tmp_path)
    count = runs(model)
    extract(change(model), dataset(), SIZE, cache_dir=tmp_path)
    assert runs(model) == 2 * count


def test_other_preprocessing_data_size_or_precision_miss_the_cache(tmp_path):
    extract(encoder(), dataset(), SIZE, cache_dir=tmp_path)
    extract(encoder(preprocessing="unit"), dataset(), SIZE, cache_dir=tmp_path)
    extract(encoder(), dataset(fingerprint="other"), SIZE, cache_dir=tmp_path)
    extract(encoder(), dataset(), 16, cache_dir=tmp_path)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    extract(encoder(), dataset(), SIZE, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def _truncate(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_byte(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))


def _no_archive(path, other):
    path.write_text("something else")


def _empty(path, other):
    path.write_bytes(b"")


def _other_key(path, other):
    path.write_bytes(other.read_bytes())


def _missing_array(path, other):
    with np.load(path) as arrays:
        np.savez(path, key=arrays["key"], features=arrays["features"], labels=arrays["labels"])


def _fewer_rows(path, other):
    with np.load(path) as arrays:
        np.savez(path, **{name: arrays[name][:5] if name == "features" else arrays[name] for name in arrays.files})


def _pickle(path, other):
    np.savez(path, key=np.array([object()]), features=np.array([{}]))


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip_a_byte, _no_archive, _empty, _other_key, _missing_array, _fewer_rows, _pickle],
)
def test_a_damaged_or_foreign_cache_is_replaced_with_a_warning(tmp_path, damage):
    model = encoder()
    expected = extract(model, dataset(), SIZE, cache_dir=tmp_path / "a").features
    extract(model, dataset(fingerprint="other"), SIZE, cache_dir=tmp_path / "b")
    (path,), (other,) = (list((tmp_path / name).iterdir()) for name in "ab")
    damage(path, other)
    with pytest.warns(UserWarning, match="computed again"):
        again = extract(model, dataset(), SIZE, cache_dir=tmp_path / "a").features
    np.testing.assert_array_equal(again, expected)
    count = runs(model)
    extract(model, dataset(), SIZE, cache_dir=tmp_path / "a")
    assert runs(model) == count


def test_features_that_are_not_finite_are_refused_and_not_cached(tmp_path):
    model = encoder()
    model.get_layer("conv").bias.assign([0, np.nan, 0, 0])
    with pytest.raises(ValueError, match="not finite for 11 of 11.*id 0"):
        extract(model, dataset(), SIZE, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_maps_are_no_features():
    model = encoder().with_outputs("stride4")
    with pytest.raises(ValueError, match=r"`encoder` must map images to \[batch, dim\]"):
        extract(model, dataset(), SIZE)


def test_holdout_is_balanced_complete_and_seeded():
    labels = np.repeat([2, 0, 1], [10, 20, 30])
    train = Features(np.arange(60, dtype=np.float32)[:, None], labels, np.arange(60))
    rest, aside = holdout(train, 4)
    np.testing.assert_array_equal(np.bincount(aside.labels), [4, 4, 4])
    np.testing.assert_array_equal(np.sort(np.concatenate([rest.ids, aside.ids])), np.arange(60))
    np.testing.assert_array_equal(aside.features[:, 0], aside.ids)
    np.testing.assert_array_equal(aside.ids, holdout(train, 4)[1].ids)
    assert set(aside.ids) != set(holdout(train, 4, seed=1)[1].ids)
    with pytest.raises(ValueError, match=r"`per_class`.*\(10\).*got 10"):
        holdout(train, 10)


def test_features_refuse_arrays_that_do_not_belong_together():
    with pytest.raises(ValueError, match="`labels`"):
        Features(np.zeros((3, 2), np.float32), np.zeros(2, np.int64), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="`features`"):
        Features(np.zeros(3, np.float32), np.zeros(3, np.int64), np.zeros(3, np.int64))
