"""Recipes of supervised training, fine-tuning and distillation have the published numbers."""

import pytest

from tests.experiments.recipes import NAMES, command_of, parse_all

COMMANDS = ("supervised", "fine_tune", "distill")
PARTS = {"1percent": "imagenet2012_subset/1pct", "10percent": "imagenet2012_subset/10pct", "100percent": "imagenet2012"}
EPOCHS = {"1percent": 60, "10percent": 30, "100percent": 30}


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    return parse_all(commands, [name for name in NAMES if command_of(name) in COMMANDS])


def has(told: dict, published: dict) -> None:
    for name, value in published.items():
        assert told[name] == (pytest.approx(value) if isinstance(value, float) else value), name


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("encoder", "batch_size", "lr"), [("reactnet_a", 256, 1.25e-3), ("reactnet_18", 512, 2.5e-3)])
def test_reactnet_is_as_released(encoder, batch_size, lr, stage, parsed):
    told = parsed[f"imagenet/supervised_{encoder}_stage{stage}"]
    has(
        told,
        {
            **{"encoder": encoder, "stage": stage, "batch_size": batch_size, "lr": lr, "epochs": 128},
            **{"optimizer_flag": "adam_reactnet", "weight_decay": 1e-5 if stage == 1 else 0.0, "temperature": 1.0},
            **{"views": "crop_flip", "image_size": 224, "label_smoothing": 0.0, "sync_batch_norm": False},
        },
    )
    # A line per epoch, stepped before the epoch: the first is below its peak, the last at zero.
    assert told["rates"] == pytest.approx([lr * (1 - 1 / 128), 0.0])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("encoder", "lr"), [("simclr_resnet_50", 0.16), ("simclr_resnet_50_sk", 0.064)])
def test_simclr_is_as_published(encoder, lr, part, parsed):
    has(
        parsed[f"imagenet/fine_tune_{encoder}_{part}"],
        {
            **{"dataset": PARTS[part], "encoder": encoder, "preprocessing": "unit", "views": "simclr_crop_flip"},
            **{"head_layer": 0 if part == "100percent" else 1, "classifier_init": "zeros", "label_smoothing": 0.0},
            **{"optimizer_flag": "lars_simclr", "lr": lr, "weight_decay": 0.0, "warmup_epochs": 0.0, "min_lr": 0.0},
            **{"schedule": "simclr", "epochs": EPOCHS[part], "batch_size": 1024, "sync_batch_norm": True},
        },
    )


@pytest.mark.parametrize("part", ["1percent", "10percent"])
@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet_18", "resnet_34"])
def test_sslight_is_as_released(encoder, part, parsed):
    has(
        parsed[f"imagenet/fine_tune_sslight_{encoder}_{part}"],
        {
            **{"dataset": PARTS[part], "encoder": encoder, "head_layer": 2, "which": "student"},
            **{"classifier_init": "pytorch", "optimizer_flag": "sgd_nesterov", "lr": 0.12, "min_lr": 1e-6},
            **{"weight_decay": 0.0, "schedule": "epoch_cosine", "epochs": EPOCHS[part], "batch_size": 1024},
            **{"warmup_epochs": 0.0, "sync_batch_norm": True, "views": "crop_flip"},
        },
    )


@pytest.mark.parametrize(
    ("name", "lr", "classifier_lr", "weight_decay"),
    [
        ("swav_resnet_50_1percent", 0.02, 5.0, 0.0),
        ("swav_resnet_50_10percent", 0.01, 0.2, 0.0),
        ("bssl_reactnet_a_1percent", 0.01, 0.1, 5e-4),
        ("bssl_reactnet_a_10percent", 0.01, 0.1, 5e-4),
    ],
)
def test_rates_of_trunk_and_classifier_are_as_released(name, lr, classifier_lr, weight_decay, parsed):
    told = parsed[f"imagenet/fine_tune_{name}"]
    has(
        told,
        {
            **{"head_layer": 0, "optimizer_flag": "sgd", "lr": lr, "classifier_lr": classifier_lr},
            **{"weight_decay": weight_decay, "schedule": "step", "epochs": 20, "batch_size": 256},
        },
    )
    assert told["rates"] == pytest.approx([lr, lr * 0.2**2])


@pytest.mark.parametrize(
    ("name", "preset", "temperature", "encoder", "width"),
    [
        ("simclr_resnet_50", "big_to_small", 1.0, "simclr_resnet_50", 1.0),
        ("simclr_resnet_50_2x_sk", "big_to_small", 1.0, "simclr_resnet_50_sk", 2.0),
        ("self_simclr_resnet_152_3x_sk", "self", 0.1, "simclr_resnet_152_sk", 3.0),
    ],
)
def test_distillation_is_as_published(name, preset, temperature, encoder, width, parsed):
    has(
        parsed[f"imagenet/distill_{name}"],
        {
            **{"preset": preset, "temperature": temperature, "alpha": 1.0, "encoder": encoder, "width": width},
            **{"preprocessing": "unit", "views": "simclr_crop_flip", "optimizer_flag": "lars_simclr", "lr": 6.4},
            **{"weight_decay": 1e-4, "warmup_epochs": 20.0, "schedule": "simclr", "epochs": 400, "batch_size": 4096},
            "sync_batch_norm": True,
        },
    )


@pytest.mark.parametrize("part", ["1percent", "10percent"])
def test_small_recipes_of_the_same_share_have_the_same_labels(part, parsed):
    names = [f"fine_tune_{part}_layer{layer}" for layer in range(3)]
    ours = [parsed[f"cifar10/{name}"] for name in (f"supervised_{part}", *names)]
    chosen = {
        tuple(told[flag] for flag in ("dataset", "max_train_images", "label_fraction", "label_seed")) for told in ours
    }
    assert len(chosen) == 1
    assert chosen.pop()[2] == (0.01 if part == "1percent" else 0.1)
    assert [told["head_layer"] for told in ours[1:]] == [0, 1, 2]
    # As many images, the same optimizer: what differs is where it begins.
    for flag in ("epochs", "batch_size", "optimizer_flag", "lr", "schedule", "weight_decay", "views", "crop_scale"):
        assert len({told[flag] for told in ours}) == 1, flag
