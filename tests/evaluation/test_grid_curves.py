"""The picture of a grid of runs."""

import json

import numpy as np
import pytest

from larq_ssl.evaluation.pictures import grid_curves


def log(file, **metrics):
    """A `metrics.jsonl`; of each metric the values after epochs 1, 2, ..., `None` where it was not measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    epochs = range(max(map(len, metrics.values())))
    rows = [{"epoch": e + 1, **{k: v[e] for k, v in metrics.items() if v[e] is not None}} for e in epochs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def runs(tmp_path):
    def files(group, setting):
        start = 10 * group + setting
        return [
            log(
                tmp_path / f"{group}{setting}{seed}.jsonl", knn=[None, start, None, start + 2 * seed], rank=[4, 3, 2, 1]
            )
            for seed in range(2)
        ]

    return {f"norm = {g}": {f"weight = {s}": files(g, s) for s in range(3)} for g in range(2)}


def test_rows_are_metrics_columns_are_groups_and_lines_are_means_over_seeds(tmp_path, runs):
    figure = grid_curves(tmp_path / "grid.png", runs, ["knn", "rank"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["knn, norm = 0", "knn, norm = 1", "rank, norm = 0", "rank, norm = 1"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "epoch", "epoch"]
    for group, axes in enumerate(figure.axes[:2]):
        for setting, line in enumerate(axes.lines):
            start = 10 * group + setting
            np.testing.assert_allclose(line.get_xydata(), [(2, start), (4, start + 1)])
        # The range over two seeds, of each line.
        highest = [band.get_paths()[0].vertices[:, 1].max() for band in axes.collections]
        assert highest == [10 * group + setting + 2 for setting in range(3)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["weight = 0", "weight = 1", "weight = 2"]
    assert len({line.get_color().tobytes() for line in figure.axes[0].lines}) == 3
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_a_setting_has_one_colour_in_all_groups_of_which_some_are_unfinished(tmp_path, runs):
    runs["norm = 1"].pop("weight = 0")
    figure = grid_curves(tmp_path / "grid.png", runs, ["knn"])
    first, second = ([line.get_color().tolist() for line in axes.lines] for axes in figure.axes)
    assert first[1:] == second


def test_what_cannot_be_drawn_is_refused(tmp_path, runs):
    with pytest.raises(ValueError, match="nothing to draw"):
        grid_curves(tmp_path / "grid.png", {}, ["knn"])
    with pytest.raises(ValueError, match=r"has 'loss', which .*000.jsonl has not"):
        grid_curves(tmp_path / "grid.png", runs, ["loss"])
    assert not (tmp_path / "grid.png").exists()
