"""The page of what a run survives, and the measurements of long runs."""

import json
import subprocess
import sys

import pytest

from larq_ssl.experiments import common
from larq_ssl.experiments import endurance_watch as endurance
from larq_ssl.experiments import reliability_page as reliability
from larq_ssl.experiments.run_folder import RunFolder


def row(fault: str, method: str = "dino", lost=(1, 4, 2), **more) -> dict:
    common_part = {"every": 3, "commit": "abc1234", "time": "2030-01-02", "lost_files": []}
    return {"fault": fault, "method": method, "lost_steps": list(lost), **common_part, **more}


def test_a_line_says_how_often_what_was_lost_and_how_it_ended():
    text = reliability.faults([row("SIGTERM", exit_code=143), row("labels", "bssl", (), lost_files=["a", "b"])])
    lines = text.splitlines()
    assert lines[2] == "| SIGTERM | DINO | 3 | 2, 4 | none | 143 |"
    assert lines[3] == "| labels | BSSL | 1 | refused, nothing trained | a, b |  |"


def test_results_are_read_in_the_order_of_the_table(tmp_path):
    rows = [
        row("labels that disagree"),
        row("something new"),
        row("kill -9 at a step"),
        row("kill -9 at a step", "bssl"),
    ]
    for number, content in enumerate(rows):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    assert [(found["fault"], found["method"]) for found in reliability.read(tmp_path)] == [
        ("kill -9 at a step", "bssl"),
        ("kill -9 at a step", "dino"),
        ("labels that disagree", "dino"),
        ("something new", "dino"),
    ]
    with pytest.raises(ValueError, match="there are no results in it"):
        reliability.read(tmp_path / "missing")


REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="4">
<testcase name="a"/><testcase name="b[dino]"><failure/></testcase><testcase name="c"><skipped/></testcase>
<testcase name="d"><error/></testcase></testsuite></testsuites>
"""


def test_a_fault_that_was_not_survived_is_named(tmp_path):
    (tmp_path / "tests.xml").write_text(REPORT)
    assert reliability.outcome(tmp_path) == (
        "1 of 4 tests of `make test-faults` passed; these did not: `b[dino]`, `c`, `d`.\n"
    )
    (tmp_path / "tests.xml").write_text(
        REPORT.replace("<failure/>", "").replace("<skipped/>", "").replace("<error/>", "")
    )
    assert reliability.outcome(tmp_path) == "4 of 4 tests of `make test-faults` passed.\n"
    # A test counts as it ended last.
    (tmp_path / "tests-0.xml").write_text(REPORT.replace('tests="4"', 'timestamp="2030-01-03"'))
    assert reliability.outcome(tmp_path).startswith("1 of 4 tests")
    (tmp_path / "tests-0.xml").unlink()
    for content, told in (
        ("<testsuites>", "is damaged, it is no report of pytest"),
        ("", "is damaged, it is no report of pytest"),
        ("<testsuite/>", "has no report of pytest with a test"),
    ):
        (tmp_path / "tests.xml").write_text(content)
        with pytest.raises(ValueError, match=told):
            reliability.outcome(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no JSON object"),
        ('{"fault": "x"}', "object with 'method'"),
        (json.dumps(row("x") | {"every": 4}), "its results are of several distances between checkpoints"),
    ],
)
def test_damaged_results_are_named(tmp_path, content, message):
    (tmp_path / "1.json").write_text(json.dumps(row("SIGTERM")))
    (tmp_path / "2.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        reliability.read(tmp_path)


def test_lines_of_several_commits_name_theirs():
    lines = reliability.faults([row("SIGTERM"), row("labels", commit="def5678")]).splitlines()
    assert lines[0].endswith(" exit code | commit |")
    assert lines[1].count("|") == lines[0].count("|")
    assert lines[2] == "| SIGTERM | DINO | 3 | 2, 4 | none |  | abc1234 |"
    assert lines[3].endswith("|  | def5678 |")


def test_every_exit_code_is_on_the_page():
    text = reliability.page([row("SIGTERM")], "77 of 77 passed.\n", None)
    assert "\n77 of 77 passed.\n" in text
    codes = [value for name, value in vars(common).items() if name.endswith("_EXIT")]
    assert len(codes) == 6
    assert all(f"| {code} | " in text for code in codes)
    assert "Commits abc1234; 2030-01-02." in text
    assert "every 3 steps" in text
    assert "## Long runs" not in text


def finished(folder) -> RunFolder:
    run = RunFolder(folder)
    (run.checkpoints / "step-000000009").mkdir(parents=True)
    (run.checkpoints / "step-000000009" / "state").write_bytes(bytes(2**20))
    run.flags_file.write_text("--batch_size=50\n")
    run.metrics_file.write_text("".join(json.dumps({"images_per_second": rate}) + "\n" for rate in (900, 500, 100)))
    return run


def test_slope_and_share_are_those_of_the_samples_after_the_warm_up(tmp_path):
    samples = [(100, 10**9, 9.0), *((step, 10**6 + 20 * step, 0.1) for step in (200, 250, 300, 400))]
    measured = endurance.summary(samples, 200, finished(tmp_path))
    assert measured["steps"] == [200, 400]
    assert measured["slope"] == pytest.approx(20)
    assert measured["step_seconds"] == 0.1
    assert measured["share"] == pytest.approx(0.1 / (0.1 + 1000 * 0.1))
    assert measured["checkpoint_bytes"] == 2**20
    machine = {"commit": "abc", "processor": "a processor", "cores": 2, "time": "2030-01-02T03:04:05"}
    text = reliability.endurance({"machine": machine, "measured": {"bssl": measured}})
    assert "| BSSL | 200 to 400 | 1 | +0.02 | 1.0 | 100 | 100 | 0.10% |" in text
    assert "commit abc on a processor, 2 cores; 2030-01-02." in text
    with pytest.raises(ValueError, match="There are 1 samples after step 400"):
        endurance.summary(samples, 400, finished(tmp_path / "other"))


TRAIN = """
import sys, time
from larq_ssl.experiments.run_folder import RunFolder
run = RunFolder(sys.argv[1])
for step in (5, 10, 15):
    run.record_progress(step, 15, 0.01)
    time.sleep(0.5)
sys.exit(int(sys.argv[2]))
"""


def test_a_process_is_sampled_at_each_checkpoint(tmp_path):
    samples = endurance.watch([sys.executable, "-c", TRAIN, str(tmp_path), "0"], RunFolder(tmp_path))
    assert [sample[0] for sample in samples] == [5, 10, 15]
    assert all(sample[1] > 2**20 for sample in samples)
    with pytest.raises(ValueError, match="ended with exit code 3"):
        endurance.watch([sys.executable, "-c", TRAIN, str(tmp_path), "3"], RunFolder(tmp_path))


def test_memory_of_a_process_that_is_no_more_is_none():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert endurance.resident(process.pid) == 0


def test_another_file_is_not_overwritten(commands, tmp_path):
    (tmp_path / "1.json").write_text(json.dumps(row("SIGTERM")))
    (tmp_path / "tests.xml").write_text(REPORT)
    page, other = tmp_path / "page.md", tmp_path / "thesis.md"
    other.write_text("important")
    for _ in range(2):
        assert commands.run("reliability", f"--faults={tmp_path}", f"--out={page}").code == 0
    assert page.read_text().startswith("# What a run survives\n")
    done = commands.run("reliability", f"--faults={tmp_path}", f"--out={other}")
    assert done.code == 2
    assert "is another file than such a page" in done.err
    assert other.read_text() == "important"
    other.write_bytes(b"\xff")
    (tmp_path / "folder").mkdir()
    for place in (other, tmp_path / "folder"):
        done = commands.run("reliability", f"--faults={tmp_path}", f"--out={place}")
        assert (done.code, "is another file than such a page" in done.err) == (2, True), done.err
    (tmp_path / "measured.json").write_text("{}")
    done = commands.run("reliability", f"--faults={tmp_path}", f"--out={page}", f"--endurance={tmp_path}/measured")
    assert (done.code, "holds no JSON object with 'machine'" in done.err) == (2, True), done.err


def test_memory_is_not_measured_where_it_cannot_be_read(commands):
    """As on macOS."""
    done = commands.python(
        "import os, runpy, sys\n"
        "there = os.path.isdir\n"
        "os.path.isdir = lambda path: path != '/proc/self' and there(path)\n"
        "sys.argv = ['endurance', '--out=measured']\n"
        "runpy.run_module('larq_ssl.experiments.endurance', run_name='__main__')"
    )
    assert done.code == 2
    assert "Memory is read from /proc, which this system has not." in done.err
