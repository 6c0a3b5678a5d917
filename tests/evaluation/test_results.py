import json
import os
import re
import subprocess

import pytest

from larq_ssl.evaluation import results
from larq_ssl.evaluation.results import named, provenance, read_results, write_results

SETTINGS = {"encoder_hash": "0123456789abcdef", "image_size": 32, "seed": 0, "ks": (10, 20)}
KNN = {"knn/dino/digits/20/top1": 0.95}


def test_names():
    assert named("linear", "bssl", "digits", {"last/top1": 0.5}) == {"linear/bssl/digits/last/top1": 0.5}
    assert named("knn", "dino", "imagenet2012/5.1", {"20/top1": 1}) == {"knn/dino/imagenet2012_5.1/20/top1": 1}
    with pytest.raises(ValueError, match="`preset`"):
        named("knn", "", "digits", {})


def test_round_trip_with_provenance(tmp_path):
    path = write_results(tmp_path / "probe", KNN, SETTINGS)
    assert path == tmp_path / "probe" / "results.json"
    read = read_results(tmp_path / "probe")
    assert read.metrics == KNN
    assert read.settings["encoder_hash"] == "0123456789abcdef"
    assert read.settings["ks"] == [10, 20]
    assert set(read.settings["versions"]) == {"larq_ssl", "tensorflow", "keras", "larq", "numpy"}
    assert "commit" in read.settings
    assert os.listdir(tmp_path / "probe") == ["results.json"]


def test_equal_settings_add_up_and_others_are_refused(tmp_path):
    write_results(tmp_path, KNN, SETTINGS)
    more = {"linear/bssl/digits/last/top1": 0.97, "knn/dino/digits/20/top1": 0.96}
    write_results(tmp_path, more, SETTINGS)
    assert read_results(tmp_path).metrics == more
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match="image_size=32.*64"):
        write_results(tmp_path, KNN, {**SETTINGS, "image_size": 64})
    with pytest.raises(ValueError, match="which=None.*'ema'"):
        write_results(tmp_path, KNN, {**SETTINGS, "which": "ema"})
    assert (tmp_path / "results.json").read_bytes() == before
    write_results(tmp_path, KNN, {**SETTINGS, "image_size": 64}, overwrite=True)
    assert read_results(tmp_path).metrics == KNN
    assert read_results(tmp_path).settings["image_size"] == 64


@pytest.mark.parametrize(
    ("metrics", "settings", "match"),
    [
        ({"knn/top1": 0.5}, SETTINGS, "<protocol>/<preset>"),
        ({"knn//digits/20/top1": 0.5}, SETTINGS, "<protocol>/<preset>"),
        ({"knn/dino/digits/20/top1": float("nan")}, SETTINGS, "finite"),
        (KNN, {"seed": 0, "image_size": 32}, "'encoder_hash' is missing"),
        (KNN, {**SETTINGS, "lr": float("inf")}, "JSON"),
    ],
)
def test_bad_results_are_not_written(tmp_path, metrics, settings, match):
    with pytest.raises(ValueError, match=match):
        write_results(tmp_path, metrics, settings)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"metrics": {"a": 1}, "settings": {}}', '{"metrics": {}'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json' is not a results file"):
        read_results(tmp_path)


def test_commit_is_that_of_the_package_or_none(tmp_path, monkeypatch):
    commit = provenance()["commit"]
    assert commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)
    # Installed inside of somebody else's repository.
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-mx"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    assert provenance()["commit"] is None
    json.dumps(provenance())
