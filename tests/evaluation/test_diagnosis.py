"""Whether binary layers learn: verdicts and pictures of constructed measurements."""

import json

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from PIL import Image

from larq_ssl.evaluation.diagnosis import MEASURES, judge, percent, read_history
from larq_ssl.evaluation.pictures import layer_diagnostics

HEALTHY = {"gradient_norm": 0.1, "saturated": 0.4, "dead_channels": 0.02, "beyond_clip": 0.01, "sign_flips": 0.003}
ORANGE = (213, 94, 0)


def names(layers):
    return [f"stage{1 + layer // 4}/block{1 + layer % 4}/conv" for layer in range(layers)]


def weights(shift=0):
    edges = (10.0 ** (np.arange(-36, 7) / 6)).tolist()
    return {"edges": edges, "counts": np.roll(np.bincount([25, 26, 26, 27], minlength=42), shift).tolist()}


def write(file, epochs=4, layers=16, latent=True, **special):
    """A `diagnostics.jsonl` of a run that learns, but for `measure=function of layer and epoch` (`None`: left out)."""
    rows = [{"epoch": 0, "step": 0, "latent_weights": weights()}] if latent else []
    for epoch in range(1, epochs + 1) if isinstance(epochs, int) else epochs:
        row = {"epoch": epoch, "step": 10 * epoch}
        for measure in dict.fromkeys([*HEALTHY, *special]):
            of = special.get(measure, lambda layer, epoch, measure=measure: HEALTHY[measure])
            values = {} if of is None else {name: of(layer, epoch) for layer, name in enumerate(names(layers))}
            values = {name: value for name, value in values.items() if value is not None}
            row.update({measure: values} if values else {})
        rows.append({**row, **({"latent_weights": weights(1)} if latent else {})})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "diagnostics.jsonl"


def verdict(file, **arguments):
    return judge(read_history(write(file, **arguments)))


class TestReadHistory:
    def test_layers_by_epochs(self, file):
        history = read_history(write(file, epochs=[5, 10, 12], layers=3, saturated=lambda layer, e: 0.1 * layer + e))
        assert history.epochs.tolist() == [5, 10, 12]
        assert history.layers == tuple(names(3))
        assert set(history.values) == set(HEALTHY)
        np.testing.assert_allclose(history.values["saturated"], [[5, 10, 12], [5.1, 10.1, 12.1], [5.2, 10.2, 12.2]])
        assert [histogram.epoch for histogram in history.weights] == [0, 12]
        assert [np.argmax(histogram.shares) for histogram in history.weights] == [26, 27]
        assert history.weights[0].shares.sum() == pytest.approx(1)

    def test_what_was_not_measured_is_nan(self, file):
        flips = read_history(write(file, epochs=3, layers=2, sign_flips=lambda layer, e: None if e == 2 else 0.1))
        np.testing.assert_array_equal(flips.values["sign_flips"], [[0.1, np.nan, 0.1]] * 2)
        some = read_history(write(file, epochs=1, layers=3, saturated=lambda layer, e: 0.2 if layer == 1 else None))
        assert some.layers == tuple(names(3))
        np.testing.assert_array_equal(some.values["saturated"], [[np.nan], [0.2], [np.nan]])

    def test_an_epoch_0_alone_is_no_measurement(self, file):
        history = read_history(write(file, epochs=0))
        assert len(history.epochs) == 0
        with pytest.raises(ValueError, match="no epoch whose layers were measured"):
            judge(history)

    @pytest.mark.parametrize("text", ['{"epoch": 1}\n{"loss"', '{"epoch": 1}\n[]', '{"epoch": 1}\n{"step": 1}'])
    def test_what_is_no_such_file_is_refused(self, file, text):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"JSON with an `epoch` in each line; line 2 has not"):
            read_history(file)


class TestJudge:
    def test_layers_that_learn(self, file):
        told = verdict(file)
        assert told.learns
        assert told.headline == (
            "Binary layers learn: 0.3% of the signs flip per epoch, 40% of the inputs are saturated, "
            "2% of the channels are dead."
        )
        assert told.details == ()

    @pytest.mark.parametrize(
        ("measure", "value", "sentence"),
        [
            ("sign_flips", 0.0, "No signs flip in 16 of 16 binary layers (at most 0.01% of the signs per epoch)."),
            ("saturated", 0.95, "Saturated in 16 of 16 binary layers (over 90% of the inputs get no gradient)."),
            ("dead_channels", 0.6, "Dead channels in 16 of 16 binary layers (over 50% of the channels have one sign"),
            ("beyond_clip", 0.6, "Beyond the clip in 16 of 16 binary layers (over 50% of the weights get no gradient"),
            ("gradient_norm", 0.0, "Vanishing gradient in 16 of 16 binary layers (at most 0.01% of the largest layer"),
        ],
    )
    def test_each_complaint_has_its_sentence(self, file, measure, value, sentence):
        told = verdict(file, **{measure: lambda layer, epoch: value})
        assert not told.learns
        assert told.headline.startswith(sentence)
        assert told.details == ()

    @pytest.mark.parametrize("measure", ["sign_flips", "saturated", "dead_channels", "beyond_clip"])
    def test_the_limits_are_those_that_are_stated(self, file, measure):
        (limits,) = [one for one in MEASURES if one.name == measure]
        at = limits.most if np.isfinite(limits.most) else limits.least * 1.001
        assert percent(at) in limits.limit
        assert verdict(file, **{measure: lambda layer, epoch: at}).learns
        past = limits.most * 1.001 if np.isfinite(limits.most) else limits.least
        assert not verdict(file, **{measure: lambda layer, epoch: past}).learns

    def test_gradients_are_compared_with_the_largest_of_the_same_epoch(self, file):
        def tiny_but_alike(layer, epoch):
            return 1e-12 * 10**epoch

        assert verdict(file, gradient_norm=tiny_but_alike).learns
        told = verdict(file, gradient_norm=lambda layer, epoch: 1e-6 if layer < 12 else 1.0)
        assert told.headline.startswith("Vanishing gradient in 12 of 16 binary layers")

    def test_what_concerns_half_of_the_layers_is_the_headline_and_less_an_exception(self, file):
        half = verdict(file, saturated=lambda layer, epoch: 0.95 if layer < 8 else 0.4)
        assert not half.learns
        assert half.headline.startswith("Saturated in 8 of 16 binary layers (over 90%")
        assert half.headline.endswith(": stage1/block1/conv, stage1/block2/conv, stage1/block3/conv and 5 more.")
        few = verdict(file, saturated=lambda layer, epoch: 0.95 if layer in (2, 9) else 0.4)
        assert few.learns
        assert few.headline.startswith("Binary layers learn, except 2 of 16: 0.3% of the signs flip")
        assert few.details == (
            "Saturated in 2 of 16 binary layers (over 90% of the inputs get no gradient): "
            "stage1/block3/conv, stage3/block2/conv.",
        )

    def test_the_gravest_is_the_headline_and_the_others_follow(self, file):
        told = verdict(
            file,
            sign_flips=lambda layer, epoch: 0.0,
            saturated=lambda layer, epoch: 1.0,
            beyond_clip=lambda layer, epoch: 0.9 if layer == 0 else 0.0,
        )
        assert told.headline.startswith("No signs flip in 16 of 16")
        assert [line.split(" in ")[0] for line in told.details] == ["Saturated", "Beyond the clip"]

    def test_the_median_of_the_second_half_counts(self, file):
        """Neither a rough start nor signs that come to rest at the end of a schedule are held against a run."""
        assert verdict(
            file,
            epochs=10,
            sign_flips=lambda layer, epoch: 0.0 if epoch >= 9 else 0.01,
            saturated=lambda layer, epoch: 1.0 if epoch <= 5 else 0.4,
        ).learns
        assert not verdict(file, epochs=10, sign_flips=lambda layer, epoch: 0.01 if epoch <= 5 else 0.0).learns

    def test_measures_that_are_not_there_are_not_held_against_anybody(self, file):
        float_kernels = verdict(file, latent=False, sign_flips=None, beyond_clip=None)
        assert float_kernels.headline == (
            "Binary layers get a gradient: 40% of the inputs are saturated, 2% of the channels are dead."
        )
        resumed = verdict(file, epochs=1, sign_flips=lambda layer, epoch: None)
        assert resumed.learns
        alone = verdict(file, sign_flips=None, beyond_clip=None, saturated=None, dead_channels=None)
        assert alone.headline == "Binary layers get a gradient."

    def test_float_kernels_are_judged_by_their_change(self, file):
        stage1 = {"latent": False, "sign_flips": None, "beyond_clip": None}
        told = verdict(file, **stage1, weight_change=lambda layer, epoch: 0.2)
        assert told.headline == (
            "Binary layers learn: weights change by 20% per epoch, 40% of the inputs are saturated, "
            "2% of the channels are dead."
        )
        still = verdict(file, **stage1, weight_change=lambda layer, epoch: 0.0)
        assert not still.learns
        assert (
            still.headline == "Weights stand still in 16 of 16 binary layers (at most 0.01% of their length per epoch)."
        )


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panels(figure):
    """What is drawn in each heat map, by its title."""
    maps = [axes for axes in figure.axes if any(isinstance(part, QuadMesh) for part in axes.collections)]
    return {axes.get_title(loc="left"): axes.collections[0] for axes in maps if axes.get_title(loc="left")}


def orange(file):
    """Which share of the picture is orange."""
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return np.mean((pixels == ORANGE).all(axis=-1))


class TestLayerDiagnostics:
    def test_a_panel_per_measure_with_layers_and_epochs(self, file, tmp_path):
        flips = lambda layer, epoch: 10.0 ** -(1 + layer % 3)  # noqa: E731
        figure = layer_diagnostics(tmp_path / "d.png", write(file, epochs=4, layers=16, sign_flips=flips))
        drawn = panels(figure)
        assert list(drawn) == ["sign flips", "saturated inputs", "gradient norm", "dead input channels"]
        assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == names(16)
        for mesh in drawn.values():
            assert mesh.get_array().shape == (16, 4)
        shown = drawn["sign flips"].get_array()
        np.testing.assert_allclose(shown, [[flips(layer, 1)] * 4 for layer in range(16)])
        assert texts(figure)[0].startswith("Binary layers learn")
        bars = [axes.get_xlabel().splitlines() for axes in figure.axes if "orange" in axes.get_xlabel()]
        assert [lines[0] for lines in bars] == [
            "share of the signs per epoch",
            "share of the inputs",
            "L2 norm, rms of the steps",
            "share of the input channels",
        ]
        assert orange(tmp_path / "d.png") < 0.01

    @pytest.mark.parametrize("measure", ["sign_flips", "saturated", "dead_channels", "gradient_norm"])
    def test_trouble_is_orange(self, file, tmp_path, measure):
        value = 0.0 if measure in ("sign_flips", "gradient_norm") else 0.97
        figure = layer_diagnostics(tmp_path / "d.png", write(file, **{measure: lambda layer, epoch: value}))
        assert orange(tmp_path / "d.png") > 0.08
        assert not texts(figure)[0].startswith("Binary layers learn")

    def test_histograms_of_first_and_last_weights(self, file, tmp_path):
        figure = layer_diagnostics(tmp_path / "d.png", write(file, epochs=3))
        (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == "magnitude of the latent weights"]
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["before the first step", "after epoch 3", "where quantizers clip the gradient"]
        first, last = (np.argmax(patch.get_data().values) for patch in axes.patches)
        assert (first, last) == (26, 27)

    def test_float_kernels_have_no_histogram(self, file, tmp_path):
        figure = layer_diagnostics(tmp_path / "d.png", write(file, latent=False, sign_flips=None, beyond_clip=None))
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert [title for title in titles if title] == ["saturated inputs", "gradient norm", "dead input channels"]

    def test_float_kernels_that_stand_still_are_orange(self, file, tmp_path):
        stage1 = {"latent": False, "sign_flips": None, "beyond_clip": None}
        for name, change in (("learns", 0.1), ("stands", 0.0)):
            write(file, **stage1, weight_change=lambda layer, epoch, change=change: change)
            layer_diagnostics(tmp_path / f"{name}.png", file)
        assert orange(tmp_path / "learns.png") < 0.01 < 0.08 < orange(tmp_path / "stands.png")

    @pytest.mark.parametrize(("layers", "epochs"), [(16, 1), (33, 400), (1, 2), (120, 3), (3, [5, 10, 12])])
    def test_any_number_of_layers_and_epochs(self, file, tmp_path, layers, epochs):
        figure = layer_diagnostics(tmp_path / "d.png", write(file, epochs=epochs, layers=layers))
        labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
        assert labels == names(layers)[:: -(-layers // 48)]
        ticks = figure.axes[1].get_xticks()
        np.testing.assert_array_equal(ticks, np.round(ticks))
        height = figure.axes[1].get_window_extent().height / figure.dpi * 72
        assert height / len(labels) > 7.5, "names would overlap"

    def test_gaps_and_zeros_do_no_harm(self, file, tmp_path):
        flips = lambda layer, epoch: None if epoch == 2 else 0.0  # noqa: E731
        write(file, epochs=3, sign_flips=flips, gradient_norm=lambda layer, epoch: 0.0)
        figure = layer_diagnostics(tmp_path / "d.png", file)
        shown = panels(figure)["sign flips"].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), [[False, True, False]] * 16)

    def test_nothing_is_overwritten_unless_told(self, file, tmp_path):
        write(file)
        layer_diagnostics(tmp_path / "d.png", file)
        with pytest.raises(ValueError, match="exists already"):
            layer_diagnostics(tmp_path / "d.png", file)
        layer_diagnostics(tmp_path / "d.png", file, overwrite=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["d.png", "diagnostics.jsonl"]

    def test_nothing_to_draw_is_an_error(self, file, tmp_path):
        with pytest.raises(ValueError, match="no epoch"):
            layer_diagnostics(tmp_path / "d.png", write(file, epochs=0))
        assert not (tmp_path / "d.png").exists()
