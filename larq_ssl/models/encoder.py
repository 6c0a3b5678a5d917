"""The encoder: a network from raw images to features, with the same weights at any size."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import larq
import tensorflow as tf

from larq_ssl.layers import Preprocessing, Rotate180, batch_norm

BINARIZATIONS = ("none", "activations", "full")
STEMS = ("imagenet", "cifar")

_Layer = TypeVar("_Layer", bound=tf.keras.layers.Layer)


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """All that is needed to build an encoder again, apart from its weights; see `larq_ssl.models.build`."""

    name: str
    image_size: int | None = None
    binarization: str = "full"
    stem: str = "imagenet"
    width: float = 1.0
    preprocessing: str = "imagenet"
    classes: int | None = None
    rotate_input: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"`name` must be a string, not {self.name!r}.")
        _check_choice("binarization", self.binarization, BINARIZATIONS)
        _check_choice("stem", self.stem, STEMS)
        for argument in ("image_size", "classes"):
            _check_count(argument, getattr(self, argument))
        if isinstance(self.width, bool) or not isinstance(self.width, int | float) or not 0 < self.width <= 16:
            raise ValueError(f"`width` must be a number above 0 and at most 16, not {self.width!r}.")
        if not isinstance(self.rotate_input, bool):
            raise ValueError(f"`rotate_input` must be True or False, not {self.rotate_input!r}.")

    def channels(self, base: int) -> int:
        """`base` channels times the width, as a multiple of 8 and at least 8."""
        return max(8, int(base * self.width / 8 + 0.5) * 8)


class LayerStore:
    """Makes each layer of a network at the first request for its name, and gives out the same one afterwards.

    # Arguments
        blank: Whether kernels start at zero: no time and no random numbers are spent on weights to be loaded.
        synchronized: Whether BatchNormalization takes its statistics over all replicas.
        drop_path: Probability with which the last residual branch is dropped in training.
        binary_compute: Of fully binary convolutions, `float32` or `bfloat16`.
    """

    def __init__(
        self,
        blank: bool = False,
        synchronized: bool = False,
        drop_path: float = 0.0,
        binary_compute: str = "float32",
    ) -> None:
        self._blank, self._synchronized = blank, synchronized
        self.drop_path, self.binary_compute = drop_path, binary_compute
        self._layers: dict[str, tf.keras.layers.Layer] = {}

    def __call__(self, make: Callable[..., _Layer], name: str, **arguments: Any) -> _Layer:
        """The layer called `name`, made by `make(name=name, **arguments)` if it is new.

        Arguments called `..._initializer` are functions that make the initialiser.
        """
        if name not in self._layers:
            if make in (batch_norm, tf.keras.layers.BatchNormalization):
                arguments["synchronized"] = self._synchronized
            for argument in arguments:
                if argument.endswith("_initializer"):
                    arguments[argument] = "zeros" if self._blank else arguments[argument]()
            self._layers[name] = make(name=name, **arguments)
        return self._layers[name]


class _FixedStatistics(LayerStore):
    """The layers of another store; some of its BatchNormalizations never see a batch.

    # Arguments
        store: Makes the layers.
        names: Of the BatchNormalizations that use their moving statistics in training, too.
    """

    def __init__(self, store: LayerStore, names: Collection[str]):
        super().__init__(drop_path=store.drop_path, binary_compute=store.binary_compute)
        self._store, self._names = store, frozenset(names)

    def __call__(self, make: Callable[..., _Layer], name: str, **arguments: Any) -> _Layer:
        layer = self._store(make, name, **arguments)
        if name in self._names and isinstance(layer, tf.keras.layers.BatchNormalization):
            # Said at the call: Keras keeps it in the graph, whatever mode the whole network is called in.
            return functools.partial(layer, training=False)  # type: ignore[return-value]
        return layer


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What sets one network apart from another.

    # Arguments
        trunk: `(images, spec, layers) -> {"stride4": map, ...}`: the last feature map of each stride, finest
            first, as a function of preprocessed images. Or, without `maps`, vectors by other names.
        binarizations: The modes in which the network exists.
        extra_fc: Whether a dense layer with ReLU, as wide as the features, follows the pooling.
        adjustable: Whether it exists with other stems and widths than the published ones.
        maps: Whether features are the average of the trunk's last map; else they are its last vector, and nothing
            in the network is padded, so that images need never be turned.
        drop_path: Whether residual branches can be dropped in training.
    """

    trunk: Callable[[tf.Tensor, EncoderSpec, LayerStore], dict[str, tf.Tensor]]
    binarizations: tuple[str, ...] = BINARIZATIONS
    extra_fc: bool = False
    adjustable: bool = True
    maps: bool = True
    drop_path: bool = False


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class Encoder(tf.keras.Model):
    """A network from images `[batch, height, width, 3]` in 0..255 to features `[batch, feature_dim]`.

    Images may be uint8 or float. Features (or logits, with `classes`) are float32 under any precision policy.

    # Arguments
        architecture: What is built.
        spec: How it is built.
        layers: The layers of another size of the same network, to be shared.
    # Attributes
        spec: The arguments of `larq_ssl.models.build` that make this network again.
        feature_dim: Length of the features.
        named_outputs: Symbolic outputs by name: `"stride4"` to `"stride32"` (the last map of each stride,
            never turned; a `"cifar"` stem has finer ones), `"pooled"`, `"extra_fc"` and `"logits"` where
            there are such, and, of a static size with a last map of 6x6 or more, `"svm"` (that map averaged
            over windows of 6x6, flat). A vision transformer has no maps, but `"block9"` to `"block12"` (the
            class tokens of the last four blocks, after the last norm; `"pooled"` is the last of them) and
            `"class_tokens"` (all four, one after the other).
    """

    def __init__(self, architecture: Architecture, spec: EncoderSpec, layers: LayerStore | None = None) -> None:
        layers = layers or LayerStore()
        inputs = tf.keras.Input((spec.image_size, spec.image_size, 3), dtype="float32", name="image")
        named = _named_outputs(inputs, architecture, spec, layers)
        feature_name = "extra_fc" if architecture.extra_fc else "pooled"
        super().__init__(inputs, named["logits" if spec.classes else feature_name], name=_model_name(spec))
        self.spec = spec
        self.feature_dim = int(named[feature_name].shape[-1])
        # Keras would wrap a dict to track it in checkpoints.
        self.named_outputs: Mapping[str, tf.Tensor] = MappingProxyType(named)
        self._architecture = architecture
        self._layer_store = layers

    def at(self, image_size: int | None) -> "Encoder":
        """The same network, with the same layers, for images of another size (`None`: of any size)."""
        if image_size == self.spec.image_size:
            return self
        spec = dataclasses.replace(self.spec, image_size=image_size)
        return Encoder(self._architecture, spec, self._layer_store)

    def with_fixed_statistics(self, names: Collection[str]) -> "Encoder":
        """The same network, with the same layers, in which some BatchNormalizations never see a batch.

        # Arguments
            names: Of the BatchNormalizations that use their moving statistics in training, too, and leave them as they
                are. Their scales and shifts are still variables that an optimizer may move.
        """
        return Encoder(self._architecture, self.spec, _FixedStatistics(self._layer_store, names))

    def with_outputs(self, *names: str) -> tf.keras.Model:
        """The same network with other outputs: a model from images to a dict of the named outputs."""
        for name in names:
            _check_choice("names", name, tuple(self.named_outputs))
        return tf.keras.Model(self.inputs, {name: self.named_outputs[name] for name in names}, name=self.name)

    @property
    def binary_layers(self) -> list[larq.layers.QuantConv2D]:
        """The layers whose kernels are binary under `binarization="full"`, in order, in every mode."""
        return [layer for layer in self.layers if isinstance(layer, larq.layers.QuantConv2D)]

    def get_config(self) -> dict:
        """The spec, for serialisation."""
        return {"spec": dataclasses.asdict(self.spec)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Encoder":
        """The encoder that `get_config` describes, with fresh weights."""
        from larq_ssl.models.registry import build  # the registry imports the architectures, which import us

        return build(**config["spec"])


def _model_name(spec: EncoderSpec) -> str:
    return spec.name.replace(":", "_")  # no scope of TensorFlow may have a colon


def _named_outputs(
    inputs: tf.Tensor, architecture: Architecture, spec: EncoderSpec, layers: LayerStore
) -> dict[str, tf.Tensor]:
    images = layers(Preprocessing, "preprocessing", mode=spec.preprocessing)(inputs)
    if spec.rotate_input:
        images = layers(Rotate180, "rotate_input", dtype="float32")(images)
    outputs = architecture.trunk(images, spec, layers)
    features = list(outputs.values())[-1]
    if architecture.maps:
        # From here on in float32: it costs next to nothing, and losses and probes see unrounded features.
        features = layers(tf.keras.layers.GlobalAveragePooling2D, "pool", dtype="float32")(features)
    feature_dim = features.shape[-1]
    named = {"pooled": features}
    if architecture.extra_fc:
        features = _dense(features, "extra_fc", feature_dim, layers)
        named["extra_fc"] = features = layers(tf.keras.layers.ReLU, "extra_relu", dtype="float32")(features)
    if spec.classes:
        named["logits"] = _dense(features, "fc", spec.classes, layers)
    if spec.rotate_input:
        outputs = {name: layers(Rotate180, f"{name}/turned_back")(map_) for name, map_ in outputs.items()}
    return {**outputs, **named, **(_svm(list(outputs.values())[-1], layers) if architecture.maps else {})}


def _svm(last_map: tf.Tensor, layers: LayerStore) -> dict[str, tf.Tensor]:
    if min(last_map.shape[1] or 0, last_map.shape[2] or 0) < 6:
        return {}
    average = layers(tf.keras.layers.AveragePooling2D, "svm/pool", pool_size=6, strides=1, dtype="float32")
    flatten = layers(tf.keras.layers.Flatten, "svm/flatten", dtype="float32")
    return {"svm": flatten(average(last_map))}


def _dense(x: tf.Tensor, name: str, units: int, layers: LayerStore) -> tf.Tensor:
    bound = x.shape[-1] ** -0.5  # PyTorch's default
    uniform = functools.partial(tf.keras.initializers.RandomUniform, -bound, bound)
    layer = layers(
        tf.keras.layers.Dense,
        name,
        units=units,
        kernel_initializer=uniform,
        bias_initializer=uniform,
        dtype="float32",
    )
    return layer(x)


def _check_choice(argument: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"`{argument}` must be one of {list(allowed)}, not {value!r}.")


def _check_count(argument: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"`{argument}` must be a positive integer or None, not {value!r}.")
