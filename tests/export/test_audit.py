"""The audit finds all binary layers of a right file, and names what is wrong with a wrong one."""

import collections
import functools
import types

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from larq_ssl import export, models
from larq_ssl.evaluation.features import Features
from larq_ssl.export import agreement, packing, parity
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.small_maps import SmallMapConv
from larq_ssl.heads import linear_classifier
from larq_ssl.layers import UnitRows
from tests.export.networks import binary, photos

pytest.importorskip("larq_compute_engine")

SIZE = 8
LAYERS = ["stage1/block1/conv", "stage2/block1/conv", "stage3/block1/conv"]


@functools.cache
def short() -> tuple[export.Product, bytes]:
    """A product with a classifier, and its file."""
    encoder = binary()
    product = export.make_product(encoder, SIZE, linear_classifier("head", encoder.feature_dim, 3))
    return product, export.packed_file(product)


def images(count=6, bank=False) -> export.AuditImages:
    if not bank:
        return export.AuditImages(photos(count, SIZE), np.arange(count) % 3)
    product, _ = short()
    features = product.encode(photos(40, SIZE, seed=1)).numpy()
    return export.AuditImages(
        photos(count, SIZE), np.arange(count) % 3, Features(features, np.arange(40) % 3, np.arange(40))
    )


def altered(content: bytes, tensor: int, change) -> bytes:
    """A file with other numbers in one constant."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(content), 0))
    buffer = model.buffers[model.subgraphs[0].tensors[tensor].buffer]
    numbers = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), np.float32)
    buffer.data = np.frombuffer(np.asarray(change(numbers), np.float32).tobytes(), np.uint8)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def audited(product, content, count=6):
    found = export.audit(content, product, images(count))
    return found, export.problems(found)


def test_all_binary_layers_are_packed_and_compute_what_keras_computes():
    product, content = short()
    found = export.audit(content, product, images(12, bank=True))
    assert export.problems(found) == []
    assert (found["binary_layers"], found["packed_layers"], found["not_packed"]) == (3, 3, [])
    assert found["operations"] == LiteFile(content).histogram()
    assert found["operations"]["LceBconv2d"] == found["operations"]["LceQuantize"] == found["operations"]["PRELU"] == 3
    assert found["operations"]["FULLY_CONNECTED"] == found["operations"]["MEAN"] == 1
    for kernels in ("default", "indirect"):
        errors = found["equal_inputs"][kernels]["layers"]
        assert list(errors) == [f"before {LAYERS[0]}", *LAYERS, "class scores"]
        assert found["equal_inputs"][kernels]["max"] == max(errors.values()) <= 1e-5
    assert found["end_to_end"]["images"] == 12
    names = ("centred_cosine", "nearest_agreement", "knn_agreement", "top1_agreement")
    assert all(found["end_to_end"][name] > 0.9 for name in names)
    assert found["end_to_end"]["file_top1"] == pytest.approx(found["end_to_end"]["keras_top1"], abs=0.1)
    assert list(found["flips"]["layers"]) == LAYERS
    assert found["size"]["file_bytes"] == len(content)
    of_head = 4 * 3 * (product.encoder.feature_dim + 1)
    assert found["size"]["larq_bytes"] == models.cost(product.reference, SIZE).size_bytes + of_head
    # 8, 8 and 16 channels in words of 32 bits.
    assert found["wasted_bits"] == dict(zip(LAYERS, (0.75, 0.75, 0.5), strict=True))


@pytest.mark.parametrize(
    ("name", "size", "arguments", "layers"),
    [
        ("reactnet_short", 16, {"rotate_input": True, "stem": "imagenet"}, 3),
        # With maps of 2x2 and 1x1, at which the fast kernels would be wrong.
        ("reactnet_a_burn", 8, {}, 31),
    ],
)
def test_other_networks_pass_too(name, size, arguments, layers):
    product = export.make_product(binary(name, **arguments), size, pixels="float32")
    found = export.audit(export.packed_file(product), product, export.AuditImages(photos(4, size)))
    assert export.problems(found) == []
    assert found["packed_layers"] == found["binary_layers"] == layers
    others = {f"before {product.encoder.binary_layers[0].name}", *(["features"] if "burn" in name else [])}
    assert len(found["equal_inputs"]["default"]["layers"]) == layers + len(others)
    assert others <= found["equal_inputs"]["default"]["layers"].keys()
    assert found["operations"].get("REVERSE_V2", 0) == ("rotate_input" in arguments)
    assert "CAST" not in found["operations"]


def test_a_layer_that_is_not_packed_is_named():
    encoder = binary()
    product = export.make_product(encoder, SIZE)
    layer = product.encoder.get_layer(LAYERS[1])
    layer.kernel.assign(np.random.default_rng(0).normal(size=layer.kernel.shape))
    found, wrong = audited(product, export.packed_file(product))
    assert (found["packed_layers"], found["not_packed"]) == (2, [LAYERS[1]])
    assert wrong == ["1 of 3 binary layers are not packed by Larq Compute Engine: stage2/block1/conv."]
    assert "equal_inputs" not in found


def test_a_layer_that_computes_something_else_is_named():
    product, content = short()
    gamma = product.reference.get_layer("stage2/block1/bn").gamma
    before = gamma.numpy()
    try:
        gamma.assign(before * 1.01)
        found, wrong = audited(product, content)
    finally:
        gamma.assign(before)
    assert len(wrong) == 2
    assert "from stage2/block1/conv on, with the default kernels" in wrong[0]
    assert found["equal_inputs"]["default"]["layers"][LAYERS[0]] < 1e-5


@pytest.mark.parametrize("change", [np.flip, np.zeros_like, lambda numbers: numbers * 1.001])
def test_a_wrong_classifier_is_found(change):
    product, content = short()
    file = LiteFile(content)
    dense = next(part for part in file.operations if part.name == "FULLY_CONNECTED")
    _, wrong = audited(product, altered(content, dense.inputs[1], change))
    assert len(wrong) == 2
    assert "from class scores on" in wrong[0]


def test_a_wrong_beginning_is_found():
    """What comes before the first binary layer: its threshold, and the stem."""
    product, content = short()
    file = LiteFile(content)
    stem = next(part for part in file.operations if part.name == "CONV_2D")
    first = next(part for part in file.operations if part.name == "LceQuantize")
    threshold = file.producer(first.inputs[0])
    for part in (stem, threshold):
        bias = part.inputs[2 if part is stem else 1]
        _, wrong = audited(product, altered(content, bias, lambda numbers: numbers + 0.01))
        assert f"from before {LAYERS[0]} on" in wrong[0]


def test_small_differences_count():
    product, content = short()
    file = LiteFile(content)
    dense = next(part for part in file.operations if part.name == "FULLY_CONNECTED")
    largest = np.abs(export.run(content, [images().images])[0]).max()
    unit = max(1.0, largest)
    for share, found in ((0.5e-4, False), (3e-4, True)):
        shifted = altered(content, dense.inputs[2], lambda numbers, by=share: numbers + by * unit)
        assert bool(audited(product, shifted)[1]) == found


def test_what_is_not_a_number_is_no_agreement():
    found = {"not_packed": [], "binary_layers": 1, "equal_inputs": {"default": {"layers": {"conv": float("nan")}}}}
    (wrong,) = export.problems(found)
    assert "differs from Keras by nan" in wrong


def test_files_without_packed_layers_are_compared_end_to_end():
    encoder, other = (binary(binarization="none", seed=seed) for seed in (0, 1))
    product = export.make_product(encoder, SIZE, allow_float=True)
    assert export.problems(export.audit(export.packed_file(product), product, images(12))) == []
    foreign = export.packed_file(export.make_product(other, SIZE, allow_float=True))
    (wrong,) = export.problems(export.audit(foreign, product, images(12)))
    assert "The file does not compute what Keras computes (allowed is 0.9): centred cosine" in wrong


def test_a_classifier_of_unit_rows_passes():
    encoder = binary()
    head = tf.keras.Sequential(
        [tf.keras.Input([encoder.feature_dim]), UnitRows(), linear_classifier("head", encoder.feature_dim, 3)]
    )
    product = export.make_product(encoder, SIZE, head)
    found = export.audit(export.packed_file(product), product, images(12, bank=True))
    assert export.problems(found) == []
    assert found["end_to_end"]["centred_cosine"] > 0.99


def test_layers_are_told_apart_by_their_kernels():
    """Three shapes of kernels occur once each in the short network; here, many layers share theirs."""
    product = export.make_product(binary("reactnet_a_burn"), SIZE)
    layers = product.encoder.binary_layers
    shape, _ = collections.Counter(tuple(layer.kernel.shape) for layer in layers).most_common()[0]
    first, second, third = [layer for layer in layers if tuple(layer.kernel.shape) == shape][:3]
    third.kernel.assign(second.kernel)
    file = LiteFile(export.packed_file(product))
    found = packing.packed_layers(file, product.encoder)
    assert packing.lacking(product.encoder, found) == []
    # Equal kernels in their order, too.
    assert [layer.result for layer in found] == sorted(layer.result for layer in found)
    kernels = first.kernel.numpy(), second.kernel.numpy()
    first.kernel.assign(kernels[1])
    third.kernel.assign(kernels[0])
    swapped = {layer.name: layer.result for layer in packing.packed_layers(file, product.encoder)}
    before = {layer.name: layer.result for layer in found}
    assert swapped[third.name] == before[first.name]
    assert swapped[first.name] == before[second.name]


def test_the_kernels_that_are_named_are_those_that_run(monkeypatch):
    given = []

    class Interpreter:
        def __init__(self, content, **arguments):
            given.append(arguments)

        def predict(self, inputs):
            return inputs[0]

    monkeypatch.setattr(
        "larq_ssl.export.running.compute_engine", lambda module: types.SimpleNamespace(Interpreter=Interpreter)
    )
    export.run(b"", [np.zeros(1)])
    export.run(b"", [np.zeros(1)], "indirect", threads=2)
    assert given == [{"num_threads": 1}, {"num_threads": 2, "use_indirect_bgemm": True}]


def test_the_fast_kernels_are_found_wrong_on_maps_that_are_smaller_than_the_kernel(monkeypatch):
    """Larq Compute Engine 0.16; why `small_maps` exists. If this fails, it is no longer needed."""
    monkeypatch.setattr(SmallMapConv, "_is_small", lambda self, shape: False)
    product = export.make_product(binary(), 4)
    found = export.audit(export.packed_file(product), product, export.AuditImages(photos(4, 4)))
    wrong = export.problems(found)
    assert found["packed_layers"] == 3
    assert len(wrong) == 2
    assert all("from stage3/block1/conv on" in sentence for sentence in wrong)


def test_flips_are_counted_layer_by_layer():
    product, content = short()
    file = LiteFile(content)
    layers = packing.packed_layers(file, product.encoder)
    threshold = product.reference.get_layer("stage2/block1/sign").bias
    before = threshold.numpy()
    try:
        inner = tf.keras.Model(product.reference.inputs, product.reference.get_layer(LAYERS[1]).input)
        signs = [inner(images().images).numpy() < 0]
        threshold.assign_add(np.full(before.shape, 0.2))
        signs.append(inner(images().images).numpy() < 0)
        _, flips = agreement.agreement(file, product, layers, images().images)
    finally:
        threshold.assign(before)
    assert flips[LAYERS[0]] == 0
    assert flips[LAYERS[1]] == pytest.approx(np.mean(signs[0] != signs[1]), abs=2e-3)
    assert 0.01 < flips[LAYERS[1]] < 0.5
    assert parity.layer_errors(file, product, layers, images().images)[LAYERS[1]] < 1e-5


def test_files_that_show_their_middle_compute_the_same():
    product, content = short()
    file = LiteFile(content)
    taps = list(parity.sources(file, packing.packed_layers(file, product.encoder)))
    photographs = images().images
    (plain,) = export.run(content, [photographs])
    *inside, shown = export.run(file.showing(taps), [photographs])
    *_, fed = export.run(file.showing(taps, fed=taps), [photographs, *inside])
    np.testing.assert_array_equal(shown, plain)
    np.testing.assert_array_equal(fed, plain)
    *_, other = export.run(file.showing(taps, fed=taps), [photographs, *(-array for array in inside)])
    assert np.abs(other - plain).max() > 0.1


def test_what_is_no_file_is_refused():
    with pytest.raises(ValueError, match="TFL3 is missing"):
        LiteFile(b"nothing of the kind")


def test_agreement_of_features_looks_at_what_tells_images_apart():
    generator = np.random.default_rng(0)
    keras = generator.normal(size=[50, 8]).astype(np.float32) + 100
    bank = Features(keras[:30] + 0.01, np.arange(30) % 3, np.arange(30))
    same = agreement.of_features(keras, keras, bank)
    assert same == pytest.approx(dict.fromkeys(same, 1.0))
    assert set(same) == {"centred_cosine", "centred_cosine_min", "nearest_agreement", "knn_agreement"}
    other = agreement.of_features(generator.permutation(keras), keras, bank)
    assert abs(other["centred_cosine"]) < 0.4
    assert other["nearest_agreement"] < 0.5
    # A shift of all features is a difference, too; one image is its own mean.
    assert agreement.of_features(keras + 1, keras, None)["centred_cosine"] < 0.96
    assert agreement.of_features(keras[:1], keras[:1], None) == {}
    unlabelled = Features(bank.features, np.full(30, -1), bank.ids)
    assert set(agreement.of_features(keras, keras, unlabelled)) == set(same) - {"knn_agreement"}


def test_agreement_of_scores():
    keras, own = np.eye(4), np.eye(4)[[0, 1, 3, 2]]
    labels = np.array([0, 0, 2, 2])
    assert agreement.of_scores(own, keras, labels) == {"top1_agreement": 0.5, "file_top1": 0.5, "keras_top1": 0.5}
    assert agreement.of_scores(own, keras, None) == {"top1_agreement": 0.5}
