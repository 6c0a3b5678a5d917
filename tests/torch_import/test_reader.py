"""Reading files of PyTorch: the two layouts, all dtypes and strides, and what is refused."""

import collections
import copy
import io
import pathlib
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from larq_ssl.torch_import import StoredTensor, read_checkpoint
from larq_ssl.torch_import.pickles import Inert
from larq_ssl.torch_import.tensors import Storage
from tests.torch_import import writing
from tests.torch_import.writing import Call, Instructions, Tensor

DATA = pathlib.Path(__file__).parent.parent / "data"


def arrays(state_dict):
    return {name: tensor.numpy() for name, tensor in state_dict.items()}


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_files_of_pytorch(layout):
    checkpoint = read_checkpoint(DATA / f"torch_{layout}.pth")
    assert checkpoint.layout == layout
    assert checkpoint.size == (DATA / f"torch_{layout}.pth").stat().st_size
    contents = dict(checkpoint.contents)
    with np.load(DATA / "torch_tensors.npz") as expected:
        for part in ("state_dict", "module"):
            wanted = {name.split("/")[1]: expected[name] for name in expected.files if name.startswith(f"{part}/")}
            assert wanted
            assert_same(arrays(contents.pop(part)), wanted)
    (momentum, *_) = contents.pop("optimizer")["state"].values()
    assert momentum["momentum_buffer"].numpy().shape == (2, 3)
    assert contents == {"epoch": 3, "arch": "resnet50", "loss": 0.25, "best": None, "size": (4, 6)}


@pytest.mark.parametrize("layout", writing.LAYOUTS)
def test_values_and_tensors(layout, tmp_path):
    numbers = np.arange(20, dtype=np.float32)
    tensors = {name: (np.arange(6) % 2).reshape(2, 3).astype(name) for name in writing.STORAGES}
    tensors["scalar"], tensors["none"] = np.float32([7]).reshape(()), np.zeros((0, 2), np.float32)
    strided = {
        "rows": Tensor(numbers, 0, (4, 5), (5, 1)),
        "columns": Tensor(numbers, 0, (5, 4), (1, 5)),
        "from the middle": Tensor(numbers, 7, (2, 2), (10, 2)),
        "bfloat16": Tensor(np.uint16([0x3F80, 0xC020, 0x7F80]), 0, (3,), (1,), storage="BFloat16Storage"),
    }
    values = {"text": "é", "numbers": [0, -1, 2**40, -(2**70), 0.5, None, True, False], "tuple": (1, (2, ())), 3: {}}
    values[140_512_345_678_912] = "a parameter by its address"
    contents = {
        **values,
        "tensors": collections.OrderedDict(tensors),
        "strided": strided,
        "parameter": Call("torch._utils._rebuild_parameter", (numbers, True, collections.OrderedDict())),
        "old parameter": Call("torch.nn.parameter.Parameter", (numbers, False)),
        "namespace": Call("argparse.Namespace"),
        "python 2": Call("collections.OrderedDict", ([["a", 1], ["b", 2]],)),
        "set": Call("builtins.set", ([1, "x"],)),
    }
    read = read_checkpoint(writing.save(tmp_path / "file", contents, layout)).contents
    assert {name: read[name] for name in values} == values
    assert (read["python 2"], read["set"]) == ({"a": 1, "b": 2}, {1, "x"})
    assert isinstance(read["namespace"], Inert)
    assert_same(arrays(read["tensors"]), tensors)
    rows = numbers.reshape(4, 5)
    expected = {
        "rows": rows,
        "columns": rows.T,
        "from the middle": rows[1::2, 2::2],
        "bfloat16": np.float32([1.0, -2.5, np.inf]),
    }
    assert_same(arrays(read["strided"]), expected)
    for name in ("parameter", "old parameter"):
        np.testing.assert_array_equal(read[name].numpy(), numbers)


def test_views_of_storages(tmp_path):
    numbers = np.arange(20, dtype=np.float32)
    file = writing.save(tmp_path / "file", [Tensor(numbers, 1, (2, 2), (2, 1), view=(5, 9))], "legacy")
    np.testing.assert_array_equal(read_checkpoint(file).contents[0].numpy(), [[6, 7], [8, 9]])
    for view, sentence in (((5, 4), "reaches beyond its 4 stored numbers"), ((5, 16), "a view of the storage '0'")):
        writing.save(file, [Tensor(numbers, 1, (2, 2), (2, 1), view=view)], "legacy")
        with pytest.raises(ValueError, match=sentence):
            read_checkpoint(file)


def test_big_endian(tmp_path):
    tensors = {name: np.array([1, 0, 1], name) for name in writing.STORAGES}
    (tmp_path / "file").write_bytes(writing.zip_bytes(tensors, big_endian=True))
    assert_same(arrays(read_checkpoint(tmp_path / "file").contents), tensors)
    (tmp_path / "file").write_bytes(writing.legacy_bytes(tensors, little_endian=False))
    with pytest.raises(ValueError, match="big-endian machine"):
        read_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols_of_pickle(protocol, tmp_path):
    value = {"a": [1, 2.5, "text", b"bytes", None, True], "t": (1, 2, 3, 4), "s": {1, 2}, "big": 2**100, "n": {"a": ()}}
    data = writing.archive_bytes({"data.pkl": pickle.dumps(value, protocol)})
    if protocol == 2:  # which calls a function for bytes
        del value["a"][3]
        data = writing.archive_bytes({"data.pkl": pickle.dumps(value, protocol)})
    (tmp_path / "file").write_bytes(data)
    assert read_checkpoint(tmp_path / "file").contents == value


NUMBERS = np.arange(4, dtype=np.float32)


def _named(code):
    return writing.archive_bytes({"data.pkl": b"\x80\x02" + code + b"."})


def _copied(function, item):
    """Calls that make many copies of one list."""
    values = b"]q\0(" + item * 3000 + b"e"
    return _named(b"](" + values + writing.name(function) + b"q\1" + b"h\1h\0\x85R" * 1000 + b"e")


def _listed(*keys):
    """A file of the old layout whose storages are `0` and `1`, with another list of them and one more at its end."""
    code = [writing.Pickle(list(names)).code for names in ("01", keys)]
    data = writing.legacy_bytes({"a": NUMBERS, "b": NUMBERS + 1})
    assert data.count(code[0]) == 1
    return data.replace(*code) + struct.pack("<q", 4) + NUMBERS.tobytes()


def _run(command):
    return Call(command, ("touch ran",))


REFUSED = {
    # Files of another kind.
    "nothing": (b"", "is empty"),
    "another format": (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, r"no checkpoint of PyTorch: it begins with b'\\x89HDF"),
    "the oldest layout": (b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 300, "tar layout.*before 0.2.*conv"),
    "safetensors": (struct.pack("<Q", 20) + b'{"__metadata__":{}}'.ljust(40), "safetensors"),
    "a plain pickle": (pickle.dumps({"state_dict": [1.0]}, 2), "plain pickle"),
    "a malicious plain pickle": (writing.Pickle(_run("os.system")).code, "plain pickle"),
    "another archive": (writing.archive_bytes({"weights.npy": b""}), "no data.pkl"),
    "TorchScript": (writing.archive_bytes({"data.pkl": b"", "constants.pkl": b"", "code/x.py": b""}), "TorchScript"),
    "another version": (writing.legacy_bytes({}, protocol=1002), "unknown version"),
    # Functions.
    "a command": (writing.zip_bytes(_run("os.system")), "names 'os.system'"),
    "a command of old": (writing.legacy_bytes(_run("posix.system")), "names 'posix.system'"),
    "evaluation": (writing.zip_bytes({"state_dict": _run("builtins.eval")}), "names 'builtins.eval'"),
    "a command never called": (_named(writing.name("os.system")), "names 'os.system'"),
    "a command by another instruction": (_named(b"\x8c\x02os\x8c\x06system\x93"), "names 'os.system'"),
    "an instance": (_named(b"(U\x09touch ranios\nsystem\n"), "instruction INST"),
    "an object": (_named(b"(cos\nsystem\nX\x09\0\0\0touch ranno"), "names 'os.system'"),
    "an extension": (_named(b"\x82\x01"), "instruction EXT1"),
    "another class": (writing.zip_bytes(Call("numpy.core.multiarray.scalar")), "names 'numpy.core.multiarray.scalar'"),
    "attributes of a function": (
        _named(writing.name("torch._utils._rebuild_tensor_v2") + b"}b"),
        "is damaged: a pickle sets attributes of what has none",
    ),
    "a call of a value": (_named(b"J\1\0\0\0)R"), "calls what is no function"),
    "a call of a storage": (_named(writing.name("torch.FloatStorage") + b")R"), "calls torch.FloatStorage"),
    "too many arguments": (writing.zip_bytes(Call("collections.OrderedDict", (1, 2, 3))), "is damaged"),
    # Tensors.
    "a tensor beyond its storage": (writing.zip_bytes(Tensor(NUMBERS, 1, (4,), (1,))), "reaches beyond its 4 stored"),
    "a tensor before its storage": (writing.zip_bytes(Tensor(NUMBERS, -1, (4,), (1,))), "is damaged"),
    "backwards": (writing.zip_bytes(Tensor(NUMBERS, 3, (4,), (-1,))), "is damaged"),
    "a huge shape": (writing.zip_bytes(Tensor(NUMBERS, 0, (2**62, 2**62), (1, 1))), "reaches beyond"),
    "huge numbers": (writing.zip_bytes(Tensor(NUMBERS, 0, (2**80,), (0,))), "is damaged"),
    "a hundred axes": (writing.zip_bytes(Tensor(NUMBERS, 0, (1,) * 100, (1,) * 100)), "100 axes"),
    "strides that do not fit": (writing.zip_bytes(Tensor(NUMBERS, 0, (2, 2), (1,))), "2 axes and 1 strides"),
    "a claim beyond the file": (
        writing.zip_bytes(Tensor(NUMBERS, 0, (4,), (1,), claims=10**12)),
        "storage '0' has 16 bytes, not 1000000000000 of f4",
    ),
    "a claim beyond an old file": (
        writing.legacy_bytes(Tensor(NUMBERS, 0, (4,), (1,), claims=10**12)),
        "storage '0' has 16 bytes, not 1000000000000 of f4",
    ),
    "less than there is": (
        writing.zip_bytes(Tensor(NUMBERS, 0, (2,), (1,), claims=2)),
        "storage '0' has 16 bytes, not 2 of f4",
    ),
    "less than there is in an old file": (
        writing.legacy_bytes(Tensor(NUMBERS, 0, (2,), (1,), claims=2)),
        "storage '0' has 16 bytes, not 2 of f4",
    ),
    "a storage of two sizes": (
        writing.zip_bytes([Tensor(NUMBERS, 0, (4,), (1,)), Tensor(NUMBERS, 0, (10**6,), (1,), claims=10**6)]),
        "storage '0' is described in two ways",
    ),
    "a storage of two kinds": (
        writing.zip_bytes([Tensor(NUMBERS, 0, (4,), (1,)), Tensor(NUMBERS, 0, (4,), (1,), storage="IntStorage")]),
        "storage '0' is described in two ways",
    ),
    "a storage under another name": (_listed("0", "7"), "list of its storages does not fit its tensors"),
    "a storage that is not listed": (_listed("0"), "list of its storages does not fit its tensors"),
    "a storage that is listed twice": (_listed("0", "1", "1"), "list of its storages does not fit its tensors"),
    "an unknown storage": (
        writing.zip_bytes(Tensor(NUMBERS, 0, (4,), (1,), storage="QInt8Storage")),
        "names 'torch.QInt8Storage'",
    ),
    "a missing storage": (
        writing.archive_bytes({"data.pkl": writing.Pickle({"a": NUMBERS}).code}),
        "storage '0' is missing",
    ),
    "a parameter of nothing": (writing.zip_bytes(Call("torch._utils._rebuild_parameter", (3,))), "holds no tensor"),
    "numbers of no storage": (_named(b"J\1\0\0\0Q"), "a persistent id is no storage's"),
    "numbers where there are none": (b"\x80\x02J\1\0\0\0Q.", "plain pickle"),
    # Archives.
    "a compressed archive": (
        writing.archive_bytes({"data.pkl": b"\x80\x02N.", "data/0": b"\0" * 10**6}, compression=zipfile.ZIP_DEFLATED),
        "compressed archive",
    ),
    "an unknown byte order": (writing.zip_bytes({}, byteorder=b"middle"), "byte order is b'middle'"),
    # The machine.
    "no end": (_named(b"}")[:0] + writing.archive_bytes({"data.pkl": b"\x80\x02}"}), "is damaged"),
    "an empty stack": (_named(b"0"), "instruction POP"),
    "less than an empty stack": (_named(b"a"), "takes more from its stack than there is"),
    "less than since the mark": (_named(b"]N(a"), "takes more from its stack than there is"),
    "items of nothing": (_named(b"}e"), "is damaged"),
    "an unknown memory": (_named(b"h\x07"), "is damaged"),
    "a place far out in memory": (_named(b"]r\xff\xff\xff\xffa"), "is damaged"),
    "a text that is too long": (_named(b"X\xff\xff\xff\x7fabc"), "is damaged"),
    "half a pair": (_named(b"}(K\x01u"), "is damaged"),
    "a key of depth": (_named(b"}" + b"(" * 9 + b"t" * 9 + b"K\x01s"), "neither text nor number"),
    "copies of a list": (_copied("torch.Size", b"K\1"), "calls copy more than 2,000,000 values"),
    "copies of a dictionary": (
        _copied("collections.OrderedDict", b"K\1N\x86"),
        "calls copy more than 2,000,000 values",
    ),
    "copies of a set": (_copied("builtins.set", b"K\1"), "calls copy more than 2,000,000 values"),
    "keys of one hash": (writing.zip_bytes({2**61 - 1: 0, 2 * (2**61 - 1): 0}), "key that is too large a number"),
    "a negative key of one hash": (writing.zip_bytes({1 - 2**61: 0}), "key that is too large a number"),
    "an endless line": (_named(b"c" + b"x" * 10**5), "is damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, sentence = REFUSED[case]
    file = tmp_path / "file.pth"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_checkpoint(file)
    text = str(refusal.value)
    assert text.startswith(f"{file} ")
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pth"]


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ValueError, match="There is no file"):
            read_checkpoint(path)


def test_archives_that_hold_more_than_they_are(tmp_path):
    """One record under many names: each byte would count many times."""
    tensors = [np.zeros(1000, np.float32) for _ in range(50)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", writing.Pickle(tensors).code)
        archive.writestr("archive/data/0", tensors[0].tobytes())
        for key in range(1, 50):
            entry = copy.copy(archive.getinfo("archive/data/0"))
            entry.filename = f"archive/data/{key}"
            archive.filelist.append(entry)
    (tmp_path / "file").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="its parts together are larger than the file"):
        read_checkpoint(tmp_path / "file")


def test_archives_whose_list_is_wrong(tmp_path):
    data = bytearray(writing.zip_bytes({"a": np.zeros(1000, np.float32), "b": np.ones(1000, np.float32)}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        first, second = (archive.getinfo(f"archive/data/{key}") for key in "01")
    entry = data.rfind(second.filename.encode()) - 46  # in the list at the end
    assert struct.unpack_from("<I", data, entry + 42) == (second.header_offset,)
    struct.pack_into("<I", data, entry + 42, first.header_offset + 1)
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match="is not where it should be"):
        read_checkpoint(tmp_path / "file")


def test_a_tensor_that_repeats_its_numbers_is_not_made(tmp_path):
    """A file of some bytes must not fill the memory."""
    file = writing.save(tmp_path / "file", {"a": Tensor(NUMBERS, 0, (10**6, 10**6), (0, 0)), "b": NUMBERS})
    contents = read_checkpoint(file).contents
    np.testing.assert_array_equal(contents["b"].numpy(), NUMBERS)
    with pytest.raises(ValueError, match="has only 4 stored numbers"):
        contents["a"].numpy()


def test_a_storage_that_holds_less_than_it_claimed_is_not_left():
    tensor = StoredTensor(Storage("f4", 100, lambda: NUMBERS), 1, (2, 2), (2, 1))
    with pytest.raises(ValueError, match=r"of shape \(2, 2\) reaches beyond the 4 numbers that were read"):
        tensor.numpy()


def test_containers_within_themselves_and_without_end(tmp_path):
    deep = Instructions(b"]" * 100_000 + b"a" * 99_999)
    laughs = Instructions(
        b"]q\0" + b"".join(b"](h%bh%be" % ((bytes([i]),) * 2) + b"q%b" % bytes([i + 1]) for i in range(60))
    )
    itself = Instructions(b"]q\0h\0a")
    limit = sys.getrecursionlimit()
    contents = read_checkpoint(writing.save(tmp_path / "file", [deep, laughs, itself])).contents
    assert contents[-1][0] is contents[-1]
    assert sys.getrecursionlimit() == limit


def test_a_pickle_that_goes_on_and_on(tmp_path, monkeypatch):
    monkeypatch.setattr("larq_ssl.torch_import.pickles._MOST_INSTRUCTIONS", 1000)
    file = writing.save(tmp_path / "file", list(range(1100)))
    with pytest.raises(ValueError, match="more than 1,000 instructions"):
        read_checkpoint(file)


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(0)
    return {f"layer{index}.weight": rng.normal(size=(3, 4)).astype(np.float32) for index in range(4)}


def read_all(file):
    return arrays(read_checkpoint(file).contents["state_dict"])


@pytest.mark.parametrize("layout", writing.LAYOUTS)
def test_files_cut_short(layout, tensors, tmp_path):
    whole = writing.LAYOUTS[layout]({"state_dict": tensors})
    file = tmp_path / "file.pth"
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"file\.pth "):
            read_all(file)
    file.write_bytes(whole)
    assert_same(read_all(file), tensors)


@pytest.mark.parametrize("layout", writing.LAYOUTS)
def test_flipped_bits(layout, tensors, tmp_path):
    """The archive has checksums of its parts; the old layout has none, but a flip never does anything else."""
    whole = writing.LAYOUTS[layout]({"state_dict": tensors})
    file = tmp_path / "file.pth"
    rng = np.random.default_rng(1)
    refused = altered = 0
    for position in rng.permutation(len(whole))[:800]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        try:
            read = read_all(file)
        except ValueError:
            refused += 1
        except KeyError:
            altered += 1  # `state_dict` itself is called something else
        else:
            same = list(read) == list(tensors) and all(np.array_equal(read[name], tensors[name]) for name in read)
            altered += not same
    assert refused > 150
    if layout == "zip":
        assert altered == 0


def test_a_file_that_changes_after_it_was_opened(tensors, tmp_path):
    file = writing.save(tmp_path / "file", {"state_dict": tensors})
    tensor = read_checkpoint(file).contents["state_dict"]["layer0.weight"]
    assert isinstance(tensor, StoredTensor)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match="file is cut short"):
        tensor.numpy()
