"""What is exported: a network, perhaps with a classifier on top, from raw pixels to one vector."""

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from larq_ssl.export.baking import bake, float32_policy, in_float32, refusal
from larq_ssl.models import Encoder

PIXELS = ("uint8", "float32")
"""What the pixels of an exported file may be, in 0..255."""


@dataclasses.dataclass(frozen=True)
class Product:
    """A network to be exported.

    # Arguments
        encoder: As it is exported, see `bake`.
        reference: The same, as Keras computes it, in float32.
        head: From features to class scores (logits), or `None`.
        pixels: One of `PIXELS`.
        exported_head: The head as it is exported, where it is another.
        int8: Which layers are in 8 bits, see `int8.PARTS`.
    """

    encoder: Encoder
    reference: Encoder
    head: tf.keras.Model | None
    pixels: str
    exported_head: tf.keras.Model | None = None
    int8: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        """Side of the images."""
        return int(self.encoder.input_shape[1])

    @property
    def binary(self) -> bool:
        """Whether its kernels are binary, and are to be packed."""
        return self.reference.spec.binarization == "full"

    @property
    def classes(self) -> int | None:
        """Number of class scores, `None` if features come out."""
        if self.head is not None:
            return int(self.head.output_shape[-1])
        return self.encoder.spec.classes

    @property
    def dense_layers(self) -> int:
        """Number of dense layers between features and class scores."""
        own = self.encoder.spec.classes is not None
        of_head = self.head.submodules if self.head is not None else ()
        return own + sum(isinstance(layer, tf.keras.layers.Dense) for layer in of_head)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Features, or class scores if there is a classifier, of images `[batch, size, size, 3]`."""
        output = self.encoder(images, training=False)
        head = self.exported_head or self.head
        return output if head is None else head(output, training=False)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Features."""
        return self.reference.with_outputs(self.feature_name)(images, training=False)[self.feature_name]

    def classify(self, images: tf.Tensor) -> tf.Tensor:
        """Class scores."""
        output = self.reference(images, training=False)
        return output if self.head is None else self.head(output, training=False)

    @property
    def feature_name(self) -> str:
        """The named output of the encoder that is its features."""
        return feature_name(self.reference)


def feature_name(encoder: Encoder) -> str:
    """The named output of an encoder that is its features."""
    return "extra_fc" if "extra_fc" in encoder.named_outputs else "pooled"


def make_product(
    encoder: Encoder,
    image_size: int,
    head: tf.keras.Model | None = None,
    pixels: str = "uint8",
    allow_float: bool = False,
) -> Product:
    """Rebuilds a network for export.

    # Arguments
        encoder: The trained network.
        image_size: Side of the images.
        head: A built model from its features to class scores.
        pixels: One of `PIXELS`.
        allow_float: Take a network that cannot be packed.
    # Raises
        ValueError: If the network cannot be packed, the head does not fit it, or it has a classifier already.
    """
    reason = refusal(encoder.spec)
    if reason is not None and not allow_float:
        raise ValueError(f"{reason} Export stage 2, or pass allow_float=True.")
    if pixels not in PIXELS:
        raise ValueError(f"`pixels` must be one of {list(PIXELS)}, not {pixels!r}.")
    if head is not None and encoder.spec.classes is not None:
        raise ValueError(f"`head` must be None: {encoder.spec.name} ends in a classifier of its own.")
    if head is not None and int(head.input_shape[-1]) != encoder.feature_dim:
        raise ValueError(f"`head` must take {encoder.feature_dim} features, not {head.input_shape[-1]}.")
    reference = in_float32(encoder, image_size)
    return Product(bake(reference), reference, None if head is None else _in_float32(head), pixels)


def flat_layers(head: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """The layers of a head, those of the heads inside it among them."""
    for layer in head.layers:
        if isinstance(layer, tf.keras.layers.InputLayer):
            continue
        yield from flat_layers(layer) if isinstance(layer, tf.keras.Model) else (layer,)


def _in_float32(head: tf.keras.Model) -> tf.keras.Sequential:
    """The same head, computing in float32 whatever it was trained in."""
    with float32_policy():
        layers = [tf.keras.Input(head.input_shape[1:])]
        for number, layer in enumerate(flat_layers(head)):
            # Two heads, one behind the other, may have layers of the same name.
            config = {**layer.get_config(), "name": f"layer{number}", "dtype": "float32"}
            layers.append(type(layer).from_config(config))
        twin = tf.keras.Sequential(layers, name=head.name)
    for layer, source in zip(twin.layers, flat_layers(head), strict=True):
        layer.set_weights(source.get_weights())
    return twin
