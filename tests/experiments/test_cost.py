"""The command that tells what networks cost."""

import csv
import json

from PIL import Image

from tests.experiments.commands import SHORT, SHORT_FLOAT


def test_the_table_is_printed_and_written(commands):
    out = commands.folder / "costs"
    arguments = (*SHORT, SHORT_FLOAT[1], "--image_size=32", "--classes=10", f"--out={out}")
    done = commands.run("cost", *arguments)
    assert done.code == 0, done.err
    assert (commands.folder / "costs.md").read_text().strip() == done.out.strip()
    assert "| encoder | binarization | parameters | BOPs | FLOPs | OPs |" in done.out
    rows = list(csv.DictReader((commands.folder / "costs.csv").open()))
    assert [(row["encoder"], row["binarization"]) for row in rows] == [
        ("reactnet_short", "full"),
        ("resnet_short", "none"),
    ]
    held = json.loads((commands.folder / "costs.json").read_text())
    for row, cost in zip(rows, held["costs"], strict=True):
        assert float(row["ops"]) == cost["ops"] == cost["binary_macs"] / 64 + cost["float_macs"]
        assert f"| {cost['parameters']:,} | {cost['binary_macs']:,} | {cost['float_macs']:,} |" in done.out
    assert held["costs"][0]["binary_macs"] > 0 == held["costs"][1]["binary_macs"]
    assert held["published"] == []
    with Image.open(commands.folder / "costs.png") as picture:
        assert min(picture.size) > 500
    again = commands.run("cost", *arguments)
    assert again.code == 2
    assert "costs.md exists; choose another name" in again.err


def test_published_figures_stand_below_with_the_reason_of_a_difference(commands):
    done = commands.run("cost", "--encoder=birealnet_18")
    assert done.code == 0, done.err
    assert "2 of 3 are equal" in done.out
    lines = [line for line in done.out.splitlines() if "S2-BNN, Table 4" in line]
    assert [line.split(" | ")[1] for line in lines] == ["BOPs", "FLOPs", "OPs"]
    assert lines[0].endswith("| equal |")
    assert "not equal: it would be, with one multiplication" in lines[1]
    assert "| birealnet_18 | full | 11,689,512 | 1,676,279,808 | 137,793,536 | 163,985,408 |" in done.out


def test_what_is_not_there_is_refused(commands):
    done = commands.run("cost", "--encoder=resnet_18", "--binarization=full")
    assert done.code == 2
    assert "`binarization` of resnet_18 must be one of ['none'], not 'full'" in done.err
