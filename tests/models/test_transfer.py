import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import models
from larq_ssl.models.transfer import assign_weights, copy_weights, named_weights, rotate_kernels


def _small(binarization="full", name="reactnet_18", **arguments):
    return models.build(name, binarization=binarization, **{"width": 0.125, **arguments})


def _arrays(model):
    return {key: weight.numpy() for key, weight in named_weights(model).items()}


@pytest.fixture(scope="module")
def target():
    """Failed transfers leave it as it is."""
    return _small()


def test_names():
    named = named_weights(_small(classes=3))
    for key in (
        "stem/conv/kernel",
        "stem/bn/moving_variance",
        "stage2/block1/shortcut/conv/kernel",
        "stage1/block1/sign/bias",
        "stage1/block1/act/slope",
        "fc/bias",
    ):
        assert key in named


def test_names_of_a_model_within_a_model():
    inner = tf.keras.Sequential([tf.keras.Input([2]), tf.keras.layers.Dense(2, name="dense1")], name="head")
    outer = tf.keras.Sequential([tf.keras.Input([2]), tf.keras.layers.Dense(2, name="dense1"), inner])
    assert list(named_weights(outer)) == [
        "dense1/kernel",
        "dense1/bias",
        "head/dense1/kernel",
        "head/dense1/bias",
    ]


def test_stage_2_inherits_all_of_stage_1():
    stage1, stage2 = _small("activations", "reactnet_a"), _small("full", "reactnet_a")
    report = copy_weights(stage1, stage2)
    assert str(report) == "31 of 31 binary kernels, 264 of 264 tensors"
    assert report.parameters == stage1.count_params()
    before, after = _arrays(stage1), _arrays(stage2)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)


def test_a_float_network_reports_no_binary_kernels():
    resnets = [models.build("resnet_18", binarization="none", width=0.125) for _ in range(2)]
    assert str(copy_weights(*resnets)) == "100 of 100 tensors"


def _missing(arrays):
    del arrays["stage2/block1/conv/kernel"]


def _unexpected(arrays):
    arrays["stage2/block1/conv/weights"] = arrays["stage2/block1/conv/kernel"]


def _wrong_shape(arrays):
    arrays["stage2/block1/bn/gamma"] = arrays["stage2/block1/bn/gamma"][:-1]


def _not_a_number(arrays):
    arrays["stage2/block1/bn/gamma"] = np.full_like(arrays["stage2/block1/bn/gamma"], np.nan)


def _integers(arrays):
    arrays["stage2/block1/bn/gamma"] = np.ones_like(arrays["stage2/block1/bn/gamma"], dtype=np.int64)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, "'stage2/block1/conv/kernel' of `reactnet_18` is missing"),
        (_unexpected, "'stage2/block1/conv/weights' is unexpected"),
        (_wrong_shape, r"'stage2/block1/bn/gamma' must have the shape \(16,\) .* not \(15,\)"),
        (_not_a_number, "'stage2/block1/bn/gamma' must hold finite"),
        (_integers, "'stage2/block1/bn/gamma' must hold finite"),
    ],
)
def test_all_or_nothing(target, damage, message):
    arrays = {key: array + 1 for key, array in _arrays(target).items()}
    before = _arrays(target)
    damage(arrays)
    with pytest.raises(ValueError, match=message):
        assign_weights(target, arrays)
    for key, array in _arrays(target).items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("other", [dict(width=0.25), dict(stem="cifar")])
def test_another_network_is_refused(target, other):
    with pytest.raises(ValueError, match="must have the shape"):
        copy_weights(_small(**other), target)


def test_turned_kernels_are_not_mixed_with_others(target):
    with pytest.raises(ValueError, match="`rotate_input` is True in `reactnet_18` and False in `reactnet_18`"):
        copy_weights(_small(rotate_input=True), target)


def test_rotate_kernels():
    arrays = {"conv/kernel": np.arange(18.0).reshape(3, 3, 2, 1), "fc/kernel": np.arange(6.0).reshape(3, 2)}
    turned = rotate_kernels(arrays)
    np.testing.assert_array_equal(turned["conv/kernel"], np.rot90(arrays["conv/kernel"], 2))
    np.testing.assert_array_equal(turned["fc/kernel"], arrays["fc/kernel"])
