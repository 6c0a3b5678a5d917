import numpy as np
import pytest

from larq_ssl.data import datasets
from larq_ssl.evaluation import robustness as module
from larq_ssl.evaluation.corruptions import PRESETS, SEVERITIES, corrupted
from larq_ssl.evaluation.features import extract
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.robustness import CLASSIFIERS, robustness
from larq_ssl.models import build, named_weights

SIZE, KINDS, PRESET = 16, ["contrast", "gaussian_noise"], PRESETS["cifar_c"]


@pytest.fixture(scope="module")
def probed():
    train, test = (
        datasets.load_dataset("digits", split).subset(np.arange(count), "few")
        for split, count in (("train", 120), ("val", 60))
    )
    encoder = build("resnet_18", stem="cifar", width=0.125, binarization="none")
    return encoder, extract(encoder, train, SIZE), extract(encoder, test, SIZE), test


@pytest.fixture(scope="module")
def found(probed):
    encoder, train, test, images = probed
    seen = []
    before = {name: array.copy() for name, array in arrays(encoder).items()}
    accuracies = robustness(
        encoder, train, test, images, SIZE, list(CLASSIFIERS), PRESET, KINDS,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(done, 10) for done in range(1, 11)]
    after = arrays(encoder)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    return accuracies


def arrays(encoder):
    return {name: np.asarray(weight) for name, weight in named_weights(encoder).items()}


def test_every_condition_has_a_number_for_each_classifier(found):
    wanted = {
        f"{place}/{name}_top1"
        for name in CLASSIFIERS
        for place in (
            "clean/0",
            "corrupted/mean",
            *(f"{kind}/{at}" for kind in KINDS for at in (*SEVERITIES, "mean")),
        )
    }
    assert set(found) == wanted
    assert all(0 <= value <= 1 for value in found.values())


def test_numbers_are_those_of_knn_on_corrupted_images(probed, found):
    encoder, train, test, images = probed
    assert found["clean/0/knn_top1"] == knn(train, test, 10, ks=(20,))["20/top1"]
    changed = extract(encoder, corrupted(images, "gaussian_noise", 4, PRESET, SIZE), SIZE)
    assert found["gaussian_noise/4/knn_top1"] == knn(train, changed, 10, ks=(20,))["20/top1"]


def test_means_are_means(found):
    of = [[found[f"{kind}/{severity}/linear_top1"] for severity in SEVERITIES] for kind in KINDS]
    assert found["contrast/mean/linear_top1"] == pytest.approx(np.mean(of[0]))
    assert found["corrupted/mean/linear_top1"] == pytest.approx(np.mean(of))


def test_the_linear_classifier_learns_and_sees_clean_images_alone(probed, found):
    _, train, _, _ = probed
    assert CLASSIFIERS["linear"](train, 10)(train) > 0.95
    assert found["clean/0/linear_top1"] > 0.3


def test_what_is_known_is_not_measured_again(probed, monkeypatch):
    encoder, train, test, images = probed
    kept = []
    whole = robustness(
        encoder, train, test, images, SIZE, ["knn"], PRESET, ["contrast"], measured=lambda part: kept.append(dict(part))
    )
    assert [len(part) for part in kept] == [1, 2, 3, 4, 5, 6]
    extracted = []
    monkeypatch.setattr(module, "extract", lambda *arguments: extracted.append(1) or extract(*arguments))
    again = robustness(encoder, train, test, images, SIZE, ["knn"], PRESET, ["contrast"], known=kept[3])
    assert again == whole
    assert len(extracted) == 2


def test_mistakes_are_named(probed):
    encoder, train, test, images = probed
    with pytest.raises(ValueError, match="'imagenet_c' is for images of 65"):
        robustness(encoder, train, test, images, SIZE, ["knn"], PRESETS["imagenet_c"])
