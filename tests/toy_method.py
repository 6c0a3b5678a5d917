"""A method that trains in milliseconds, with all that a run has to save: BatchNorm, a queue, slots."""

import numpy as np
import tensorflow as tf

from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.optimizers import Adam
from larq_ssl.queue import KeyQueue


class Toy(SelfSupervisedModel):
    """Pulls the outputs of `student` to a target."""

    term_names = ("loss", "size")

    def __init__(self, units: int = 4, networks: dict | None = None):
        inputs = tf.keras.Input([3])
        hidden = tf.keras.layers.Dense(8, name="hidden")(inputs)
        outputs = tf.keras.layers.Dense(units, name="out")(tf.keras.layers.BatchNormalization(name="bn")(hidden))
        super().__init__({"student": tf.keras.Model(inputs, outputs), **(networks or {})}, ("student",))
        self.queue = KeyQueue(12, units)

    def loss_terms(self, batch):
        self._outputs = self.networks["student"](batch["x"], training=True)
        return {
            "loss": tf.reduce_mean((self._outputs - batch["y"]) ** 2, axis=-1),
            "size": tf.reduce_mean(tf.abs(self._outputs)),
        }

    def after_update(self):
        self.queue.enqueue(self._outputs)


def compiled(seed: int = 0, units: int = 4, method: type[Toy] = Toy, learning_rate=0.01) -> Toy:
    """A method as a run makes it: with all variables of the optimizer, so that a checkpoint can be restored."""
    tf.keras.utils.set_random_seed(seed)
    model = method(units)
    model.compile(optimizer=Adam(learning_rate))
    model.optimizer._create_all_weights(model.optimized_variables)
    return model


def batches(units: int = 4, start_step: int = 0) -> tf.data.Dataset:
    """Endless batches of four examples; batch `s` is a function of `s`."""

    def batch(step):
        x = tf.random.stateless_normal([4, 3], tf.stack([step, 1]))
        return {"x": x, "y": tf.random.stateless_normal([4, units], tf.stack([step, 2]))}

    return tf.data.Dataset.range(start_step, 2**31).map(batch)


def fill(model: Toy, iterations: int) -> None:
    """Gives every variable values of its own, and the optimizer a number of updates."""
    rng = np.random.default_rng(iterations)
    for variable in (*model.variables, *model.optimizer.variables()):
        if variable.dtype.is_floating:
            variable.assign(rng.random(variable.shape))
    model.queue.pointer.assign(iterations % 3 * 4)
    model.optimizer.iterations.assign(iterations)


def state(model: Toy) -> dict[str, np.ndarray]:
    """All variables by name."""
    variables = [*model.variables, *model.optimizer.variables()]
    return {f"{number} {variable.name}": variable.numpy() for number, variable in enumerate(variables)}
