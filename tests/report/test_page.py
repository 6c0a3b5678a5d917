import csv
import dataclasses
import html.parser
import io
import re

import pytest

from larq_ssl.report import Report, collect, tables, write
from larq_ssl.report.all_numbers import numbers
from larq_ssl.report.lines import Column, columns, lines
from larq_ssl.report.page import page
from larq_ssl.report.sections import cost, facts, lead
from larq_ssl.report.words import by
from larq_ssl.report.writing import check_folder
from tests.report.folders import linear_settings, write_probe, write_run
from tests.report.made import HOSTILE, report
from tests.report.test_charts import line

_VOID = {"meta", "link", "img", "br", "wbr"}


class Parsed(html.parser.HTMLParser):
    """Elements of a page; fails where they are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] or "" for _, found in self.elements if attribute in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return report(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def text(made):
    return page(made)


@pytest.fixture(scope="module")
def parsed(text):
    return Parsed(text)


def test_the_page_is_well_formed_and_names_its_parts(parsed):
    tags = [tag for tag, _ in parsed.elements]
    assert [tags.count(tag) for tag in ("html", "head", "body", "main", "h1")] == [1] * 5
    anchors = [value for value in parsed.values("href") if value.startswith("#") and len(value) < 20]
    ids = parsed.values("id")
    assert len(set(ids)) == len(ids)
    assert {"#runs", "#cost", "#curves", "#looks", "#robustness", "#published", "#numbers"} <= set(anchors)
    assert {anchor[1:] for anchor in anchors} <= set(ids)
    assert ("html", {"lang": "en"}) in parsed.elements
    assert any(found.get("name") == "viewport" for _, found in parsed.elements)


def test_nothing_comes_from_outside(text, parsed):
    for attribute in ("src", "href", "xlink:href", "srcset", "data", "action"):
        for value in parsed.values(attribute):
            assert value.startswith(("data:", "#")), value
    assert not re.search(r"@import|url\((?!#)|https?:|fetch\(|XMLHttpRequest", text)
    images = [found for tag, found in parsed.elements if tag == "img"]
    assert len(images) == 2 * 2 * 9
    assert all(found["src"].startswith("data:image/png;base64,") and found["alt"] for found in images)


def test_hostile_names_stay_text(text, parsed):
    assert text.count("<script>") == 1
    assert "<script>alert" not in text
    assert "<b>bold" not in text
    shown = HOSTILE.replace("/", "\u2215")
    assert sum(shown in part for part in parsed.texts) >= 3
    assert any(HOSTILE in part for part in parsed.texts)
    assert any("<b>bold</b>" in part for part in parsed.texts)


def test_the_table_has_scopes_values_and_marks(made, parsed):
    rows = [
        found for tag, found in parsed.elements if tag == "th" and found.get("scope") == "row" and "data-value" in found
    ]
    assert len(rows) == len(made.lines) == 6
    # Two tables, for digits and ImageNet, with three and two accuracies.
    assert [tag for tag, _ in parsed.elements].count("button") == 2 * (4 + 3) + 3 + 2
    words = " ".join(parsed.texts)
    assert "unfinished: 1 of 3 epochs" in words
    assert "No probe has measured it yet." in words
    assert "81.0" in words
    regions = [found for _, found in parsed.elements if found.get("role") == "region"]
    assert regions
    assert all(found.get("tabindex") == "0" and found.get("aria-label") for found in regions)


def test_charts_are_drawn_in_the_colours_of_the_page_and_described(text, parsed):
    drawn = [found for tag, found in parsed.elements if tag == "svg"]
    assert len(drawn) >= 2 * 2 + 3 + 1 + 2
    assert all(found["role"] == "img" and found["aria-label"] and found["viewbox"] for found in drawn)
    inside = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", inside)) == set()
    for name in set(re.findall(r"var\((--[\w]+)\)", text)) - {"--share"}:
        # In light and in dark.
        assert text.count(f" {name}: ") == 2, name


def test_published_numbers_stand_beside_measured_ones(parsed):
    words = " ".join(parsed.texts)
    for said in (
        "imagenet/bssl_paper_stage2",
        "58.0",
        "57.1",
        "BSSL, Tables 1, 5, 6 and 7",
        "not measured by this protocol",
    ):
        assert said in words


def test_the_best_of_a_column_is_one_that_has_learned():
    column = Column("knn/dino/digits/20/top1", "kNN", "dino, digits")
    drawn = tables.runs([line(1, 0.5, 1, 1), line(2, 0.7, 1, 1), line(3, 0.9, 1, 1, baseline=True)], [column], "x")
    assert re.findall(r'accuracy best" data-value="([\d.]+)"', drawn) == ["0.7"]


def test_the_best_of_each_kind_stands_above(made):
    shown = re.findall(
        r'class="big">([^<]*)<',
        facts(
            dataclasses.replace(
                made,
                lines=[
                    line(1, 0.5, 1, 1),
                    line(2, 0.7, 1, 1),
                    line(3, 0.6, 1, 1, kind="float"),
                    line(4, 0.9, 1, 1, baseline=True),
                ],
                columns=[Column("knn/dino/digits/20/top1", "kNN", "dino, digits")],
            )
        ),
    )
    assert shown == ["70.0", "60.0", "90.0"]


def test_neighbours_of_the_same_class_are_ticked(text):
    ticked = re.findall(r'class="picture (same|other)[^>]*><img alt="neighbour of class ([^,]*),', text)
    assert ticked[:2] == [("same", "&lt;b&gt;bold&lt;/b&gt;"), ("other", "class 1")]


def test_the_lead_counts_what_is_finished(made):
    assert lead(made).startswith("4 of 5 finished, on digits")


def test_how_a_probe_departs_from_its_protocol_stands_by_its_origin(tmp_path):
    run = write_run(tmp_path / "run", {"image_size": 224})
    metrics = {"linear/bssl/digits/last/top1": 0.5, "linear/bssl/digits/last/top5": 0.9}
    write_probe(run, "short", metrics, settings=linear_settings("bssl", epochs=5))
    write_probe(run, "whole", {"linear/moco/digits/last/top1": 0.5}, settings=linear_settings("moco"))
    write_probe(run, "gone", {"linear/gone/digits/last/top1": 0.5})
    of = lines(collect([run]))
    told = numbers(Report(of, columns(of), [], {}, {}, "", ""))
    assert told.count("Not by the protocol: ") == 2
    assert "Not by the protocol: epochs 5 (protocol: 100)." in told
    assert "Not by the protocol: preset gone, which is not there any more." in told


def test_the_number_that_most_encoders_have_is_compared(tmp_path):
    for number in range(3):
        write_run(tmp_path / f"run{number}")
    write_probe(tmp_path / "run0", "knn", {"knn/dino/digits/20/top1": 0.5})

    def main_name():
        of = lines(collect([tmp_path]))
        made = Report(of, columns(of), [], {}, {}, "", "")
        return made.main_column(of).name, facts(made)

    # One probe of three runs would leave two of them out.
    name, said = main_name()
    assert name == "while_training/knn/digits/last/top1"
    assert "have been measured so" not in said
    # Nor does a baseline beside it make the picture of costs one of a single run.
    write_probe(tmp_path / "run0", "knn-random", {"knn/dino/digits/20/top1": 0.2}, digest="f" * 16)
    of = lines(collect([tmp_path]))
    assert "kNN while training, digits" in cost(Report(of, columns(of), [], {}, {}, "", ""))
    write_probe(tmp_path / "run2", "knn", {"knn/dino/digits/20/top1": 0.5})
    name, said = main_name()
    assert name == "knn/dino/digits/20/top1"
    assert "; 2 of 3 encoders have been measured so" in said
    of = lines(collect([tmp_path]))
    assert Report(of, [], [], {}, {}, "", "").main_column(of) is None


def test_a_report_by_changed_code_says_so():
    assert by(None) == ""
    assert by("0123456789abcdef") == " by commit 0123456789ab"
    assert by("0123456789abcdef-dirty") == " by commit 0123456789ab and changes that are not committed"


def test_many_classes_have_a_list_instead_of_a_matrix(parsed):
    words = " ".join(parsed.texts)
    assert "Which classes are taken for which" in words
    assert "Most frequent confusions" in words
    assert "2 of 7" in words


def test_a_report_without_anything_but_an_unfinished_run_is_a_page(tmp_path):
    whole = report(tmp_path)
    (alone,) = (line for line in whole.lines if line.state == "unfinished")
    bare = dataclasses.replace(whole, lines=[alone], columns=[], comparisons=[], looks={}, missed={})
    parsed = Parsed(page(bare))
    assert "Report of 1 encoder" in parsed.texts
    assert any("None of these runs follows a recipe" in part for part in parsed.texts)


def test_the_files_are_written_and_written_anew(made, tmp_path):
    out = tmp_path / "report"
    paths = write(made, out)
    assert sorted(path.name for path in paths) == ["numbers.csv", "report.csv", "report.html", "report.md"]
    kept = (out / "report.html").read_text()
    write(made, out)
    assert (out / "report.html").read_text() == kept
    (out / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds 'letter.txt', which is not of a report"):
        write(made, out)
    with pytest.raises(ValueError, match=r"letter\.txt is a file"):
        check_folder(out / "letter.txt")


def test_csv_has_fractions_by_full_names(made, tmp_path):
    write(made, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "report.csv").read_text())))
    assert len(rows) == 6
    assert [row["knn/dino/digits/20/top1"] for row in rows if row["run"] == "first"] == ["0.81"]
    assert any(HOSTILE.replace("/", "\u2215") == row["run"] for row in rows)
    numbers = list(csv.DictReader(io.StringIO((tmp_path / "out" / "numbers.csv").read_text())))
    assert {"number": "2", "run": "first", "metric": "knn/dino/digits/20/top5", "value": "0.9"} in numbers


def test_markdown_is_one_table_row_a_line(made, tmp_path):
    write(made, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    heads = {len(re.findall(r"(?<!\\)\|", row)) for row in rows[:8]}
    assert len(heads) == 1
    # In a block of code nothing is markup.
    assert all(line.startswith("    ") for line in text.splitlines() if "<script>" in line)
    assert "81.0" in text
    assert "57.1" in text
