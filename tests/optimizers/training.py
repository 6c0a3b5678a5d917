"""Small trainings, step by step."""

import larq as lq
import numpy as np
import tensorflow as tf

from larq_ssl import schedules
from larq_ssl.optimizers import LARS, MATRIX_ROLES, PRESETS, SGD, Adam, build_optimizer


def run(optimizer, roles, initial, gradients, rates, in_graph=True):
    """Weights after each step, by parameter; the rate is set before each."""
    variables = {name: tf.Variable(initial[name].astype(np.float32)) for name in roles}
    optimizer.set_roles((variables[name], role) for name, role in roles.items())

    def step(values):
        optimizer.apply_gradients([(values[name], variables[name]) for name in roles])

    step = tf.function(step) if in_graph else step
    history = {name: [] for name in roles}
    for index, rate in enumerate(rates):
        optimizer.learning_rate = float(rate)
        step({name: tf.constant(gradients[name][index], tf.float32) for name in roles})
        for name, variable in variables.items():
            history[name].append(variable.numpy())
    return history


def network(quantized=False):
    extra = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"} if quantized else {}
    convolution = lq.layers.QuantConv2D if quantized else tf.keras.layers.Conv2D
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.Input([6, 6, 2]),
            convolution(4, 3, use_bias=False, name="conv", **extra),
            tf.keras.layers.BatchNormalization(name="bn"),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(3, name="dense"),
        ]
    )


def train_step(model, optimizer, replicas=1):
    def step(images, targets):
        with tf.GradientTape() as tape:
            # Inference mode: the statistics of half a batch are not those of the whole.
            loss = tf.reduce_mean(tf.square(model(images, training=False) - targets)) / replicas
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    return step


OPTIMIZERS = {
    "adam": lambda: Adam(schedules.WarmupCosine(0.01, 0.0, 10), 0.1, MATRIX_ROLES),
    "adamw": lambda: build_optimizer("adamw", 0.01, 0.1, decay_roles=MATRIX_ROLES),
    "sgd": lambda: SGD(schedules.WarmupCosine(0.1, 0.0, 10), weight_decay=0.1, decay_roles=MATRIX_ROLES),
    "lars_gradient": lambda: LARS(1.0, weight_decay=0.1, buffer="gradient"),
    **{f"lars_{preset}": lambda preset=preset: LARS.preset(preset, 1.0) for preset in PRESETS},
}


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 6, 6, 2)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
