"""The folder of an export: files that really run, whole or not at all, and a card that tells what they are."""

import functools
import json
import pathlib
import re

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from larq_ssl import export
from larq_ssl.export import card
from larq_ssl.export.writing import float_twin, write_export
from larq_ssl.heads import linear_classifier
from larq_ssl.models.folder import encoder_hash
from tests.export.networks import binary, photos

pytest.importorskip("larq_compute_engine")

SIZE, CLASSES = 8, ("ant", "bee", "cat")
FACTS = {
    "method": "`python -m larq_ssl.experiments.bssl`",
    "data": "Trained on `photos`.",
    "stages": {"runs/stage1": {"stage": "1"}, "runs/stage2": {"stage": "2", "lr": "0.1"}},
    "probes": {
        "this encoder": {"knn/dino/photos/20/top1": 0.5, "linear/bssl/photos/lr_1/last/top1": 0.25},
        "raw pixels": {"knn/dino/photos/20/top1": 0.375, "knn/dino/photos/10/top1": 0.125},
    },
    "licences": "# Licences\n\n- Images: photos of ants.\n",
}


@functools.cache
def parts():
    encoder = binary()
    return encoder, export.make_product(encoder, SIZE, linear_classifier("head", encoder.feature_dim, 3))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("written") / "exported"
    write_export(folder, *parts(), export.AuditImages(photos(6, SIZE)), CLASSES, FACTS, with_float_twin=True)
    return folder


def test_what_is_in_the_folder(written):
    names = {"model.tflite", "float_twin.tflite", "saved_model", "export.json", "classes.txt"}
    assert {path.name for path in written.iterdir()} == names | {"model_card.md", "model_card.json"}
    assert (written / "classes.txt").read_text() == "ant\nbee\ncat\n"
    record = json.loads((written / "export.json").read_text())
    encoder, _ = parts()
    assert record["encoder_hash"] == encoder_hash(encoder)
    assert record["encoder"]["binarization"] == "full"
    assert record["input"] == {"shape": [1, SIZE, SIZE, 3], "pixels": "uint8", "range": [0, 255]}
    assert record["output"] == {"class_scores": 3}
    assert record["float_twin_bytes"] == (written / "float_twin.tflite").stat().st_size
    assert record["audit"]["packed_layers"] == 3
    assert set(record["real_valued_layers"]) == {"first", "last"}
    assert json.loads((written / "model_card.json").read_text())["export"] == record


def test_the_five_lines_of_the_card_run(written, tmp_path, monkeypatch, capsys):
    text = (written / "model_card.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) == 5
    PIL.Image.fromarray(photos(1, SIZE)[0]).save(tmp_path / "photo.jpg")
    (tmp_path / "model.tflite").write_bytes((written / "model.tflite").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "card", "exec"), {})
    scores = np.array(re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", capsys.readouterr().out), float)
    pixels = np.asarray(PIL.Image.open("photo.jpg"))[None]
    (expected,) = export.run((written / "model.tflite").read_bytes(), [pixels])
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)


def test_the_card_tells_what_is_known(written):
    text = (written / "model_card.md").read_text()
    for told in (
        *("experiments.bssl`", "Trained on `photos`.", "photos of ants"),
        *("| metric | this encoder | raw pixels |", "| knn/dino/photos/20/top1 | 0.5000 | 0.3750 |"),
        "| knn/dino/photos/10/top1 |  | 0.1250 |",
        *("runs/stage1:", "--stage=1", "runs/stage2:", "--lr=0.1", "ant, bee, cat", "3 of 3", "float twin"),
    ):
        assert told in text, told
    # Each rate of a sweep stands in the JSON alone.
    assert "lr_1/" not in text
    assert "lr_1/" in (written / "model_card.json").read_text()
    record = json.loads((written / "export.json").read_text())
    bare = card.markdown({"export": {**record, "class_names": [], "output": {"features": 16}}})
    for told in ("16 features", "not recorded", "Not recorded", "None was found"):
        assert told in bare


def test_the_saved_model_has_both_signatures(written):
    loaded = tf.saved_model.load(str(written / "saved_model"))
    images = photos(3, SIZE)
    _, product = parts()
    for name, expected in (("encode", product.encode(images)), ("classify", product.classify(images))):
        (given,) = loaded.signatures[name](image=tf.constant(images)).values()
        np.testing.assert_allclose(given, expected, atol=1e-5)
    (default,) = loaded.signatures["serving_default"](image=tf.constant(images)).values()
    assert default.shape == [3, 3]


def test_the_float_twin_is_a_plain_file_of_tensorflow_lite(written):
    interpreter = tf.lite.Interpreter(str(written / "float_twin.tflite"))
    interpreter.allocate_tensors()
    image = photos(1, SIZE)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    twin = float_twin(parts()[1])
    assert twin.encoder.spec.binarization == "none"
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(output, twin.classify(image), rtol=1e-4, atol=1e-4)
    operations = export.LiteFile((written / "float_twin.tflite").read_bytes()).histogram()
    assert operations["CONV_2D"] >= 4
    assert not any(name.startswith("Lce") for name in operations)


def test_nothing_is_written_over_or_by_halves(written, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="exists already"):
        write_export(written, *parts(), export.AuditImages(photos(2, SIZE)), with_saved_model=False)
    monkeypatch.setattr("larq_ssl.export.choosing.problems", lambda found: ["stage1/block1/conv is wrong."])
    with pytest.raises(ValueError, match="stage1/block1/conv is wrong"):
        write_export(tmp_path / "new", *parts(), export.AuditImages(photos(2, SIZE)))
    assert list(tmp_path.iterdir()) == []
