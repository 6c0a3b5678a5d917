"""The published settings, number by number, and what is refused."""

import types

import numpy as np
import pytest

from larq_ssl.evaluation.linear_presets import PRESETS, linear_preset
from larq_ssl.evaluation.linear_settings import LinearPreset

# Batch, epochs, optimizer, schedule, peak rates of one and of the sweep, smallest rate, decay, encoder, views.
PUBLISHED = {
    "bssl": (256, 100, "sgd", "steps", (0.001, 0.01, 0.1, 1, 10, 30), 0, 0, "student", "bilinear"),
    "places205": (256, 28, "sgd", "steps", (0.01,), 0, 1e-5, "student", "bilinear"),
    "msbreg_transfer": (256, 84, "sgd", "steps", (0.2,), 0, 1e-4, "student", "bilinear"),
    "s2bnn": (256, 100, "sgd", "steps", (0.05, 0.1, 0.5, 1, 5, 10, 20, 30), 0, 0, "student", "bilinear"),
    "moco": (256, 100, "sgd", "steps", (30,), 0, 0, "student", "bilinear"),
    "swav": (256, 100, "sgd", "epoch_cosine", (0.3,), 0, 1e-6, "student", "bilinear"),
    "sslight": (4096, 100, "lars", "epoch_cosine", (0.8,), 1e-6, 0, "student", "bicubic"),
    "dino": (1024, 100, "sgd", "epoch_cosine", (0.004,), 0, 0, "ema", "bilinear"),
    "simclr": (4096, 90, "nesterov", "cosine", (1.6,), 0, 1e-6, "student", "bicubic"),
    "byol": (1024, 80, "nesterov", "cosine", (0.8,), 0, 0, "student", "bicubic"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_recipes(name):
    preset = PRESETS[name]
    (view,) = preset.policy(224).views
    assert (preset.momentum, preset.init_std, preset.normalise) == (0.9, 0.01, False)
    assert (view.size, view.crop_scale, view.flip, view.jitter_probability) == (224, (0.08, 1.0), 0.5, 0)
    assert view.family == {"simclr": "simclr", "byol": "byol"}.get(name, "torchvision")
    assert preset.evaluation == ("simclr" if name == "simclr" else "torchvision")
    told = (preset.batch_size, preset.epochs, preset.optimizer, preset.schedule, preset.peak_rates)
    *numbers, interpolation = PUBLISHED[name]
    np.testing.assert_allclose(told[-1], numbers[4])
    assert (*told[:-1], preset.min_learning_rate, preset.weight_decay, preset.which) == (*numbers[:4], *numbers[5:])
    assert view.interpolation == interpolation
    assert PUBLISHED.keys() == PRESETS.keys()


def test_drops_are_at_the_published_epochs():
    drops = {60: "bssl moco s2bnn", 80: "bssl moco s2bnn", 7: "places205", 14: "places205", 21: "places205"}
    for epoch, names in drops.items():
        for name in names.split():
            before, after = (PRESETS[name].rates_of(e, 3) for e in (epoch - 1, epoch))
            np.testing.assert_allclose(after, before / 10, rtol=1e-6)
            assert before.shape == (3, len(PRESETS[name].learning_rates))
    assert PRESETS["moco"].rates_of(99, 1) == np.float32(0.3)
    np.testing.assert_allclose(PRESETS["places205"].rates_of(27, 1), 1e-5, rtol=1e-5)


def test_cosines_go_by_epoch_or_by_step():
    sslight = PRESETS["sslight"]
    np.testing.assert_allclose(sslight.rates_of(50, 4), np.full((4, 1), (0.8 + 1e-6) / 2), rtol=1e-6)
    # The table per step that SSLight reads once per epoch.
    steps = np.arange(100 * 4)
    table = 1e-6 + (0.8 - 1e-6) / 2 * (1 + np.cos(np.pi * steps / len(steps)))
    found = [sslight.rates_of(epoch, 4)[0, 0] for epoch in range(100)]
    np.testing.assert_allclose(found, table[::4], rtol=1e-5)
    byol = np.concatenate([PRESETS["byol"].rates_of(epoch, 5) for epoch in range(80)])[:, 0]
    np.testing.assert_allclose(byol, 0.4 * (1 + np.cos(np.pi * np.arange(400) / 400)), atol=1e-7)


def test_rates_are_scaled_to_the_batch_and_their_end_is_not():
    preset = linear_preset("sslight", batch_size=128)
    assert preset.peak_rates == (0.025,)
    assert preset.learning_rates == (0.05,)
    assert preset.min_learning_rate == 1e-6
    assert linear_preset("swav", batch_size=128).peak_rates == (0.3,)


def test_a_transformer_has_settings_and_features_of_its_own():
    vit = types.SimpleNamespace(named_outputs=("block12", "class_tokens", "pooled"))
    resnet = types.SimpleNamespace(named_outputs=("stride32", "pooled"))
    preset = linear_preset("sslight", transformer=True)
    assert (preset.optimizer, preset.peak_rates, preset.batch_size) == ("sgd", (0.04,), 1024)
    # The released code's end; the paper's Table 8 has 1e-5.
    assert (preset.min_learning_rate, preset.schedule, preset.epochs) == (1e-6, "epoch_cosine", 100)
    assert linear_preset("sslight", transformer=True, batch_size=256).peak_rates == (0.01,)
    assert linear_preset("moco", transformer=True) == PRESETS["moco"]
    for name in PRESETS:
        takes = name in ("sslight", "dino")
        assert PRESETS[name].output(vit) == ("class_tokens" if takes else None)
        assert PRESETS[name].output(resnet) is None


def test_mistakes_are_named():
    for changes, message in (
        ({"epoch": 3}, "no field 'epoch'"),
        ({"learning_rates": (0.1, -1.0)}, "`learning_rates`"),
        ({"learning_rates": (0.1, 0.1)}, "`learning_rates`"),
        ({"optimizer": "adam"}, "`optimizer` must be one of sgd, nesterov, lars, got 'adam'"),
        ({"schedule": "line"}, "`schedule` must be one of"),
        ({"min_learning_rate": 0.1}, "`min_learning_rate`.* 0.001, got 0.1"),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_preset("bssl", **changes)
    with pytest.raises(ValueError, match="policy is 'typo'"):
        LinearPreset("test", (1.0,), views="typo").policy(32)
