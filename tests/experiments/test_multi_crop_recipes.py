"""Recipes of DINO, SwAV and MoCo-v2* have the numbers of SSLight (Table 8, released settings) and of the authors."""

import pytest

from tests.experiments.recipes import NAMES, command_of, parse_all, reach

COMMANDS = ("dino", "swav", "moco_star")
CONVOLUTIONAL = ("mobilenet_v2", "resnet_18", "resnet_34", "resnet_50")
TRANSFORMERS = ("vit_tiny_32", "vit_tiny_16", "vit_small_16")

RUN = {"binarization": "none", "image_size": 224, "schedule": "cosine", "warmup_epochs": 10, "epochs": 200}
RUN |= {"sync_batch_norm": True, "accumulate": 1}
# The policies have their numbers of crops, see tests/input/test_multi_crop_views.py.
POLICY = {"crop_scale": None, "local_crop_scale": None, "local_size": None, "local_views": None}
DINO = {
    **{"student_temperature": 0.1, "teacher_temperature": 0.07, "warmup_teacher_temperature": 0.04},
    **{"momentum": 0.996, "final_momentum": 1.0, "center_momentum": 0.9, "freeze_last_layer_epochs": 1},
    **{"hidden_dim": 2048, "bottleneck_dim": 256, "gradient_clip": None, "warmup_lr": 0},
}
DINO_CONVOLUTIONAL = {
    **{"output_dim": 4096, "head_batch_norm": True, "free_gain": False, "drop_path": 0},
    **{"warmup_teacher_temperature_epochs": 50, "optimizer_flag": "lars_sslight"},
    **{"min_lr": 0.0048, "weight_decay": 1e-6, "final_weight_decay": None},
}
DINO_TRANSFORMER = {
    **{"output_dim": 65536, "head_batch_norm": False, "free_gain": True, "drop_path": 0.1},
    **{"warmup_teacher_temperature_epochs": 30, "optimizer_flag": "adamw"},
    **{"min_lr": 1e-5, "weight_decay": 0.04, "final_weight_decay": 0.4},
}
SWAV = {
    **{"prototypes": 3000, "embedding_dim": 128, "temperature": 0.1, "epsilon": 0.05, "sinkhorn_iterations": 3},
    **{"hidden_dim": None, "freeze_prototypes_epochs": 1, "weight_decay": 1e-6, "gradient_clip": None},
}
ARMS = {"baseline": None, "sslight": 0.4}


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    names = [name for name in NAMES if name.startswith("imagenet") and command_of(name) in COMMANDS]
    return parse_all(commands, names)


def batch_size(encoder: str) -> int:
    return 640 if encoder in ("resnet_50", "vit_small_16") else 1024


def has(told: dict, published: dict) -> None:
    assert {name: told[name] for name in published} == published


@pytest.mark.parametrize("encoder", [*CONVOLUTIONAL, *TRANSFORMERS])
@pytest.mark.parametrize("arm", ARMS)
def test_dino_is_as_published(arm, encoder, parsed):
    transformer = encoder in TRANSFORMERS
    views = {"baseline": "dino_vit" if transformer else "dino_convnet", "sslight": "sslight" + "_vit" * transformer}
    has(
        parsed[f"imagenet/dino_{arm}_{encoder}"],
        {
            **{**RUN, **POLICY, **DINO, **(DINO_TRANSFORMER if transformer else DINO_CONVOLUTIONAL)},
            **{"encoder": encoder, "views": views[arm], "alpha": ARMS[arm], "batch_size": batch_size(encoder)},
            "lr": (5e-4 if transformer else 0.48) * batch_size(encoder) / 256,
        },
    )


@pytest.mark.parametrize("encoder", CONVOLUTIONAL)
@pytest.mark.parametrize(("arm", "views"), [("baseline", "sslight_swav_baseline"), ("sslight", "sslight_swav")])
def test_swav_is_as_published(arm, views, encoder, parsed):
    size = batch_size(encoder)
    has(
        parsed[f"imagenet/swav_{arm}_{encoder}"],
        {
            **{**RUN, **POLICY, **SWAV, "preset": "sslight", "optimizer_flag": "lars_sslight"},
            **{"encoder": encoder, "views": views, "alpha": ARMS[arm], "batch_size": size},
            **{"lr": 0.3 * size / 256, "warmup_lr": 0.075, "min_lr": 0.0048},
            **{"queue_length": 3840 // size * size, "queue_start_epoch": 15},
        },
    )


@pytest.mark.parametrize("encoder", CONVOLUTIONAL)
@pytest.mark.parametrize(("arm", "views"), [("baseline", "dino_convnet"), ("sslight", "sslight")])
def test_moco_star_is_as_published(arm, views, encoder, parsed):
    has(
        parsed[f"imagenet/moco_star_{arm}_{encoder}"],
        {
            **{
                **RUN,
                **POLICY,
                "encoder": encoder,
                "views": views,
                "alpha": ARMS[arm],
                "optimizer_flag": "lars_sslight",
            },
            **{"queue_size": 65536, "momentum": 0.999, "temperature": 0.2, "hidden_dim": 2048, "embedding_dim": 128},
            **{"lr": 0.48 * 1024 / 256, "min_lr": 0.0048, "warmup_lr": 0, "weight_decay": 1e-6, "batch_size": 1024},
            **{"batch_norm_groups": 1, "gradient_clip": None},
        },
    )


def test_moco_star_of_two_views_is_the_baseline_without_local_ones(parsed):
    assert differences(parsed, "moco_star_global_only_mobilenet_v2", "moco_star_baseline_mobilenet_v2") == {
        "local_views": 0
    }


def differences(parsed: dict, name: str, other: str) -> dict:
    told, before = parsed[f"imagenet/{name}"], parsed[f"imagenet/{other}"]
    own = {"recipe", "workdir", "folder", "flagfile"}
    return {flag: value for flag, value in told.items() if flag not in own and value != before[flag]}


def test_dino_as_released(parsed):
    # Learning rate 0.3 for 256 images, 51 x 80 of them; head and warm-up are those that SSLight took over.
    has(
        parsed["imagenet/dino_official_resnet_50"],
        {
            **{**RUN, **POLICY, **DINO, **DINO_CONVOLUTIONAL, "epochs": 800, "output_dim": 60000},
            **{"encoder": "resnet_50", "views": "dino_convnet", "alpha": None},
            **{"batch_size": 4080, "lr": 0.3 * 4080 / 256, "optimizer_flag": "lars_dino"},
        },
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        (
            "swav_official_resnet_50",
            {
                **{"batch_size": 4096, "epochs": 800, "lr": 4.8, "min_lr": 0.0048, "warmup_lr": 0.3},
                "queue_length": 0,
            },
        ),
        (
            "swav_official_resnet_50_256",
            {
                **{"batch_size": 256, "epochs": 200, "lr": 0.6, "min_lr": 0.0006, "warmup_epochs": 0},
                **{"queue_length": 3840, "queue_start_epoch": 15},
            },
        ),
    ],
)
def test_swav_as_released(name, published, parsed):
    plain = {
        "encoder": "resnet_50",
        "views": "swav",
        "alpha": None,
        "preset": "official",
        "optimizer_flag": "lars_swav",
    }
    has(parsed[f"imagenet/{name}"], {**RUN, **POLICY, **SWAV, **plain, **published})


SWEEPS = {
    "table2_crop_scale": {"crop_scale": 0.3, "local_crop_scale": 0.3},
    "table2_pixel_scale": {"views": "sslight", "alpha": pytest.approx(1 / 7)},
    **{f"figure1_global{share:03}": {"crop_scale": share / 100} for share in (8, 20, 30, 40, 50)},
    **{f"figure1_local{share:03}": {"crop_scale": 0.3, "local_crop_scale": share / 100} for share in (20, 40)},
    **{
        f"figure2_scale{share:03}_local{size}": {
            **{"crop_scale": share / 100, "local_crop_scale": share / 100, "local_size": size},
        }
        for share, size in ((14, 80), (14, 103), (14, 112), (30, 112), (30, 144))
    },
    **{
        f"figure3_views{count:02}": {"views": "sslight", "local_views": count, "alpha": pytest.approx(1 / (1 + count))}
        for count in (2, 4, 8, 10)
    },
    **{f"figure3_alpha{share:03}": {"views": "sslight", "alpha": share / 100} for share in (20, 30, 50)},
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_changes_what_its_name_says(name, parsed):
    assert differences(parsed, f"dino_{name}_mobilenet_v2", "dino_baseline_mobilenet_v2") == SWEEPS[name]


def test_every_recipe_is_compared(parsed):
    compared = {f"{command}_{arm}_{encoder}" for command in COMMANDS for arm in ARMS for encoder in CONVOLUTIONAL}
    compared |= {f"dino_{arm}_{encoder}" for arm in ARMS for encoder in TRANSFORMERS}
    compared |= {f"dino_{name}_mobilenet_v2" for name in SWEEPS} | {"moco_star_global_only_mobilenet_v2"}
    compared |= {"dino_official_resnet_50", "swav_official_resnet_50", "swav_official_resnet_50_256"}
    compared |= {f"swav_reactnet_a_stage{stage}" for stage in (1, 2)}
    assert {name.removeprefix("imagenet/") for name in parsed if "imagenet100" not in name} == compared
    assert {name for name in parsed if "imagenet100" in name} == {
        f"imagenet100/swav_reactnet_a_stage{stage}" for stage in (1, 2)
    }


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(
    ("data", "accuracy", "prototypes"), [("imagenet", "49.41", 3000), ("imagenet100", "71.50", 300)]
)
def test_swav_beside_bssl(data, accuracy, prototypes, stage, parsed):
    """On its network and for its epochs; rates of SwAV at half its batch."""
    told = parsed[f"{data}/swav_reactnet_a_stage{stage}"]
    plain = {"encoder": "reactnet_a", "views": "swav", "preset": "official", "optimizer_flag": "lars_swav"}
    rates = {"batch_size": 2048, "lr": 4.8 / 2, "min_lr": 0.0048 / 2, "warmup_lr": 0.3 / 2}
    run = {**RUN, **POLICY, **SWAV, "binarization": ["activations", "full"][stage - 1]}
    has(told, {**run, **plain, **rates, "prototypes": prototypes, "alpha": None, "queue_length": 0})
    assert accuracy in reach(f"{data}/swav_reactnet_a_stage{stage}")
