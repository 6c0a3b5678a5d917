"""How many binary weights change their sign: the pulse of a binary network."""

import numpy as np
import tensorflow as tf

from larq_ssl.callbacks.whole_epochs import WholeEpochs


class SignFlips(WholeEpochs):
    """Adds the share of kernel signs that changed during an epoch, per binary layer and over all.

    Logged as `sign_flips/<layer>` and `sign_flips`, fractions per epoch. Larq's own `flip_ratio` metric measures
    the same within each step, at the price of a comparison of all kernels in every step. An epoch that was not
    trained in one piece, because the run was stopped in it, is left out.

    # Arguments
        layers: The binary layers, e.g. `encoder.binary_layers`.
    """

    def __init__(self, layers: list[tf.keras.layers.Layer]):
        super().__init__()
        self._layers = layers

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._signs = self._read()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        before, self._signs = self._signs, self._read()
        flipped = [np.count_nonzero(old != new) for old, new in zip(before, self._signs, strict=True)]
        in_one_piece = self.epoch_is_whole() and self._steps == self._reached
        if logs is None or not flipped or not in_one_piece:
            return
        for layer, count, signs in zip(self._layers, flipped, self._signs, strict=True):
            logs[f"sign_flips/{layer.name}"] = count / signs.size
        logs["sign_flips"] = sum(flipped) / sum(signs.size for signs in self._signs)

    def _read(self) -> list[np.ndarray]:
        return [latent_kernel(layer).numpy() >= 0 for layer in self._layers]


def latent_kernel(layer: tf.keras.layers.Layer) -> tf.Variable:
    """The real-valued kernel behind a binary layer's quantized one."""
    kernel = layer.kernel
    return getattr(kernel, "latent_variable", kernel)
