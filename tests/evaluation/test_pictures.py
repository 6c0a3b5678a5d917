import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from larq_ssl.evaluation.pictures import confusion_matrix, loss_curves, pixel_scale_ratios, view_sheet


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB"))


def write_run(path, epochs, names=("loss", "knn"), cut=False):
    rows = [{"epoch": e, "step": 10 * e, **{name: 1.0 / e for name in names}} for e in range(1, epochs + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + ('{"epoch": 9, "lo' if cut else ""))
    return path


def test_confusion_matrix_shows_counts_shares_and_names(tmp_path):
    labels = np.array([0, 0, 0, 1, 2])
    predictions = np.array([0, 0, 1, 1, 0])
    figure = confusion_matrix(tmp_path / "c.png", labels, predictions, ["cat", "dog", "cow"], title="Stage 2")
    assert sorted(texts(figure)) == ["1", "1", "1", "2"]
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "cow"]
    assert titles(figure) == ["accuracy 60.0% of 5 images"]
    assert pixels(tmp_path / "c.png").std() > 10


def test_confusion_matrix_of_many_classes_has_no_counts_but_a_list(tmp_path):
    labels = np.arange(200)
    predictions = np.where(labels == 7, 9, labels)
    figure = confusion_matrix(tmp_path / "c.png", labels, predictions, [f"class {i}" for i in range(200)])
    assert texts(figure) == ["class 7 → class 9", "1 of its 1 images"]
    assert len(figure.axes[0].get_yticks()) < 15


def test_a_class_without_images_is_an_empty_row(tmp_path):
    figure = confusion_matrix(tmp_path / "c.png", np.array([0, 0]), np.array([0, 1]), ["a", "b"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.5, 0.5], [0, 0]])


def test_loss_curves_draw_a_panel_per_metric(tmp_path):
    run = write_run(tmp_path / "m.jsonl", 8, names=("knn", "loss", "gradient_norm/head"), cut=True)
    figure = loss_curves(tmp_path / "l.png", run)
    assert titles(figure) == ["loss", "knn", "gradient norm/head"]
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(line.get_ydata(), 1 / np.arange(1, 9))
    assert pixels(tmp_path / "l.png").std() > 5


def test_loss_curves_of_several_runs_share_panels_and_a_legend(tmp_path):
    first = write_run(tmp_path / "a.jsonl", 60, names=("loss",))
    second = write_run(tmp_path / "b.jsonl", 3, names=("loss", "knn"))
    figure = loss_curves(tmp_path / "l.png", {"stage 1": first, "stage 2": second}, title="Digits")
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["stage 1", "stage 2"]
    # The one line of the second panel keeps the colour of its run.
    assert figure.axes[1].lines[0].get_color() == figure.axes[0].lines[1].get_color()
    # Values from 1 to 1/60 span more than a factor of 50, those from 1 to 1/3 do not.
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def test_many_metrics_of_a_group_share_a_panel(tmp_path):
    layers = tuple(f"sign_flips/block{i}/conv" for i in range(20))
    figure = loss_curves(tmp_path / "l.png", write_run(tmp_path / "m.jsonl", 4, names=("loss", "sign_flips", *layers)))
    assert titles(figure) == ["loss", "sign flips", "sign flips of 20 (median, range)"]
    assert titles(loss_curves(tmp_path / "k.png", tmp_path / "m.jsonl", names=["loss"])) == ["loss"]


def test_values_that_are_not_finite_leave_gaps(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "loss": NaN}\n')
    loss_curves(tmp_path / "l.png", tmp_path / "m.jsonl")
    (tmp_path / "n.jsonl").write_text('{"epoch": 1, "loss": NaN}\n')
    loss_curves(tmp_path / "n.png", tmp_path / "n.jsonl")


def test_view_sheet_shows_images_boxes_and_local_views(tmp_path):
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (3, 2, 16, 16, 3), np.uint8)
    local = rng.integers(0, 256, (3, 1, 8, 8, 3), np.uint8)
    originals = [rng.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(3)]
    boxes = np.tile([[2, 3, 10, 12]], (3, 3, 1))
    figure = view_sheet(tmp_path / "v.png", views, local, originals, boxes)
    assert [text.get_text() for text in figure.texts] == ["original", "global 1", "global 2", "local 3"]
    for row in range(3):
        shown = [axes.images[0].get_array() for axes in figure.axes[4 * row : 4 * row + 4]]
        for array, expected in zip(shown, [originals[row], *views[row], *local[row]], strict=True):
            np.testing.assert_array_equal(array, expected)
    box = figure.axes[4].patches[-1]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (2.5, 1.5, 12, 10)
    plain = view_sheet(tmp_path / "w.png", views)
    assert len(plain.axes) == 6
    assert [text.get_text() for text in plain.texts] == ["view 1", "view 2"]


def test_views_of_a_sheet_are_at_one_scale_and_apart(tmp_path):
    """Eight of two sizes: local ones are stacked, and nothing lies over anything else."""
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, 2, 32, 32, 3), np.uint8)
    local = rng.integers(0, 256, (2, 6, 18, 18, 3), np.uint8)
    originals = [rng.integers(0, 256, (40, 60, 3), np.uint8), rng.integers(0, 256, (60, 40, 3), np.uint8)]
    boxes = np.tile([[2, 3, 10, 12]], (2, 8, 1))
    figure = view_sheet(tmp_path / "v.png", views, local, originals, boxes)
    assert [text.get_text() for text in figure.texts] == ["original", "global 1", "global 2", "local 3 to 8"]
    assert len(figure.axes) == 2 * 9
    inches = figure.get_size_inches()
    cells = [axes.get_position() for axes in figure.axes]
    for axes, cell in zip(figure.axes, cells, strict=True):
        assert 0 <= cell.x0 < cell.x1 <= 1
        assert 0 <= cell.y0 < cell.y1 < 1
        # Pixels are square, all of the image is seen, and those of all views are of one size.
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        sides = np.array([right - left, bottom - top]) / (inches * [cell.width, cell.height])
        assert sides[0] == pytest.approx(sides[1])
        height, width = axes.images[0].get_array().shape[:2]
        assert left <= -0.5 < width - 0.5 <= right
        assert top <= -0.5 < height - 0.5 <= bottom
        if axes not in (figure.axes[0], figure.axes[9]):
            assert sides[0] == pytest.approx(32 / 1.3)
    for one, other in itertools.combinations(cells, 2):
        assert one.x1 < other.x0 or other.x1 < one.x0 or one.y1 < other.y0 or other.y1 < one.y0
    assert len({round(cell.x0, 6) for cell in cells}) == 1 + 2 + 3
    # A number in each view, and all of them in the original.
    numbers = [[text.get_text() for text in axes.texts] for axes in figure.axes[:9]]
    assert numbers == [list("12345678"), *([number] for number in "12345678")]


def test_pixel_scales_show_their_mean_and_all_pairs(tmp_path):
    ratios = np.exp2(np.linspace(-1.5, 2.5, 24_000)).reshape(-1, 2, 6)
    figure = pixel_scale_ratios(tmp_path / "p.png", ratios, "Policy")
    (axes,) = figure.axes
    (histogram,) = (patch for patch in axes.patches if hasattr(patch, "get_data"))
    shares, edges, _ = histogram.get_data()
    assert shares.sum() == pytest.approx(100, abs=0.25)
    # Bins are equally wide where equal factors are, and so equally full here.
    np.testing.assert_allclose(np.diff(np.log2(edges)), np.log2(edges[1] / edges[0]))
    np.testing.assert_allclose(shares[2:-2], 100 / 4 / 12, rtol=0.02)
    assert axes.get_xscale() == "log"
    mean = ratios.mean()
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, pytest.approx(mean)]
    assert texts(figure) == [f"mean {mean:.2f}"]
    assert axes.get_title(loc="left") == "Policy"
    assert axes.get_title(loc="right") == "median 1.41; 50% within a factor of 2"
    assert pixels(tmp_path / "p.png").std() > 5


def test_one_ratio_of_pixel_scales_can_be_drawn(tmp_path):
    figure = pixel_scale_ratios(tmp_path / "p.png", np.full((3, 1, 2), 0.5))
    assert texts(figure) == ["mean 0.50"]


def test_nothing_is_overwritten_unless_told(tmp_path):
    views = np.zeros((1, 2, 8, 8, 3), np.uint8)
    view_sheet(tmp_path / "v.png", views)
    with pytest.raises(ValueError, match="exists already"):
        view_sheet(tmp_path / "v.png", views)
    view_sheet(tmp_path / "v.png", views, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["v.png"]


def test_pyplot_is_not_loaded():
    code = "import sys, larq_ssl.evaluation.pictures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mistakes_are_named(tmp_path):
    file = tmp_path / "x.png"
    views = np.zeros((2, 2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"`file` must end in.*'.*x\.jpg'"):
        view_sheet(tmp_path / "x.jpg", views)
    with pytest.raises(ValueError, match="`views` must be uint8"):
        view_sheet(file, views.astype(np.float32))
    with pytest.raises(ValueError, match="`boxes`"):
        view_sheet(file, views, boxes=np.zeros((2, 2, 4)))
    with pytest.raises(ValueError, match="`originals` must be 2"):
        view_sheet(file, views, originals=[views[0, 0]])
    for ratios in (np.zeros((0, 2, 6)), np.zeros((4, 2, 6))):
        with pytest.raises(ValueError, match="`ratios` must be positive numbers"):
            pixel_scale_ratios(file, ratios)
    with pytest.raises(ValueError, match=r"`predictions` must lie in 0\.\.1"):
        confusion_matrix(file, np.array([0, 1]), np.array([0, 2]), ["a", "b"])
    with pytest.raises(ValueError, match="one per image"):
        confusion_matrix(file, np.array([0, 1]), np.array([0]), ["a", "b"])
    (tmp_path / "bad.jsonl").write_text('{"loss": 1}\n{"epoch": 2}\n')
    with pytest.raises(ValueError, match="line 1 has not"):
        loss_curves(file, tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no epoch to draw"):
        loss_curves(file, tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="`names` must be of.*'typo'"):
        loss_curves(file, write_run(tmp_path / "m.jsonl", 2), names=["typo"])
    assert not file.exists()
