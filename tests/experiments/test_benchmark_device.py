"""The benchmark of exported files measures what it says it measures. (How fast anything is, no test looks at.)"""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.experiments import benchmark_device, benchmark_table
from larq_ssl.experiments.benchmark_device import FLOAT, KERAS
from larq_ssl.experiments.benchmark_workers import Measurement, Variant, measure, timed
from larq_ssl.models import EncoderSpec
from tests.experiments.commands import add_short_networks

pytest.importorskip("larq_compute_engine")

DEFAULT, INDIRECT, INDIRECT_XNNPACK = benchmark_device._PACKED
SHORT = {"name": "reactnet_short", "binarization": "full", "stem": "cifar", "width": 0.125}
# A process of its own does not know the short network: Keras gets one of the same kind.
SPEC = EncoderSpec("reactnet_18", stem="cifar", width=0.125)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> benchmark_device.Files:
    add_short_networks()
    return benchmark_device.make_files(SHORT, 16, tmp_path_factory.mktemp("files"))


@pytest.fixture
def folder(files, tmp_path):
    """As an export writes it, with a file of other weights."""
    record = {
        "encoder": dataclasses.asdict(SPEC),
        "input": {"shape": [1, 16, 16, 3], "pixels": "uint8", "range": [0, 255]},
        "output": {"features": 64},
    }
    (tmp_path / "export.json").write_text(json.dumps(record))
    (tmp_path / "model.tflite").write_bytes(files.packed.read_bytes())
    (tmp_path / "float_twin.tflite").write_bytes(files.twin.read_bytes())
    return tmp_path


def test_files_are_of_the_network_and_its_twin(files):
    assert benchmark_device.packed_layers(files.packed) == 3
    assert benchmark_device.packed_layers(files.twin) == 0
    assert files.packed.stat().st_size < files.twin.stat().st_size
    assert (files.spec.name, files.image_size, files.pixels) == ("reactnet_short", 16, "uint8")
    assert "weights are random" in " ".join(files.notes)
    interpreter = tf.lite.Interpreter(str(files.twin))
    interpreter.allocate_tensors()
    assert tuple(interpreter.get_input_details()[0]["shape"]) == (1, 16, 16, 3)
    # By default what it can compute is handed to XNNPACK.
    assert "DELEGATE" in {operation["op_name"] for operation in interpreter._get_ops_details()}


def test_a_float_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is a float network.*--binarization=full"):
        benchmark_device.make_files({**SHORT, "binarization": "none"}, 16, tmp_path)


def test_groups_are_by_threads_and_the_float_twin_is_their_reference(files):
    found = benchmark_device.groups(files, "Some CPU", cores=8)
    assert list(found) == [
        "reactnet_short, 16 px, 3 packed layers; 1 thread of Some CPU",
        "reactnet_short, 16 px, 3 packed layers; 2 threads of Some CPU",
    ]
    for threads, variants in enumerate(found.values(), 1):
        assert [variant.name for variant in variants] == [FLOAT, DEFAULT, INDIRECT, INDIRECT_XNNPACK, KERAS]
        assert {variant.settings["threads"] for variant in variants} == {threads}
        sizes = [file.stat().st_size for file in (files.twin, *[files.packed] * 3)]
        assert [variant.file_bytes for variant in variants] == [*sizes, None]
        kernels = [dict(variant.settings["kernels"]) for variant in variants[1:4]]
        assert kernels == [{}, {"use_indirect_bgemm": True}, {"use_indirect_bgemm": True, "use_xnnpack": True}]
    assert len(benchmark_device.groups(files, "Some CPU", cores=1)) == 1


def test_threads_reach_the_runtimes(commands, files):
    code = f"""
import tensorflow as tf
from larq_ssl import export
from larq_ssl.experiments import benchmark_device
said = []
def remember(kind):
    def make(*arguments, **settings):
        said.append(settings)
        return kind(*arguments, **settings)
    return make
engine = export.compute_engine(benchmark_device._ENGINE)
engine.Interpreter = remember(engine.Interpreter)
tf.lite.Interpreter = remember(tf.lite.Interpreter)
benchmark_device.prepare_packed({str(files.packed)!r}, 2, {{"use_indirect_bgemm": True}})(1)
benchmark_device.prepare_float({str(files.twin)!r}, 2)(1)
assert said == [{{"num_threads": 2, "use_indirect_bgemm": True}}, {{"num_threads": 2}}], said
benchmark_device.prepare_keras({dataclasses.asdict(dataclasses.replace(SPEC, image_size=16))!r}, "uint8", 2)(1)
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
try:
    benchmark_device.prepare_keras({dataclasses.asdict(SPEC)!r}, "uint8", 1)
except RuntimeError as error:
    print(error)
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    limits, late = done.out.splitlines()
    assert limits == "2 2"
    assert "cannot be modified after initialization" in late


def test_an_export_is_measured_as_it_is(folder):
    files = benchmark_device.exported_files(folder)
    assert (files.packed, files.twin) == (folder / "model.tflite", folder / "float_twin.tflite")
    assert (files.spec, files.image_size, files.pixels) == (SPEC, 16, "uint8")
    assert "classifier" not in " ".join(files.notes)


def test_what_an_export_lacks_is_said(folder):
    (folder / "float_twin.tflite").unlink()
    record = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**record, "output": {"class_scores": 10}}))
    files = benchmark_device.exported_files(folder)
    told = " ".join(files.notes)
    assert "no float twin to compare with" in told
    assert "--float_twin" in told
    assert "Keras is without the classifier" in told
    (variants,) = benchmark_device.groups(files, "Some CPU", cores=1).values()
    assert [variant.name for variant in variants] == [DEFAULT, INDIRECT, INDIRECT_XNNPACK, KERAS]
    # Without float there is none that could win.
    assert "wins" not in benchmark_device.summary({"group": [measurement(DEFAULT, [[1.0]])]}, files.notes)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"encoder": {"width": 3}, "input": {}, "output": {}}'])
def test_a_wrong_folder_is_refused(folder, content):
    record = folder / "export.json"
    record.unlink() if content is None else record.write_text(content)
    with pytest.raises(ValueError, match="--export must be a folder that larq_ssl.experiments.export wrote"):
        benchmark_device.exported_files(folder)


def measurement(name: str, latencies: list[list[float]], file_bytes: int | None = None) -> Measurement:
    rates = [len(seconds) / sum(seconds) for seconds in latencies]
    busy = [0.5 + number for number in range(len(latencies))]
    return Measurement(name, rates, 2, 2**30, None, 2**20, latencies, busy, file_bytes)


def test_latencies_make_medians_and_ratios_of_the_same_round():
    # The last image of a turn is slow: medians do not see it.
    slow = measurement(FLOAT, [[0.002, 0.002, 0.2], [0.004, 0.004, 0.4], [0.008, 0.008, 0.8]], 2_500_000)
    fast = measurement(INDIRECT, [[0.001, 0.001, 0.9], [0.001, 0.001, 0.9], [0.016, 0.016, 0.9]], 310_000)
    assert benchmark_table.ratios(fast, slow, of_times=False) == [2.0, 4.0, 0.5]
    text = benchmark_table.table({"group": [slow, fast]}, compares_time=False)
    late = 1000 * np.percentile([0.001] * 4 + [0.016] * 2 + [0.9] * 3, 95)
    assert text.splitlines()[3:] == [
        "| variant | median ms | p95 ms | speed, relative | lowest to highest | peak MiB | own MiB | busy | file MB |",
        "| --- |" + " ---: |" * 8,
        "| FLOAT | 8.00 | 640.00 | 1.00 | 1.00 to 1.00 | 1,024 | 1 | 1.50 | 2.50 |".replace("FLOAT", FLOAT),
        f"| {INDIRECT} | 16.00 | {late:.2f} | 2.00 | 0.50 to 4.00 | 1,024 | 1 | 1.50 | 0.31 |",
    ]
    told = benchmark_device.summary({"group": [slow, fast, measurement(DEFAULT, [[0.01]] * 3)]}, ["A note."])
    assert "\nA note.\n" in told
    assert "made for ARM; on x86 its default kernels are reference-like code" in " ".join(told.split())
    assert f"float wins against {DEFAULT} (0.40 of its speed)." in told
    assert f"It loses against {INDIRECT} (2.00 times as fast)." in told


def prepare_held(mebibytes: int):
    """Turns that do nothing, with some memory held and as much used for a moment before."""
    held = np.ones([2 * mebibytes, 2**20], np.uint8)[:mebibytes].copy()
    return timed(held.any)


def test_each_image_is_timed_and_own_memory_is_that_of_the_variant():
    variant = Variant("held", prepare_held, {"mebibytes": 50}, ("colorsys",), 7)
    (found,) = measure([variant], repeats=2, seconds=0.0)
    assert [len(seconds) for seconds in found.latencies] == [1, 1]
    assert found.rates == pytest.approx([1 / sum(seconds) for seconds in found.latencies])
    assert found.speeds == pytest.approx([1 / np.median(seconds) for seconds in found.latencies])
    assert len(found.busy) == 2
    assert 145 * 2**20 < found.own_memory < 200 * 2**20
    assert found.memory > found.own_memory + 2**26
    assert found.file_bytes == 7


@pytest.mark.slow
def test_the_command_measures_an_export(commands, folder, tmp_path):
    words = ["benchmark", "--what=device", f"--export={folder}", "--repeats=2", "--seconds=0.05"]
    code = f"""
import runpy, sys
from larq_ssl.experiments import benchmark_device
benchmark_device.THREADS = (1,)
sys.argv = {[*words, f"--out={tmp_path}/speed"]}
runpy.run_module("larq_ssl.experiments.benchmark", run_name="__main__", alter_sys=True)
"""
    done = commands.python(code)
    assert done.code == 0, done.err
    ((group, results),) = json.loads((tmp_path / "speed.json").read_text())["measured"].items()
    assert group.startswith("reactnet_18, 16 px, 3 packed layers; 1 thread of ")
    measured = [Measurement(**result) for result in results]
    assert [result.name for result in measured] == [FLOAT, DEFAULT, INDIRECT, INDIRECT_XNNPACK, KERAS]
    table = (tmp_path / "speed.md").read_text()
    assert table.split("\n", 1)[1].strip() in done.out
    for result in measured:
        assert [len(seconds) for seconds in result.latencies] == [result.steps] * 2
        # One thread cannot keep more than a processor busy.
        assert max(result.busy) < 1.3
        line = next(line for line in table.splitlines() if line.startswith(f"| {result.name} |"))
        median, late = map(float, re.findall(r"[\d.]+", line[len(result.name) + 3 :])[:2])
        assert 0 < median <= late
        seconds = list(itertools.chain(*result.latencies))
        assert median == pytest.approx(1000 * np.median(seconds), abs=0.006)
        assert f"| {np.median(benchmark_table.ratios(result, measured[0], False)):.2f} |" in line
    assert measured[1].file_bytes == (folder / "model.tflite").stat().st_size
    assert "Measured is the file" in table


def test_without_the_extra_it_says_what_to_install(commands):
    code = """
import runpy, sys
sys.modules["larq_compute_engine"] = None
sys.argv = ["benchmark", "--what=device"]
runpy.run_module("larq_ssl.experiments.benchmark", run_name="__main__", alter_sys=True)
"""
    done = commands.python(code)
    assert done.code == 2
    assert "pip install 'larq_ssl[export]'" in done.err.splitlines()[-1]


def test_mistakes_are_one_sentence(commands, folder):
    for arguments, message in (
        (["--what=device", "--export=/nowhere"], "--export must be a folder that larq_ssl.experiments.export wrote"),
        (["--what=device", f"--export={folder}", "--width=0.5"], "--width has no meaning with --export"),
        (["--what=encode", f"--export={folder}"], "--export has no meaning with --what=encode"),
    ):
        done = commands.run("benchmark", *arguments)
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
