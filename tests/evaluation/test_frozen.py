"""A probed encoder stays as it was to the byte, and its features do not depend on the size of batches."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.data import load_dataset, pipeline
from larq_ssl.evaluation import calibrate_batch_norm, extract
from larq_ssl.evaluation.corruptions import PRESETS
from larq_ssl.evaluation.examples import examples
from larq_ssl.evaluation.knn import knn, knn_leave_one_out
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.linear_augmented import linear_augmented
from larq_ssl.evaluation.linear_settings import LinearPreset
from larq_ssl.evaluation.low_shot import low_shot
from larq_ssl.evaluation.retrieval import retrieval
from larq_ssl.evaluation.robustness import robustness
from larq_ssl.evaluation.svm import svm
from larq_ssl.evaluation.svm_machines import svm_preset
from larq_ssl.models.transfer import named_weights

SIZE = 16
NETWORKS = {"none": "resnet_18", "full": "reactnet_18"}


@pytest.fixture(scope="module")
def data():
    train, test = load_dataset("digits", "train"), load_dataset("digits", "val")
    return train.subset(np.arange(120), "some"), test.subset(np.arange(200), "some")


@pytest.fixture(scope="module", params=NETWORKS)
def encoder(request, data):
    tf.keras.utils.set_random_seed(1)
    network = models.build(NETWORKS[request.param], binarization=request.param, stem="cifar", width=0.125)
    return calibrate_batch_norm(network, pipeline.image_batches(data[0], SIZE, 120))


def state(encoder):
    return {name: weight.numpy().tobytes() for name, weight in named_weights(encoder).items()}


def probe_linear(encoder, train, test):
    preset = LinearPreset("test", (0.1, 1.0), epochs=2, batch_size=32)
    linear(extract(encoder, train, SIZE), extract(encoder, test, SIZE), 10, preset)


def probe_augmented(encoder, train, test):
    preset = LinearPreset("test", (0.1, 1.0), epochs=2, batch_size=32, views="digits_plain", interpolation=None)
    linear_augmented(encoder, train, extract(encoder, test, SIZE), SIZE, preset)


def probe_knn(encoder, train, test):
    features = extract(encoder, test, SIZE)
    knn(extract(encoder, train, SIZE), features, 10)
    knn_leave_one_out(features, 10)


def probe_svm(encoder, train, test):
    train, test = (examples(extract(encoder, part, SIZE, view="voc07"), part) for part in (train, test))
    preset = svm_preset("pooled", costs=(1.0,))
    svm(train, test, preset, jobs=1)
    low_shot(train, test, preset, ks=(1,), samples=1, jobs=1)


def probe_retrieval(encoder, train, test):
    retrieval(extract(encoder, test, SIZE), extract(encoder, train, SIZE), 10)


def probe_robustness(encoder, train, test):
    features = [extract(encoder, part, SIZE) for part in (train, test)]
    robustness(encoder, *features, test, SIZE, ["knn", "linear"], PRESETS["cifar_c"], kinds=["contrast"])


PROBES = (probe_linear, probe_augmented, probe_knn, probe_svm, probe_retrieval, probe_robustness)


@pytest.mark.parametrize("probe", PROBES)
def test_weights_and_statistics_are_left_alone(encoder, data, probe):
    before = state(encoder)
    assert any("moving_variance" in name for name in before)
    probe(encoder, *data)
    assert state(encoder) == before
    # The comparison sees what a forward pass in training mode does.
    encoder(data[0].images[:8], training=True)
    moved = {name for name, weight in state(encoder).items() if weight != before[name]}
    assert moved
    assert all("moving" in name for name in moved)


def test_features_do_not_depend_on_the_size_of_batches(encoder, data):
    _, test = data
    whole = extract(encoder, test, SIZE, batch_size=200).features
    assert np.abs(whole).max() > 0.1
    for batch_size in (1, 7, 64):
        difference = np.abs(extract(encoder, test, SIZE, batch_size).features - whole).max(axis=1)
        # On a binary network a rounded sum near zero may change a sign, and with it the image's features.
        equal = np.mean(difference <= 1e-5 * max(1.0, np.abs(whole).max()))
        assert equal == 1.0 if encoder.spec.binarization == "none" else equal >= 0.99
