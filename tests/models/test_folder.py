import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.heads import dino_head, mlp_head, prototypes, simclr_head
from larq_ssl.models.folder import (
    encoder_hash,
    load_encoder,
    load_head,
    load_weights,
    save_encoder,
    save_head,
    save_weights,
)
from larq_ssl.models.transfer import copy_weights, named_weights
from larq_ssl.roles import variable_roles


def _small(**arguments):
    return models.build("reactnet_18", **{"width": 0.125, "stem": "cifar", **arguments})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    encoder = _small(preprocessing="unit")
    folder = tmp_path_factory.mktemp("run") / "some" / "encoder"
    save_encoder(encoder, folder)
    return encoder, folder


@pytest.fixture
def saved(written, tmp_path):
    """An encoder, not to be altered, and a folder of it, to be altered at will."""
    encoder, folder = written
    return encoder, pathlib.Path(shutil.copytree(folder, tmp_path / "run" / "encoder"))


def test_round_trip(saved):
    encoder, folder = saved
    restored = load_encoder(folder)
    assert restored.spec == encoder.spec
    assert encoder_hash(restored) == encoder_hash(encoder)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    np.testing.assert_array_equal(restored(images), encoder(images))
    assert sorted(os.listdir(folder)) == ["encoder.json", "weights.npz"]
    assert os.listdir(folder.parent) == ["encoder"]


def test_another_size_is_the_same_encoder(saved):
    encoder, folder = saved
    restored = load_encoder(folder, image_size=32)
    assert restored.spec.image_size == 32
    assert encoder_hash(restored) == encoder_hash(encoder)


def test_hash_stands_for_weights_and_spec(saved):
    encoder, _ = saved
    before = encoder_hash(encoder)
    assert len(before) == 16
    other = _small(preprocessing="zoo")
    copy_weights(encoder, other)
    other_spec = encoder_hash(other)
    assert other_spec != before
    bias = named_weights(other)["stage4/block4/act/bias_out"]
    bias.assign(bias + 1e-6)
    assert encoder_hash(other) not in (before, other_spec)


def test_nothing_is_overwritten(saved):
    encoder, folder = saved
    before = (folder / "weights.npz").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        save_encoder(encoder, folder)
    with pytest.raises(ValueError, match="exists already"):
        save_weights(encoder, folder / "weights.npz")
    assert (folder / "weights.npz").read_bytes() == before


def test_nothing_is_left_of_a_failed_save(tmp_path):
    encoder = _small()
    encoder.get_layer("stem/bn").gamma.assign_add([np.nan] * 8)
    with pytest.raises(ValueError, match="'stem/bn/gamma' of `reactnet_18` is not finite"):
        save_encoder(encoder, tmp_path / "encoder")
    assert not os.listdir(tmp_path)


def test_nothing_is_unpickled(saved):
    encoder, folder = saved
    _rewrite(folder, {"stem/bn/gamma": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match=r"not a readable file of weights.*allow_pickle"):
        load_weights(encoder, folder / "weights.npz")


def _rewrite(folder, changes):
    with np.load(folder / "weights.npz") as archive:
        arrays = {**{key: archive[key] for key in archive.files}, **changes}
    np.savez(folder / "weights.npz", **{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem/bn/gamma": None}, "'stem/bn/gamma' of `reactnet_18` is missing"),
        ({"stem/bn/alpha": np.ones(8, np.float32)}, "'stem/bn/alpha' is unexpected"),
        ({"stem/bn/gamma": np.ones(9, np.float32)}, r"'stem/bn/gamma' must have the shape \(8,\)"),
        ({"stem/bn/gamma": np.ones(8, np.float32) * 2}, "the hash differs"),
    ],
)
def test_other_weights_are_refused(saved, changes, message):
    _, folder = saved
    _rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(binarization="none"), "the hash differs"),
        (dict(width=0.25), "does not fit"),
        (dict(name="vgg"), "`name` must be one of"),
        (dict(name=["reactnet_a"]), "`name` must be a string"),
        (dict(stem={}), "`stem` must be one of"),
        (dict(width="wide"), "`width` must be"),
        (dict(depth=3), "`spec` must have the keys"),
    ],
)
def test_another_spec_is_refused(saved, change, message):
    _, folder = saved
    description = json.loads((folder / "encoder.json").read_text())
    description["spec"].update(change)
    (folder / "encoder.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "larq_ssl encoder, version 9"}', "\x00"])
def test_another_description_is_refused(saved, text):
    _, folder = saved
    (folder / "encoder.json").write_text(text)
    with pytest.raises(ValueError, match=r"encoder\.json is not the description of an encoder"):
        load_encoder(folder)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is not the description of an encoder"):
        load_encoder(tmp_path / "nothing")


def test_damaged_files_are_refused(saved):
    encoder, folder = saved
    file = folder / "weights.npz"
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(30):
        file.write_bytes(whole[: random.integers(0, len(whole))])
        with pytest.raises(ValueError, match="weights.npz"):
            load_weights(encoder, file)
    refused = 0
    for position in random.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            load_weights(encoder, file)
        except ValueError:
            refused += 1
    assert refused >= 50  # what is left are dates and attributes of the archive


def test_not_an_archive(saved):
    encoder, folder = saved
    np.save(folder / "one.npy", np.ones(3))
    with pytest.raises(ValueError, match="not a readable file of weights"):
        load_weights(encoder, folder / "one.npy")


def test_heads_use_the_same_files(tmp_path):
    heads = [
        tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(3, name="dense1")], name="head")
        for _ in range(2)
    ]
    save_weights(heads[0], tmp_path / "heads" / "student.npz")
    report = load_weights(heads[1], tmp_path / "heads" / "student.npz")
    assert str(report) == "2 of 2 tensors"
    np.testing.assert_array_equal(heads[0].layers[0].kernel, heads[1].layers[0].kernel)
    with zipfile.ZipFile(tmp_path / "heads" / "student.npz") as archive:
        assert archive.namelist() == ["dense1/kernel.npy", "dense1/bias.npy"]
    save_weights(heads[1], tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "heads" / "student.npz").read_bytes()


def _mlp(**arguments):
    return mlp_head("student_head", 6, output_dim=4, **arguments)


HEADS = [
    lambda: _mlp(hidden_dims=[7], norm="none"),
    lambda: _mlp(hidden_dims=[7, 5], norm="batch"),
    lambda: _mlp(hidden_dims=[7], norm="layer"),
    lambda: _mlp(hidden_dims=[7], norm="weight"),
    lambda: mlp_head("student_head", 6, [7, 4], None, "batch"),
    lambda: simclr_head("student_head", 6, 4),
    lambda: _mlp(hidden_dims=[], norm="none", output_relu=True),
    lambda: _mlp(hidden_dims=[], norm="none", output_bias=False),
    lambda: dino_head("student_head", 6, 9, True, True, hidden_dims=(7, 5), bottleneck_dim=4),
    lambda: dino_head("student_head", 6, 9, hidden_dims=(7,), bottleneck_dim=4),
    lambda: prototypes("student_head", 6, 9),
]


@pytest.mark.parametrize("make", HEADS)
def test_round_trip_of_a_head(tmp_path, make):
    head = make()
    rng = np.random.default_rng(0)
    for variable in head.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    save_head(head, tmp_path / "head")
    restored = load_head(tmp_path / "head", name="teacher_head")
    assert restored.name == restored.spec.name == "teacher_head"
    assert load_head(tmp_path / "head").spec == head.spec
    assert [role for _, role in variable_roles(restored)] == [role for _, role in variable_roles(head)]
    x = rng.normal(size=(3, 6)).astype(np.float32)
    expected = head(x).numpy()
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(restored(x), expected)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_head_that_was_saved_before_there_were_other_kinds_is_read(tmp_path, norm):
    head = mlp_head("head", 6, [5], 4, norm)
    save_head(head, tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    description = json.loads(file.read_text())
    known = {"name", "input_dim", "hidden_dims", "output_dim", "output_relu"}
    assert set(description["spec"]) > known
    description["spec"] = {key: value for key, value in description["spec"].items() if key in known}
    description["spec"]["batch_norm"] = norm == "batch"
    file.write_text(json.dumps(description))
    restored = load_head(tmp_path / "head")
    assert restored.spec == head.spec
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    np.testing.assert_array_equal(restored(x), head(x))


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda text: text.replace("larq_ssl head", "other"), "is not the description of a head: `format`"),
        (lambda text: text.replace('"output_dim": 4', '"output_dim": 0'), "output_dim must be positive, got 0"),
        (lambda text: text.replace('"output_dim": 4', '"output_dim": 5'), "does not fit"),
        (lambda text: text.replace('"output_dim"', '"outputs"'), "`spec` must have the keys"),
        (
            lambda text: text.replace('"kernel"', '"bias"'),
            "output_role must be one of kernel, prototypes, last_layer, got 'bias'",
        ),
        (lambda text: text.replace('"relu"', '["relu"]'), "activation must be one of"),
        (lambda text: text[:20], "is not the description of a head"),
    ],
)
def test_a_damaged_head_is_refused(tmp_path, alter, message):
    save_head(mlp_head("head", 6, [5], 4, norm="none"), tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    file.write_text(alter(file.read_text()))
    with pytest.raises(ValueError, match=message):
        load_head(tmp_path / "head")
