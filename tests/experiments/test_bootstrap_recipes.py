"""Recipes of BYOL and MSBReg have the numbers of BYOL's code and of MSBReg's supplement, and say what to reach."""

import pytest

from tests.experiments.recipes import NAMES, ROOT, command_of, parse_all, reach

COMMANDS = ("byol", "msbreg")
LARGE = ("imagenet/", "imagenet100/", "stl10/")

RUN = {"schedule": "cosine", "warmup_epochs": 10, "min_lr": 0, "warmup_lr": 0, "optimizer_flag": "lars_byol"}
RUN |= {"sync_batch_norm": True, "accumulate": 1, "gradient_clip": None, "crop_scale": None}
FLOAT = {"binarization": "none"}
SUPPLEMENT = {"encoder": "resnet_18", "hidden_dim": 512, "embedding_dim": 128, "momentum": 0.99, "weight_decay": 1e-5}
MSBREG = {"centroid": "leave_one_out", "singular_values": "sv", "rows": "image", "brownian_per_view": False}
LOSSES = {"views": "msbreg", "num_views": 4, "lambda_s": 0.004, "lambda_b": 0.5, **MSBREG}

# Supplement, Table 5: accuracies by lambda_s, for each lambda_b, with 2, 4 and 8 views.
LAMBDA_B = (0, 0.25, 0.5, 1, 2)
TABLE_5 = {
    0: ("71.9 72.3 72.8 72.3 71.9", "78.2 79.1 79.7 79.2 79.0", "79.5 80.1 80.3 80.3 80.2"),
    0.002: ("72.2 72.4 72.4 72.1 71.9", "78.9 78.8 79.1 79.2 79.2", "79.8 80.2 80.9 81.1 80.8"),
    0.004: ("72.8 72.8 72.4 72.1 71.2", "79.7 80.2 80.4 80.1 79.9", "80.0 80.9 81.6 81.5 81.3"),
    0.01: ("71.1 71.0 71.0 70.7 70.3", "79.3 79.4 79.2 79.2 79.0", "79.9 81.2 81.4 81.1 79.8"),
}
GRID = {
    (views, lambda_s, lambda_b): accuracy
    for lambda_s, columns in TABLE_5.items()
    for views, column in zip((2, 4, 8), columns, strict=True)
    for lambda_b, accuracy in zip(LAMBDA_B, column.split(), strict=True)
}


def name_of(views: int, lambda_s: float, lambda_b: float) -> str:
    return f"imagenet100/msbreg_table5_k{views}_s{round(1000 * lambda_s):03}_b{round(100 * lambda_b):03}"


@pytest.fixture(scope="module")
def parsed(commands) -> dict[str, dict]:
    return parse_all(commands, [name for name in NAMES if name.startswith(LARGE) and command_of(name) in COMMANDS])


def has(told: dict, published: dict) -> None:
    assert {name: told[name] for name in published} == published


@pytest.mark.parametrize(
    ("epochs", "base", "decay", "momentum", "accuracy"),
    [(100, 0.45, 1e-6, 0.99, "nothing"), (300, 0.3, 1e-6, 0.99, "72.5"), (1000, 0.2, 1.5e-6, 0.996, "74.3")],
)
def test_byol_is_as_released(epochs, base, decay, momentum, accuracy, parsed):
    name = f"imagenet/byol_resnet_50_{epochs}ep"
    heads = {"hidden_dim": 4096, "embedding_dim": 256, "head_norm": "batch", "uniformity_weight": 0}
    run = {"encoder": "resnet_50", "image_size": 224, "views": "byol", "epochs": epochs, "batch_size": 4096}
    has(parsed[name], {**RUN, **FLOAT, **heads, **run, "weight_decay": decay, "momentum": momentum})
    assert parsed[name]["lr"] == pytest.approx(base * 4096 / 256)
    assert accuracy in reach(name)


@pytest.mark.parametrize("setting", GRID, ids=lambda setting: name_of(*setting).split("table5_")[1])
def test_the_grid_of_msbreg_is_that_of_table_5(setting, parsed):
    views, lambda_s, lambda_b = setting
    name = name_of(*setting)
    weights = {"num_views": views, "lambda_s": lambda_s, "lambda_b": lambda_b}
    run = {"image_size": 224, "epochs": 300, "batch_size": 512, "head_norm": "batch"}
    has(parsed[name], {**RUN, **FLOAT, **SUPPLEMENT, **LOSSES, **weights, **run})
    assert parsed[name]["lr"] == pytest.approx(0.4 * 512 / 256 * views)
    assert reach(name) == f"linear evaluation {GRID[setting]} %"


def test_the_whole_grid_has_recipes(parsed):
    assert len(GRID) == 60
    assert {name for name in parsed if "table5" in name} == {name_of(*setting) for setting in GRID}


@pytest.mark.parametrize(
    ("name", "base", "epochs", "own", "accuracy"),
    [
        ("imagenet100/msbreg_resnet_18", 0.4, 320, {}, "80.4"),
        ("imagenet100/msbreg_k8_resnet_18", 0.4, 320, {"num_views": 8}, "81.6"),
        ("stl10/msbreg_resnet_18", 0.5, 320, {"lambda_b": 5e-2}, "91.4"),
        ("stl10/msbreg_layer_norm_b5e4_resnet_18", 0.5, 320, {"lambda_b": 5e-4, "head_norm": "layer"}, "80.7"),
        ("stl10/msbreg_layer_norm_b5e3_resnet_18", 0.5, 320, {"lambda_b": 5e-3, "head_norm": "layer"}, "82.3"),
        ("stl10/msbreg_layer_norm_b5e2_resnet_18", 0.5, 320, {"lambda_b": 5e-2, "head_norm": "layer"}, "78.7"),
        (
            *("stl10/msbreg_byol_brownian_layer_norm_resnet_18", 0.5, 320),
            *({"num_views": 2, "lambda_s": 0, "lambda_b": 5e-3, "head_norm": "layer"}, "75.3"),
        ),
        (
            *("imagenet/msbreg_resnet_50", 0.15, 300),
            *({"encoder": "resnet_50", "hidden_dim": 2048, "embedding_dim": 256}, "41.8 box AP"),
        ),
    ],
)
def test_msbreg_is_that_of_the_supplement(name, base, epochs, own, accuracy, parsed):
    told = parsed[name]
    size, batch = (96, 256) if name.startswith("stl10") else (224, 512)
    run = {"image_size": size, "epochs": epochs, "batch_size": batch, "head_norm": "batch"}
    has(told, {**RUN, **FLOAT, **SUPPLEMENT, **LOSSES, **run, **own})
    assert told["lr"] == pytest.approx(base * batch / 256 * told["num_views"])
    assert accuracy in reach(name)


@pytest.mark.parametrize(
    ("name", "batch", "own", "accuracy"),
    [
        ("imagenet100/byol_resnet_18", 512, {}, "71.9"),
        ("imagenet100/byol_uniformity_resnet_18", 512, {"uniformity_weight": 0.1}, "72.1"),
        ("stl10/byol_resnet_18", 256, {}, "89.5"),
        ("stl10/byol_layer_norm_resnet_18", 256, {"head_norm": "layer"}, "10.6"),
        ("stl10/byol_layer_norm_1024_resnet_18", 1024, {"head_norm": "layer"}, "10.6"),
    ],
)
def test_byol_as_msbreg_compares_itself_with_it(name, batch, own, accuracy, parsed):
    plain = {"views": "byol", "head_norm": "batch", "uniformity_weight": 0, "epochs": 320, "batch_size": batch}
    has(parsed[name], {**RUN, **FLOAT, **SUPPLEMENT, **plain, **own})
    base = 0.5 if name.startswith("stl10") else 0.4
    # Of two views.
    assert parsed[name]["lr"] == pytest.approx(base * batch / 256 * 2)
    assert accuracy in reach(name)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(
    ("data", "accuracy", "base", "heads"),
    [
        ("imagenet", "49.25", 0.15, {"hidden_dim": 2048, "embedding_dim": 256}),
        ("imagenet100", "71.08", 0.4, {"hidden_dim": 512, "embedding_dim": 128}),
    ],
)
def test_the_rows_of_bssl_are_in_two_stages(data, accuracy, base, heads, stage, parsed):
    byol, msbreg = (parsed[f"{data}/{method}_reactnet_a_stage{stage}"] for method in COMMANDS)
    for told in (byol, msbreg):
        has(told, {**RUN, "encoder": "reactnet_a", "epochs": 200, "strategy": "mirrored", "image_size": 224})
        # That of BYOL for 300 epochs.
        has(told, {"momentum": 0.99, "head_norm": "batch"})
        assert told["binarization"] == ("activations", "full")[stage - 1]
    has(byol, {"views": "byol", "batch_size": 2048, "hidden_dim": 4096, "embedding_dim": 256, "weight_decay": 1e-6})
    assert byol["lr"] == pytest.approx(0.3 * 2048 / 256)
    has(msbreg, {**LOSSES, **heads, "batch_size": 512, "weight_decay": 1e-5})
    assert msbreg["lr"] == pytest.approx(base * 512 / 256 * 4)
    assert accuracy in reach(f"{data}/byol_reactnet_a_stage{stage}")


def test_every_large_recipe_is_compared(parsed):
    rest = {name for name in parsed if "table5" not in name and "reactnet_a" not in name}
    assert len(rest) == 3 + 8 + 5
    assert len(parsed) == len(rest) + 60 + 8


@pytest.mark.parametrize("folder", ["cifar10", "digits"])
def test_small_recipes_train_alike(folder):
    """On as many images, with the same heads; what differs is what the methods differ in."""
    for arm in ("", "_stage1", "_stage2", *(("_one_stage",) if folder == "cifar10" else ())):
        byol, msbreg = ((ROOT / folder / f"{method}{arm}.flags").read_text().splitlines() for method in COMMANDS)
        flags = [{line for line in lines if line.startswith("--")} for lines in (byol, msbreg)]
        names = [{line.partition("=")[0] for line in one - other} for one, other in (flags, flags[::-1])]
        assert names[0] <= {"--views"}
        assert names[1] <= {"--views", "--num_views", "--lambda_s", "--lambda_b"}
        assert "--num_views=4" in flags[1]
