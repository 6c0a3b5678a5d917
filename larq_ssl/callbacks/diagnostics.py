"""Whether the binary layers learn: measured once per epoch, shown in `diagnostics.png` and TensorBoard."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from larq_ssl.callbacks.binary_probe import BinaryProbe, blocked, is_binary
from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.callbacks.sign_flips import latent_kernel
from larq_ssl.callbacks.whole_epochs import WholeEpochs
from larq_ssl.models import Encoder

# Of the histogram of magnitudes: from 1e-6 to 10, six bins per decade.
_DECADES, _BINS_PER_DECADE = (-6, 1), 6
_TENSORBOARD_BINS = 30
_HISTOGRAM = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "histograms"}, data_class="DATA_CLASS_TENSOR")


class Diagnostics(WholeEpochs):
    r"""Measures the binary layers after every `every` epochs and after the last, without any effect on training.

    Per layer, under the name of the measure:

    - `gradient_norm`: \( \sqrt{\mathrm{mean}_t \|g_t\|_2^2} \) over the steps of the epoch, of the (latent)
      kernel's gradient, before clipping.
    - `saturated`: share of the inputs on which the straight-through gradient is zero, see `binary_probe.blocked`.
    - `dead_channels`: share of the input channels whose sign is the same at all positions of all probe images.
    - `beyond_clip`: share of the latent weights that get no gradient, being beyond the clip of their quantizer.
    - `sign_flips`: what `SignFlips`, which comes before, has put into the logs.
    - `weight_change`: of float kernels, which have no flips, \( \|w_t - w_{t-1}\|_2 / \|w_{t-1}\|_2 \) over the epoch.

    Inputs are those of a fixed batch of images in inference mode. What a network does not have is left out: float
    kernels have no `beyond_clip`, binary ones no `weight_change`, and a float network has nothing at all.
    `diagnostics.jsonl` gets a line per epoch, `{"epoch", "step", measure: {layer: number}, "latent_weights": {"edges",
    "counts"}}`, the last being the histogram of the magnitudes of all latent weights; epoch 0 has only that, from
    before the first step. TensorBoard gets `diagnostics/<measure>/<layer>` and the histograms
    `diagnostics/latent_weights/<layer>`; the epoch's logs get the measures over all layers, as
    `diagnostics/<measure>`.

    # Arguments
        encoder: The network to watch; one of those that the method that is trained (`SelfSupervisedModel`) optimises.
        images: The probe: uint8 `[images, height, width, 3]`.
        file: The `diagnostics.jsonl`; an epoch that is trained again replaces its line.
        tensorboard: Where the event files go.
        every: Distance in epochs.
    # Raises
        ValueError: If `every` is below 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: np.ndarray,
        file: str | os.PathLike[str],
        tensorboard: str | os.PathLike[str],
        every: int = 1,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        layers = encoder.binary_layers
        self._inputs = [layer for layer in layers if is_binary(layer.input_quantizer)]
        self._kernels = [layer for layer in layers if is_binary(layer.kernel_quantizer)]
        self._layers = [layer for layer in layers if layer in self._inputs or layer in self._kernels]
        self._float_kernels = [layer for layer in self._layers if layer not in self._kernels]
        self._before: list[np.ndarray] = []
        self._encoder, self._images, self._every = encoder, images, every
        self._rows, self._folder = EpochRows(file), str(tensorboard)

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self._layers:
            return
        self._probe = BinaryProbe(self._encoder, self._inputs) if self._inputs else None
        self._rows.read()
        self._writer = tf.summary.create_file_writer(self._folder)
        if self._kernels and int(self.model.optimizer.iterations.numpy()) == 0:
            self._write(0, {})

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        steps, done = self.params.get("steps"), int(self.model.optimizer.iterations.numpy())
        # An epoch that is resumed in its middle has no beginning to compare with.
        begins = not steps or done % steps == 0
        self._before = [layer.kernel.numpy() for layer in self._float_kernels] if begins and self._due(epoch) else []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self._layers or not self._due(epoch) or not self.epoch_is_whole():
            return
        logs = {} if logs is None else logs
        measures = {
            **self._gradient_norm(logs),
            **self._of_inputs(logs),
            **self._of_kernels(logs),
            **self._weight_change(logs),
        }
        self._write(epoch + 1, measures)

    def _due(self, epoch: int) -> bool:
        return epoch + 1 == self.params.get("epochs") or (epoch + 1) % self._every == 0

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._layers:
            self._writer.close()

    def _gradient_norm(self, logs: dict) -> dict[str, dict[str, float]]:
        norms = self.model.gradient_norms([layer.kernel for layer in self._layers])
        logs["diagnostics/gradient_norm"] = float(np.linalg.norm(norms))
        return {"gradient_norm": _by_name(self._layers, norms)}

    def _of_inputs(self, logs: dict) -> dict[str, dict[str, float]]:
        if self._probe is None:
            return {}
        inputs = self._probe(self._images)
        logs["diagnostics/saturated"] = float(inputs.saturated.sum() / inputs.entries.sum())
        logs["diagnostics/dead_channels"] = float(inputs.dead.sum() / inputs.channels.sum())
        return {
            "saturated": _by_name(self._inputs, inputs.saturated / inputs.entries),
            "dead_channels": _by_name(self._inputs, inputs.dead / inputs.channels),
        }

    def _of_kernels(self, logs: dict) -> dict[str, dict[str, float]]:
        if not self._kernels:
            return {}
        beyond = [blocked(layer.kernel_quantizer, latent_kernel(layer)).numpy() for layer in self._kernels]
        logs["diagnostics/beyond_clip"] = sum(map(np.count_nonzero, beyond)) / sum(mask.size for mask in beyond)
        measures = {"beyond_clip": _by_name(self._kernels, [mask.mean() for mask in beyond])}
        # An epoch that was resumed in its middle has no flips.
        if all(f"sign_flips/{layer.name}" in logs for layer in self._kernels):
            measures["sign_flips"] = {layer.name: float(logs[f"sign_flips/{layer.name}"]) for layer in self._kernels}
        return measures

    def _weight_change(self, logs: dict) -> dict[str, dict[str, float]]:
        if not self._before:
            return {}
        lengths = np.array([np.linalg.norm(before) for before in self._before])
        after = [layer.kernel.numpy() for layer in self._float_kernels]
        moved = np.array([np.linalg.norm(new - old) for new, old in zip(after, self._before, strict=True)])
        logs["diagnostics/weight_change"] = float(np.linalg.norm(moved) / np.linalg.norm(lengths))
        return {"weight_change": _by_name(self._float_kernels, moved / lengths)}

    def _write(self, epoch: int, measures: Mapping[str, Mapping[str, float]]) -> None:
        weights = {layer.name: latent_kernel(layer).numpy() for layer in self._kernels}
        row: dict = dict(measures)
        if weights:
            counts = np.sum([_magnitudes(values) for values in weights.values()], axis=0)
            row["latent_weights"] = {"edges": [float(f"{edge:.3g}") for edge in _edges()], "counts": counts.tolist()}
        self._rows.put(epoch, int(self.model.optimizer.iterations.numpy()), row)
        with self._writer.as_default(step=epoch):
            for measure, of_layers in measures.items():
                if measure != "sign_flips":  # they are logged, and so shown, as they are
                    for layer, value in of_layers.items():
                        tf.summary.scalar(f"diagnostics/{measure}/{layer}", value)
            for layer, values in weights.items():
                # `tf.summary.histogram` would take 240 bytes per weight.
                counts, edges = np.histogram(values, _TENSORBOARD_BINS)
                bins = np.stack([edges[:-1], edges[1:], counts], axis=1)
                tf.summary.write(f"diagnostics/latent_weights/{layer}", bins, metadata=_HISTOGRAM)
        self._writer.flush()


def _by_name(layers: list[tf.keras.layers.Layer], values: np.ndarray | list) -> dict[str, float]:
    return {layer.name: float(value) for layer, value in zip(layers, values, strict=True)}


def _edges() -> np.ndarray:
    first, last = _DECADES
    return 10.0 ** (np.arange(first * _BINS_PER_DECADE, last * _BINS_PER_DECADE + 1) / _BINS_PER_DECADE)


def _magnitudes(weights: np.ndarray) -> np.ndarray:
    """How many weights have their magnitude in each bin; the first holds all smaller ones, the last all larger."""
    edges = _edges()
    exponents = np.log10(np.maximum(np.abs(weights.ravel()), edges[0]))
    bins = np.floor((exponents - _DECADES[0]) * _BINS_PER_DECADE).astype(np.int64)
    return np.bincount(np.clip(bins, 0, len(edges) - 2), minlength=len(edges) - 1)
