import html
import itertools
import re

import numpy as np
import pytest

from larq_ssl.models.profile import Cost
from larq_ssl.report.charts import _front, embedding_map, pareto, severities
from larq_ssl.report.figures import panel, write_beside
from larq_ssl.report.lines import Column, Line
from larq_ssl.report.words import costs

COLUMN = Column("knn/dino/digits/20/top1", "kNN", "dino, digits")


def line(number, accuracy, binary, other, size=1024, kind="binary", baseline=False):
    cost = Cost(binary, other, size)
    return Line(number, f"run {number}", "", "", kind, "", "", 0, cost, {COLUMN.name: accuracy}, None, baseline)


def words(drawn):
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]


def test_points_are_named_and_told_with_their_costs():
    lines = [line(1, 0.9, 6400, 0), line(2, 0.8, 0, 6400, kind="float"), line(3, 0.1, 6400, 0, baseline=True)]
    drawn = pareto(lines, COLUMN, "ops")
    assert {"1", "2", "3 ↓ 10.0"} <= set(words(drawn))
    titles = re.findall(r"<title>([^<]*)</title>", drawn)
    # 64 binary operations count as one.
    assert titles[:2] == ["1: run 1, 90.0%, 100 operations", "2: run 2, 80.0%, 6,400 operations"]
    assert all(title in drawn.partition(">")[0] for title in titles)
    assert "1: run 1, 90.0%, 1 KiB" in pareto(lines, COLUMN, "size")


def test_the_front_leaves_out_what_costs_more_and_is_no_better():
    places = [(100.0, 0.7), (200.0, 0.6), (200.0, 0.9), (300.0, 0.9), (400.0, 0.95)]
    points = [(cost, accuracy, line(1, accuracy, 0, 0)) for cost, accuracy in places]
    assert _front(points).tolist() == [[100.0, 0.7], [200.0, 0.9], [400.0, 0.95]]


def test_a_corruption_has_a_point_for_each_severity():
    at = {f"jpeg/{severity}/knn_top1": 0.9 - 0.1 * severity for severity in range(1, 6)}
    drawn = severities({"clean/0/knn_top1": 0.95, **at}, ["jpeg"], "knn", "robust")
    heights = [float(y) for y in re.findall(r'<use [^>]*y="([\d.]+)"[^>]*style="fill: var\(--c0\)', drawn)]
    assert len(heights) >= 6
    assert len(set(heights)) >= 6


def test_the_table_has_sizes_in_kib():
    assert costs(line(1, 0.9, 6400, 3, size=2048)) == [6400, 3, 2]


def test_encoders_at_one_point_share_a_name():
    assert "1, 2" in words(pareto([line(1, 0.9, 640, 0), line(2, 0.9, 640, 0)], COLUMN, "ops"))


def test_a_line_without_a_cost_is_refused():
    with pytest.raises(ValueError, match="'run 1' has none"):
        pareto([Line(1, "run 1", "", "", "", "", "", 0, None, {COLUMN.name: 0.5}, None)], COLUMN, "ops")


def test_names_beside_points_do_not_cover_each_other():
    figure, axes = panel()
    axes.set_ylim(0, 1)
    write_beside(
        figure, axes, [(0.5, 0.5 + 0.001 * number, str(number)) for number in range(5)] + [(0.0, 0.5, "far")], 0
    )
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    near = [boxes[str(number)] for number in range(5)]
    assert all(above.y0 - below.y0 > 0.9 * 10 * figure.dpi / 72 for below, above in itertools.pairwise(near))
    # What is far to the left keeps its place.
    assert abs(boxes["far"].y0 - near[0].y0) < 3


def test_a_map_has_a_point_per_image_and_a_name_per_class():
    labels = np.array([0, 0, 1, 1, -1])
    drawn = embedding_map(np.random.default_rng(0).normal(size=(5, 2)), labels, ("a<b", "c"), "map")
    assert words(drawn) == ["a<b", "c"]
    assert "5 images of 2 classes" in drawn
    assert drawn.count("<use ") == 5
