"""The command that measures what binary codes lose."""

import json

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.codes import HammingSearch, code_centre, coded
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.results import read_results
from larq_ssl.models.folder import save_encoder


@pytest.fixture(scope="module")
def encoder(commands):
    folder = commands.folder / "coded" / "encoder"
    if not folder.exists():
        tf.keras.utils.set_random_seed(0)
        save_encoder(models.build("reactnet_short", None, "full", "cifar", 0.125), folder)
    return folder


def test_accuracies_with_features_and_codes_stand_side_by_side(commands, encoder):
    command = ("codes", f"--encoder_dir={encoder}", "--dataset=digits", "--image_size=8")
    done = commands.run(*command)
    assert done.code == 0, done.err
    results = read_results(encoder.parent / "probes" / "codes-mean-digits")
    numbers = {name.removeprefix("codes/mean/digits/"): value for name, value in results.metrics.items()}
    for setting in ("knn_20/top1", "knn_20/top5", "gallery/recall_at_1", "gallery/recall_at_8", "gallery/map"):
        features, codes = numbers[f"{setting}/features"], numbers[f"{setting}/codes"]
        assert 0.05 < codes < 1
        assert features != codes
        assert numbers[f"{setting}/loss"] == pytest.approx(features - codes)
        assert f"codes/mean/digits/{setting}/loss: {features - codes:.4f}" in done.out
    dim = json.loads((encoder / "encoder.json").read_text())["feature_dim"]
    assert numbers["bytes_per_image/features"] == 4 * dim
    assert numbers["bytes_per_image/codes"] == np.ceil(dim / 8)
    assert results.settings["centre"] == "mean"
    network = models.load_encoder(encoder)
    train, test = (extract(network, load_dataset("digits", split), 8) for split in ("train", "val"))
    votes = {}
    for name, part in (("train", train), ("test", test)):
        centre = code_centre(part.features)
        found = knn(coded(train, centre), coded(test, centre), 10, (20,), search=HammingSearch(dim).nearest)
        votes[name] = found["20/top1"]
    assert numbers["knn_20/top1/codes"] == pytest.approx(votes["train"], abs=1e-3)
    assert abs(votes["train"] - votes["test"]) > 2e-3  # else it could not be seen whose centre is taken
    assert "measured earlier" in commands.run(*command).out
    other = commands.run(*command, "--centre=median", "--k=3")
    assert other.code == 0, other.err
    medians = read_results(encoder.parent / "probes" / "codes-median-digits").metrics
    assert medians["codes/median/digits/gallery/map/features"] == numbers["gallery/map/features"]
    assert medians["codes/median/digits/gallery/map/codes"] != numbers["gallery/map/codes"]
    assert "codes/median/digits/knn_3/top1/loss" in medians
