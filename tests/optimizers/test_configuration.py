"""Configurations, and mistakes in them."""

import json

import pytest
import tensorflow as tf

from larq_ssl import optimizers, schedules
from larq_ssl.optimizers import LARS, SGD, Adam, build_optimizer
from larq_ssl.roles import Role


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_round_trips_its_configuration(name):
    optimizer = (
        build_optimizer(name, schedules.WarmupCosine(0.1, 0.0, 10), 0.02, momentum=0.8)
        if (name.startswith(("sgd", "lars")))
        else build_optimizer(name, 0.1, schedules.WarmupCosine(0.1, 0.2, 10), epsilon=1e-3)
    )
    config = json.loads(json.dumps(tf.keras.optimizers.serialize(optimizer, use_legacy_format=True)))
    again = tf.keras.optimizers.deserialize(config, use_legacy_optimizer=True, use_legacy_format=True)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


def test_configuration_after_training_is_still_plain_data():
    optimizer = Adam(0.25)
    variable = tf.Variable([1.0])
    optimizer.set_roles([(variable, Role.KERNEL)])
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert json.loads(json.dumps(optimizer.get_config()))["learning_rate"] == 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_optimizer("lars", 0.1), "optimizer must be one of adam, .* got 'lars'"),
        (lambda: LARS.preset("moco", 0.1), "preset .* burn, .* got 'moco'"),
        (lambda: LARS(0.1, trust_norm="max"), "trust_norm .* update, sum, got 'max'"),
        (lambda: LARS(0.1, zero_norm="two"), "zero_norm .* 'two'"),
        (lambda: LARS(0.1, momentum=1.0), "momentum .* 1.0"),
        (lambda: LARS(0.1, buffer="lr"), "buffer .* gradient, update, step, got 'lr'"),
        (lambda: LARS(0.1, buffer="gradient", trust_norm="sum"), "needs trust_norm='update'"),
        (lambda: LARS(-0.1), "learning_rate .* -0.1"),
        (lambda: SGD(0.1, weight_decay=-1e-4), "weight_decay .* -0.0001"),
        (lambda: Adam(0.1, decay_roles=["weights"]), "'weights' is not a valid Role"),
        (lambda: Adam(0.1, beta_2=1.5), "beta_2 .* 1.5"),
        (lambda: Adam(0.1, epsilon=-1), "epsilon .* -1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
