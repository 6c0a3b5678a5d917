"""The pictures of a training step: where its time goes, and how it grows."""

import numpy as np
import pytest

from larq_ssl.evaluation.pictures import growth_curves, step_times


def test_a_step_is_a_bar_of_its_parts(tmp_path):
    steps = {"plain": {"a": 10.0, "b": 0.0, "c": 30.0}, "ours": {"a": 5.0, "b": 0.0, "c": 12.0}}
    figure = step_times(tmp_path / "step.png", steps, "A step", "ms")
    (axes,) = figure.axes
    bars = sorted((round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in axes.patches)
    assert bars == [(0, 0, 10), (0, 10, 30), (1, 0, 5), (1, 5, 12)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain", "ours"]
    assert axes.yaxis_inverted()
    assert axes.get_title(loc="left") == "A step"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c"]
    assert {"10", "30", "5", "12", " 40", " 17"} == {text.get_text() for text in axes.texts}
    assert (tmp_path / "step.png").stat().st_size > 1000


def test_parts_that_are_narrower_than_their_number_have_none(tmp_path):
    figure = step_times(tmp_path / "step.png", {"a step": {"a": 4000.0, "b": 150.0, "c": 170.0}}, "A step")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["4,000", "170", " 4,320"]
    figure.draw_without_rendering()
    for bar, text in zip((axes.patches[0], axes.patches[2]), axes.texts, strict=False):
        room, number = bar.get_window_extent(), text.get_window_extent()
        assert room.x0 < number.x0 < number.x1 < room.x1


def test_steps_that_cannot_be_drawn_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`steps` must not be empty"):
        step_times(tmp_path / "step.png", {}, "A step")
    with pytest.raises(ValueError, match="must have the same parts, in the same order"):
        step_times(tmp_path / "step.png", {"a": {"x": 1.0}, "b": {"y": 1.0}}, "A step")


def test_growth_has_a_column_per_axis_and_a_row_per_quantity(tmp_path):
    panels = {
        "batch": ([1, 2, 4], {"ms": ([5, 9, 20], "time ~ size^1.00"), "MiB": ([7.9, 7.9, 8], "memory ~ size^0.01")}),
        "views": ([0, 2], {"ms": ([5, 9], "time +40 % each"), "MiB": ([7, 7], "memory +0 % each")}),
    }
    figure = growth_curves(tmp_path / "growth.png", panels)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        *("time ~ size^1.00", "time +40 % each", "memory ~ size^0.01", "memory +0 % each"),
    ]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear"] * 2
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "batch", "views"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["ms", "", "MiB", ""]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [(1, 5), (2, 9), (4, 20)])
    # What hardly grows is flat, and numbers that would cover each other are not written twice.
    low, high = figure.axes[2].get_ylim()
    assert high / low == pytest.approx(4)
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["8"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["20", "9", "5"]
    with pytest.raises(ValueError, match="`panels` must not be empty"):
        growth_curves(tmp_path / "no.png", {})
    with pytest.raises(ValueError, match="must have the same quantities, in the same order"):
        growth_curves(tmp_path / "no.png", {"a": ([1], {"ms": ([1], "")}), "b": ([1], {"MiB": ([1], "")})})
