"""First and last layers in 8 bits: they round as integers do, and are shipped only where the audit passes."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import export
from larq_ssl.export import choosing, int8
from larq_ssl.heads import linear_classifier, mlp_head
from tests.export.networks import binary, photos

pytest.importorskip("larq_compute_engine")

SIZE = 8


@functools.cache
def product() -> export.Product:
    encoder = binary()
    return export.make_product(encoder, SIZE, linear_classifier("head", encoder.feature_dim, 3, "normal_0.02"))


def test_the_batch_norm_of_the_stem_is_folded():
    trial = int8.quantised(product(), ("first",), photos(16, SIZE))
    conv = trial.encoder.get_layer("stem/conv")
    # What pixels can be at most, not what these images show.
    low, high = conv.input_range
    shown = tf.keras.Model(product().encoder.inputs, product().encoder.get_layer("stem/conv").input)
    np.testing.assert_allclose(
        [low, high],
        [shown(np.zeros([1, SIZE, SIZE, 3])).numpy().min(), shown(np.full([1, SIZE, SIZE, 3], 255.0)).numpy().max()],
        rtol=1e-5,
    )
    assert isinstance(conv, int8.Int8Conv)
    assert type(trial.encoder.get_layer("stem/bn")) is tf.keras.layers.Activation
    images = photos(4, SIZE)
    plain = tf.keras.Model(product().reference.inputs, product().reference.get_layer("stem/bn").output)(images)
    rounded = tf.keras.Model(trial.encoder.inputs, conv.output)(images)
    quantum = (conv.output_range[1] - conv.output_range[0]) / 255
    difference = np.abs(plain - rounded)
    assert 0 < difference.max() < 6 * quantum
    assert len(np.unique(np.round(rounded / quantum))) <= 256


def test_dense_layers_round_to_steps_of_their_ranges():
    head = mlp_head("two", 16, [8], 3, "batch", kernel_initializer="pytorch")
    features = np.random.default_rng(0).normal(size=[50, 16]).astype(np.float32)
    trial = int8._int8_head(head, features)
    assert [type(layer) for layer in trial.layers if layer.weights][::2] == [int8.Int8Dense] * 2
    given, expected = trial(features).numpy(), head(features).numpy()
    low, high = trial.layers[-1].output_range
    quantum = (high - low) / 255
    assert 0 < np.abs(given - expected).max() < 8 * quantum
    np.testing.assert_allclose(given / quantum, np.round(given / quantum), atol=1e-3)


def test_heads_behind_each_other_may_have_layers_of_the_same_name():
    dim = product().encoder.feature_dim
    first, second = mlp_head("first", dim, [], 8, "batch"), mlp_head("second", 8, [], 3, "batch")
    assert {layer.name for layer in first.layers} & {layer.name for layer in second.layers}
    nested = tf.keras.Sequential([tf.keras.Input([dim]), first, second])
    both = export.make_product(binary(), SIZE, nested).head
    features = np.random.default_rng(0).normal(size=[50, dim]).astype(np.float32)
    trial = int8._int8_head(both, features)
    assert sum(isinstance(layer, int8.Int8Dense) for layer in trial.layers) == 2
    low, high = trial.layers[-1].output_range
    assert np.abs(trial(features) - both(features)).max() < 8 * (high - low) / 255


def test_the_file_computes_what_keras_computes_in_8_bits():
    images = photos(16, SIZE)
    trial = int8.quantised(product(), ("last",), images)
    content = export.packed_file(trial)
    operations = export.LiteFile(content).histogram()
    assert (operations["QUANTIZE"], operations["DEQUANTIZE"]) == (1, 1)
    (given,) = export.run(content, [images])
    low, high = trial.exported_head.layers[-1].output_range
    # One step, where the sum of a rounding lies in the middle of two.
    assert np.abs(given - trial(images)).max() <= 1.01 * (high - low) / 255


@pytest.mark.slow
def test_8_bits_are_shipped_where_the_audit_passes(monkeypatch):
    images = export.AuditImages(photos(16, SIZE))
    content, found, told = choosing.choose(product(), images)
    assert set(told) == {"last", "first"}
    assert told["last"] == "int8"
    assert found["operations"]["QUANTIZE"] >= 1
    assert export.problems(found) == []
    plain, found, told = choosing.choose(product(), images, with_int8=False)
    assert told == dict.fromkeys(int8.PARTS, "float32: 8 bits were not wanted")
    assert "QUANTIZE" not in found["operations"]
    assert plain != content
    few, _, told = choosing.choose(product(), export.AuditImages(photos(15, SIZE)))
    assert few == plain
    assert told == dict.fromkeys(int8.PARTS, "float32: to judge 8 bits takes 16 images, and there are 15")
    seen = []
    quantised = choosing.quantised
    monkeypatch.setattr(choosing, "quantised", lambda *words: (seen.append(words[-1]), quantised(*words))[1])
    choosing.choose(product(), export.AuditImages(images.images, calibration=photos(20, SIZE, seed=7)))
    assert all(np.array_equal(ranges, photos(20, SIZE, seed=7)) for ranges in seen)
    monkeypatch.setattr(choosing, "disagreements", lambda *_: ["top1 agreement is 0.9."])
    other, _, told = choosing.choose(product(), images)
    assert other == plain
    assert told["last"] == "float32: in 8 bits, top1 agreement is 0.9."


@pytest.mark.parametrize(
    ("altered", "told"),
    [
        ({"operations": {}}, "Larq Compute Engine converts none of it."),
        ({"not_packed": ["conv"]}, "binary layers are not packed."),
        (
            {"equal_inputs": {"default": {"max": 0.5, "layers": {"conv": 0.5}}}},
            "a layer differs from Keras by 0.5 on equal inputs, more than 0.0001.",
        ),
        ({"end_to_end": {"knn_agreement": 0.9}}, "knn agreement is 0.900, below 0.98."),
        ({"end_to_end": {"top1_agreement": 0.9}}, "top1 agreement is 0.900, below 0.98."),
        ({"end_to_end": {"centred_cosine": 0.9}}, "centred cosine is 0.900, below 0.98."),
    ],
)
def test_8_bits_that_fail_the_audit_are_not_shipped(monkeypatch, altered, told):
    """Each reason by itself: the audit of the file with 8 bits is altered, that of the one in float32 is not."""
    agreed = dict.fromkeys(("knn_agreement", "top1_agreement", "centred_cosine"), 1.0)

    def audit(content, of, images):
        found = {
            "operations": {"QUANTIZE": len(of.int8)},
            "binary_layers": 1,
            "not_packed": [],
            "tolerance": 1e-4,
            "equal_inputs": {},
            "end_to_end": agreed,
        }
        return found | (altered if of.int8 else {})

    monkeypatch.setattr(choosing, "audit", audit)
    monkeypatch.setattr(choosing, "packed_file", lambda of: f"with {of.int8}")
    content, _, states = choosing.choose(product(), export.AuditImages(photos(16, SIZE)))
    assert (content, states["last"]) == ("with ()", f"float32: in 8 bits, {told}")


def test_what_is_not_there_stays_as_it_is():
    features_alone = export.make_product(binary(), SIZE)
    with pytest.raises(ValueError, match="there is no such layer"):
        int8.quantised(features_alone, ("last",), photos(4, SIZE))


def test_disagreement_is_told():
    before = {"end_to_end": {"centred_cosine": 0.999, "top1_agreement": 0.97}}
    after = {"end_to_end": {"centred_cosine": 0.95, "top1_agreement": 0.97}}
    assert choosing.disagreements(before, before) == []
    assert choosing.disagreements(after, before) == ["centred cosine is 0.950, below 0.98."]
    before = {"end_to_end": {"file_top1": 0.75, "keras_top1": 0.75}}
    assert choosing.disagreements({"end_to_end": {"file_top1": 0.746, "keras_top1": 0.75}}, before) == []
    for file in (0.744, 0.756):
        after = {"end_to_end": {"file_top1": file, "keras_top1": 0.75}}
        assert choosing.disagreements(after, before) == [f"top 1 is {file}, that of Keras 0.750."]
        assert choosing.disagreements(after, after) == []


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_networks_of_other_precisions_are_converted_in_float32(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    encoder = binary()
    head = mlp_head("head", encoder.feature_dim, [8], 3, "batch")
    trained = export.make_product(encoder, SIZE, head)
    content, found, told = choosing.choose(trained, export.AuditImages(photos(16, SIZE)))
    tf.keras.mixed_precision.set_global_policy("float32")
    assert told["last"].startswith(("int8", "float32: in 8 bits, top1 agreement"))  # random classes lie close together
    assert export.problems(found) == []
    for product_head in (trained.head, int8.quantised(trained, ("last",), photos(4, SIZE)).exported_head):
        assert {layer.compute_dtype for layer in product_head.layers} == {"float32"}
    (scores,) = export.run(content, [photos(16, SIZE)])
    assert scores.dtype == np.float32
