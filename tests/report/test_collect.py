import json
import os

import pytest

from larq_ssl.report.collect import collect
from larq_ssl.report.lines import columns, lines
from tests.report.folders import write_probe, write_run


def test_runs_are_found_in_parents_and_named_by_what_differs(tmp_path):
    for name in ("bssl/stage2", "bssl/stage1", "moco/float"):
        write_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / ".hidden").mkdir()
    write_run(tmp_path / "runs" / ".hidden" / "run")
    runs = collect([tmp_path / "runs" / "moco" / "float", tmp_path / "runs"])
    assert [run.name for run in runs] == ["moco/float", "bssl/stage1", "bssl/stage2"]
    (alone,) = collect([tmp_path / "runs" / "moco"])
    assert alone.name == "moco/float"


def test_a_folder_that_is_no_run_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is not the folder of a run, and there is none below it"):
        collect([tmp_path / "empty"])
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="No folder is given"):
        collect([])


def test_a_run_is_read(tmp_path):
    path = write_run(tmp_path / "a" / "run", {"width": 0.125, "data_dir": "/x/photos", "dataset": "folder"})
    (run,) = collect([path])
    assert (run.state, run.epochs, run.command, run.kind) == ("finished", 3, "bssl", "binary")
    assert (run.dataset, run.data, run.image_size) == ("folder", "folder:photos", 16)
    assert run.metrics == {"loss": 0.5, "knn": 0.9}
    assert list(run.curves["knn"][1]) == pytest.approx([0.3, 0.6, 0.9])
    assert run.cost.binary_macs > run.cost.float_macs > 0
    assert run.notes == ()


def test_an_unfinished_run_is_marked(tmp_path):
    path = write_run(tmp_path / "run", finished=False, binarization=None, epochs=2)
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "lo')
    (run,) = collect([path])
    assert (run.state, run.epochs, run.cost, run.spec) == ("unfinished", 2, None, None)
    assert run.metrics["knn"] == pytest.approx(0.6)
    (line,) = lines([run])
    assert line.state == "unfinished"
    begun = write_run(tmp_path / "begun", finished=False, binarization=None, epochs=0)
    (run,) = collect([begun])
    assert (run.state, run.epochs, dict(run.metrics)) == ("unfinished", 0, {})


def test_what_cannot_be_read_is_said(tmp_path):
    path = write_run(tmp_path / "run")
    write_probe(path, "knn-dino-digits", {"knn/dino/digits/20/top1": 0.5})
    (path / "probes" / "knn-dino-digits" / "results.json").write_text("{")
    (path / "metrics.jsonl").write_text("nonsense\n{}\n")
    described = path / "encoders" / "student" / "encoder.json"
    for content in ('{"spec": {"name": ["x"]}}', "{}"):
        described.write_text(content)
        (run,) = collect([path])
        assert len(run.notes) == 3
    assert [word in " ".join(run.notes) for word in ("metrics.jsonl", "encoder", "probe")] == [True] * 3


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "3", '{"metrics": 1}', '{"metrics": {}, "encoders": []}x', '{"metrics": {}, "encoders": []}'),
        '{"metrics": {}, "epochs": null}',
    ],
)
def test_a_run_with_a_broken_result_is_unfinished_and_says_so(tmp_path, text):
    path = write_run(tmp_path / "run")
    (path / "results.json").write_text(text)
    (run,) = collect([path])
    assert (run.state, run.notes) == ("unfinished", ("results.json cannot be read.",))


def test_augmented_linear_evaluation_has_a_column_of_its_own(tmp_path):
    path = write_run(tmp_path / "run")
    for protocol in ("linear", "transfer"):
        for part in ("", "augmented/"):
            rest = ("last/top1", "best/top1", "lr_1/last/top1", "validation/last/top1")
            metrics = {f"{protocol}/bssl/digits/{part}{name}": 0.5 for name in rest}
            write_probe(path, f"{protocol}{part.rstrip('/')}", metrics)
    shown = {column.name for column in columns(lines(collect([path])))} - {"while_training/knn/digits/last/top1"}
    assert shown == {
        f"{protocol}/bssl/digits/{part}last/top1" for protocol in ("linear", "transfer") for part in ("", "augmented/")
    }


def test_probes_are_told_apart_by_the_encoder_that_they_measured(tmp_path):
    path = write_run(tmp_path / "run", encoders={"ema": "e" * 16})
    write_probe(path, "knn-dino-digits", {"knn/dino/digits/20/top1": 0.5})
    write_probe(path, "knn-dino-digits-ema", {"knn/dino/digits/20/top1": 0.6}, digest="e" * 16)
    write_probe(path, "knn-dino-digits-random", {"knn/dino/digits/20/top1": 0.2}, digest="f" * 16)
    write_probe(path, "linear-bssl-digits", {"linear/bssl/digits/last/top1": 0.7}, digest="0" * 16)
    (run,) = collect([path])
    assert sorted(probe.which for probe in run.probes) == ["another", "ema", "student", "untrained"]
    found = {line.name: dict(line.numbers) for line in lines([run])}
    assert found[run.name]["knn/dino/digits/20/top1"] == 0.5
    assert found[f"{run.name} (ema)"] == {"knn/dino/digits/20/top1": 0.6}
    assert found[f"untrained, like {run.name}"] == {"knn/dino/digits/20/top1": 0.2}
    assert not any("linear" in name for numbers in found.values() for name in numbers)


def test_a_study_gives_numbers_to_its_runs_and_baselines(tmp_path):
    path = write_run(tmp_path / "demo" / "seed0" / "stage2")
    rows = [
        {"encoder": "raw pixels", "knn": 0.98, "linear": 0.97},
        {"encoder": "untrained binary network", "knn": 0.1, "linear": 0.2, "binary_macs": 8, "float_macs": 2,
         "size_bytes": 1024, "encoder_hash": "a" * 16},
        {"encoder": "BSSL stage 2", "knn": 0.95, "linear": 0.96, "encoder_hash": "0123456789abcdef"},
        {"encoder": "of another run", "knn": 0.5, "linear": 0.5, "encoder_hash": "b" * 16},
    ]  # fmt: skip
    (tmp_path / "demo" / "seed0" / "rows.json").write_text(json.dumps({"rows": rows}))
    trained, pixels, untrained = lines(collect([tmp_path]))
    assert trained.run.path == path
    assert trained.numbers["linear/bssl/digits/last/top1"] == 0.96
    assert (pixels.name, pixels.baseline, pixels.cost) == ("raw pixels", True, None)
    assert pixels.numbers == {"knn/dino/digits/20/top1": 0.98, "linear/bssl/digits/last/top1": 0.97}
    assert (untrained.kind, untrained.cost.size_bytes) == ("binary", 1024)
    assert [line.number for line in (trained, pixels, untrained)] == [1, 2, 3]


def test_a_column_for_each_protocol_not_for_each_number(tmp_path):
    path = write_run(tmp_path / "run")
    knn = {f"knn/dino/digits/{k}/top{top}": 0.5 for k in (10, 20, 100) for top in (1, 5)}
    rates = {f"linear/bssl/digits/{at}/top1": 0.6 for at in ("lr_0.1/last", "last", "best", "validation/last")}
    unknown = {"svm/bssl/voc2007/full/map": 0.7, "svm/bssl/voc2007/full/cost/cat": 2.0, "svm/x/digits/lr_1/map": 0.1}
    several = {f"transfer/s2bnn_linear/voc_2007/{at}/map": 0.8 for at in ("lr_0.1/last", "last", "best")}
    several |= {f"linear/s2bnn/voc_2007/last/{name}": 0.8 for name in ("map", "map_eleven_points")}
    for tag, metrics in (("a", knn), ("b", rates), ("c", unknown), ("d", several)):
        write_probe(path, tag, metrics)
    shown = [column.name for column in columns(lines(collect([path])))]
    assert shown[-1] == "while_training/knn/digits/last/top1"
    assert set(shown[:-1]) == {
        *("knn/dino/digits/20/top1", "linear/bssl/digits/last/top1", "svm/bssl/voc2007/full/map"),
        *("transfer/s2bnn_linear/voc_2007/last/map", "linear/s2bnn/voc_2007/last/map"),
    }


def test_nothing_is_written_into_a_run(tmp_path):
    path = write_run(tmp_path / "run")
    write_probe(path, "knn", {"knn/dino/digits/20/top1": 0.5})
    before = {file: os.stat(file).st_mtime_ns for file in path.rglob("*")}
    lines(collect([path]))
    assert {file: os.stat(file).st_mtime_ns for file in path.rglob("*")} == before
