"""What SECURITY.md promises of input from strangers: it is data, it is never run, and it reaches no other place."""

import ast
import json
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from larq_ssl import models
from larq_ssl.data.class_lists import read_class_list
from larq_ssl.data.datasets import load_dataset
from larq_ssl.data.label_subsets import read_labels
from larq_ssl.heads import mlp_head
from larq_ssl.inference import load_encoder as load_frozen
from larq_ssl.memories import load_memory, save_memory
from larq_ssl.models.folder import load_encoder, load_head, load_weights, read_arrays, save_encoder, save_head
from larq_ssl.queue import KeyQueue
from larq_ssl.torch_import import import_checkpoint
from tests import voc
from tests.test_project import ROOT, imports, modules

RUNNING = {"eval", "exec", "compile", "__import__", "execfile"}
"""Built-in functions that run text."""

UNPICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "yaml"}
"""Modules that make objects of what a file says."""

KERAS = {"load_model", "model_from_json", "model_from_config", "model_from_yaml", "custom_object_scope", "deserialize"}
"""Functions of Keras that make layers, with their code, of what a file says."""

CLONING = {"export/product.py", "export/small_maps.py", "export/int8.py", "optimizers/role_optimizer.py"}
"""They make layers and schedules anew from the configs of some that are there, not of a file."""

IMPORTING = {
    *("__init__.py", "evaluation/detection/extra.py", "experiments/benchmark_steps.py"),
    *("experiments/benchmark_workers.py", "export/conversion.py"),
}
"""They import modules by names that the package itself has written down."""


def calls():
    """All calls in the package: file, name of what is called, and the call."""
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield file.relative_to("larq_ssl").as_posix(), ast.unparse(node.func), node


def test_nothing_is_unpickled():
    """Python's own `pickletools` only takes pickles apart."""
    found = [f"{file}: {name}" for file, tree in modules() for name in imports(file, tree)]
    assert [line for line in found if line.split(": ")[1].split(".")[0] in UNPICKLING] == []
    # NumPy under its usual name alone, so that what reads arrays is found by it.
    of_numpy = {line.split(": ")[1] for line in found if line.split(": ")[1].split(".")[0] == "numpy"}
    assert of_numpy <= {"numpy", "numpy.typing"}
    loads = [(file, node) for file, name, node in calls() if name in ("np.load", "np.lib.format.read_array")]
    assert len(loads) >= 3
    for file, node in loads:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert told.get("allow_pickle") == "False", f"{file}:{node.lineno}"
    text = "\n".join((ROOT / file).read_text() for file, _ in modules())
    assert "allow_pickle=True" not in text


def test_no_text_is_run_and_no_archive_unpacked():
    for file, name, node in calls():
        where = f"{file}:{node.lineno}: {name}"
        last = name.split(".")[-1]
        assert name not in RUNNING, where
        assert last not in ("extractall", "unpack_archive"), where
        assert not name.endswith(".extract"), where
        assert name not in ("os.system", "os.popen"), where
        assert not any(keyword.arg == "shell" for keyword in node.keywords), where
        if last == "import_module":
            assert file in IMPORTING, where


def test_no_layer_is_made_of_what_a_file_says():
    for file, name, node in calls():
        where = f"{file}:{node.lineno}: {name}"
        if file not in CLONING:
            assert name.split(".")[-1] not in KERAS, where
        assert not name.endswith("saved_model.load"), where
        if name.endswith(".from_config") and not name.startswith("super()"):
            assert file in CLONING, where
        assert not any(keyword.arg in ("custom_objects", "safe_mode") for keyword in node.keywords), where


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: pathlib.Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))  # noqa: S301  that it is none here
    assert (tmp_path / "ran").is_dir()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An encoder, a head, a memory."""
    folder = tmp_path_factory.mktemp("saved")
    save_encoder(models.build("resnet_18", None, "none", "cifar", 0.125), folder / "encoder")
    save_head(mlp_head("head", 6, [5], 4, norm="none"), folder / "head")
    save_memory(KeyQueue(8, 4), folder / "queue.npz")
    return folder


def copied(source: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
    place.mkdir(parents=True)
    for file in source.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def add(file: pathlib.Path, name: str, array: np.ndarray) -> None:
    """Adds an array to an archive, pickled if it has to be."""
    with zipfile.ZipFile(file, "a") as archive, archive.open(name, "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=True)


@pytest.mark.parametrize("kind", ["encoder", "head", "memory", "classifier"])
def test_a_pickled_array_is_refused_and_not_run(kind, saved, tmp_path):
    bomb = np.array([Bomb(tmp_path / "ran")], object)
    if kind == "memory":
        (tmp_path / "queue.npz").write_bytes((saved / "queue.npz").read_bytes())
        add(tmp_path / "queue.npz", "bomb.npy", bomb)
        with pytest.raises(ValueError, match="is not a readable file of weights"):
            load_memory(KeyQueue(8, 4), tmp_path / "queue.npz")
    else:
        place = copied(saved / ("head" if kind == "head" else "encoder"), tmp_path / "network")
        add(place / "weights.npz", "bomb.npy", bomb)
        read = {"encoder": load_encoder, "head": load_head, "classifier": lambda path: load_frozen(path, image_size=8)}
        with pytest.raises(ValueError, match="is not a readable file of weights"):
            read[kind](place)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_the_place_of_a_file_is_refused_and_not_run(saved, tmp_path):
    place = copied(saved / "encoder", tmp_path / "network")
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    for file in ("weights.npz", "encoder.json"):
        (place / file).write_bytes(bomb)
        with pytest.raises(ValueError, match=file):
            load_encoder(place)
    (tmp_path / "labels.json").write_bytes(bomb)
    with pytest.raises(ValueError, match="is not a file of labels"):
        read_labels(tmp_path / "labels.json")
    (tmp_path / "teacher.pth").write_bytes(bomb)
    with pytest.raises(ValueError, match="teacher.pth"):
        import_checkpoint(tmp_path / "teacher.pth")
    assert not (tmp_path / "ran").exists()


LAMBDA = {
    "class_name": "Lambda",
    "module": "keras.layers",
    "config": {"name": "x", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}},
}
CUSTOM = {"class_name": "mkdir", "module": "os", "registered_name": "os>mkdir", "config": {"path": "ran"}}
CALL = "__import__('os').mkdir('ran')"
NESTED = "[" * 100_000 + "]" * 100_000


def altered(file: pathlib.Path, change: dict) -> None:
    description = json.loads(file.read_text())
    description["spec"].update(change)
    file.write_text(json.dumps(description))


@pytest.mark.parametrize("trick", [LAMBDA, CUSTOM, CALL, [CALL], None], ids=str)
@pytest.mark.parametrize("key", ["name", "stem", "binarization", "preprocessing", "width", "rotate_input", "layers"])
def test_tricks_in_the_description_of_an_encoder_are_refused(key, trick, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = copied(saved / "encoder", tmp_path / "network")
    altered(place / "encoder.json", {key: trick})
    with pytest.raises(ValueError, match=r"must be|must have the keys"):
        load_encoder(place)
    assert os.listdir(tmp_path) == ["network"]


@pytest.mark.parametrize("trick", [LAMBDA, CUSTOM, CALL, [CALL]], ids=str)
@pytest.mark.parametrize(
    "key", ["hidden_dims", "norm", "activation", "output_role", "output_relu", "input_dim", "layers"]
)
def test_tricks_in_the_description_of_a_head_are_refused(key, trick, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = copied(saved / "head", tmp_path / "network")
    altered(place / "head.json", {key: trick})
    with pytest.raises(ValueError, match=r"must be|must have the keys"):
        load_head(place)
    assert os.listdir(tmp_path) == ["network"]


@pytest.mark.parametrize(
    "text", [NESTED, "{" * 10, "NaN", json.dumps(LAMBDA), json.dumps([CUSTOM])], ids=lambda x: x[:20]
)
def test_descriptions_of_other_things_are_refused(text, saved, tmp_path):
    encoder, head = copied(saved / "encoder", tmp_path / "encoder"), copied(saved / "head", tmp_path / "head")
    (encoder / "encoder.json").write_text(text)
    with pytest.raises(ValueError, match="is not the description of an encoder"):
        load_encoder(encoder)
    (head / "head.json").write_text(text)
    with pytest.raises(ValueError, match="is not the description of a head"):
        load_head(head)
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ValueError, match="is not a file of labels"):
        read_labels(tmp_path / "labels.json")


OUTSIDE = ("../outside", "../../outside", "/tmp/outside", "..\\outside", "a/../../outside")


def everything(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_an_archive_are_no_paths(name, saved, tmp_path):
    place = copied(saved / "encoder", tmp_path / "some" / "network")
    add(place / "weights.npz", f"{name}.npy", np.ones(3))
    before = everything(tmp_path)
    encoder = models.build("resnet_18", None, "none", "cifar", 0.125)
    with pytest.raises(ValueError, match="is unexpected"):
        load_weights(encoder, place / "weights.npz")
    assert name in read_arrays(place / "weights.npz")
    assert everything(tmp_path) == before
    assert not pathlib.Path("/tmp/outside").exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_a_description_are_no_paths(name, saved, tmp_path):
    place = copied(saved / "encoder", tmp_path / "some" / "network")
    copied(saved / "encoder", tmp_path / "outside")
    altered(place / "encoder.json", {"name": name})
    with pytest.raises(ValueError, match="`name` must be one of"):
        load_encoder(place)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_a_checkpoint_of_pytorch_are_no_paths(name, tmp_path):
    file = tmp_path / "some" / "folder" / "teacher.pth"
    file.parent.mkdir(parents=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr(name, b"written")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="holds no state_dict"):
        import_checkpoint(file)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["../outside", "../../outside", "a/../../outside"])
def test_names_in_lists_of_images_leave_no_folder(name, tmp_path):
    """Of an image and of its annotation, both of which lie where the list says."""
    root = voc.pets(tmp_path / "deep" / "pets")
    for place in (root / "JPEGImages" / f"{name}.jpg", root / "Annotations" / f"{name}.xml"):
        place = pathlib.Path(os.path.normpath(place))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(
            next((root / ("JPEGImages" if place.suffix == ".jpg" else "Annotations")).iterdir()).read_bytes()
        )
    with (root / "ImageSets" / "Main" / "trainval.txt").open("a") as file:
        file.write(f"{name}\n")
    with pytest.raises(ValueError, match="are not in"):
        load_dataset("voc_folder", "train", str(root))


def test_an_annotation_is_not_expanded_without_end(tmp_path):
    root = voc.pets(tmp_path / "pets")
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    named = "<annotation><object><name>&{};</name></object></annotation>"
    bomb = f'<!DOCTYPE annotation [<!ENTITY a0 "cat">{entities}]>{named.format("a12")}'
    (root / "Annotations" / "000001.xml").write_text(bomb)
    with pytest.raises(ValueError, match="is not an annotation in VOC format"):
        load_dataset("voc_folder", "train", str(root))
    secret = tmp_path / "secret"
    secret.write_text("cat")
    outside = f'<!DOCTYPE annotation [<!ENTITY a SYSTEM "file://{secret}">]>{named.format("a")}'
    (root / "Annotations" / "000001.xml").write_text(outside)
    with pytest.raises(ValueError, match="is not an annotation in VOC format"):
        load_dataset("voc_folder", "train", str(root))


@pytest.mark.parametrize("name", ["kubric:movi_a", "huggingface:mnist", "voc:pets", "x-y:cifar10", "mlds:a/b:1.0.0"])
def test_data_sets_that_come_with_code_are_refused(name):
    with pytest.raises(ValueError, match="it must have no namespace, for whose data sets"):
        load_dataset(name, "train")


@pytest.mark.parametrize("name", ["mnist:3.0.1", "mnist:3.*.*", "voc/2007:5.0.0"])
def test_versions_of_data_sets_are_no_namespaces(name, tmp_path):
    with pytest.raises(ValueError, match="is not prepared in|none of that name"):
        load_dataset(name, "train", str(tmp_path))


def test_a_list_of_classes_is_text(tmp_path):
    (tmp_path / "classes.txt").write_text(f"{CALL}\n../../x\n")
    assert read_class_list(tmp_path / "classes.txt") == (CALL, "../../x")
    assert os.listdir(tmp_path) == ["classes.txt"]


def test_every_promise_has_its_test():
    """SECURITY.md names the tests; they are there, and all tests of this file are named."""
    text = (ROOT / "SECURITY.md").read_text()
    tests = {
        node.name for node in ast.parse(pathlib.Path(__file__).read_text()).body if isinstance(node, ast.FunctionDef)
    }
    tests = {name for name in tests if name.startswith("test_")} - {
        "test_every_promise_has_its_test",
        "test_the_bomb_works",
    }
    assert {name for name in tests if f"`{name}`" not in text} == set()
