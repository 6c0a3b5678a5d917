"""An encoder as the backbone of a detector: feature maps at strides 4 to 32 by level, and what of it is trained.

Level `l` is the encoder's last map of stride `2^l`. Maps are upright also of an encoder that turns its images
(`rotate_input`), exact for sizes divisible by 32, to which the images of detectors are padded.

Differences from the papers: a stage is frozen as a whole, so the stem is never frozen without the blocks behind it.

# References
    - Feature Pyramid Networks for Object Detection (CVPR 2017)
    - Detectron2, `MODEL.BACKBONE.FREEZE_AT`: its 2 is one stage here
"""

from collections.abc import Mapping

import tensorflow as tf

from larq_ssl.models import Encoder

LEVELS: Mapping[int, str] = {2: "stride4", 3: "stride8", 4: "stride16", 5: "stride32"}
"""Named outputs of encoders by level."""

BATCH_NORMS = ("train", "frozen")

# What the parsers of the Model Garden subtract and divide by, in 0..1.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class RawPixels(tf.keras.layers.Layer):
    """Takes back what the parsers of the Model Garden do to pixels, for an encoder has preprocessing of its own.

    \\[ x = 255 \\, (\\sigma \\, z + \\mu) \\]

    with the mean \\( \\mu \\) and deviation \\( \\sigma \\) of ImageNet in 0..1. What images are padded with, zeros,
    becomes the mean colour.
    """

    def __init__(self, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pixels in 0..255, float32."""
        return 255.0 * (tf.cast(inputs, tf.float32) * tf.constant(_DEVIATION) + tf.constant(_MEAN))


@tf.keras.utils.register_keras_serializable(package="larq_ssl")
class DetectionBackbone(tf.keras.Model):
    """Feature maps `{"2": [batch, H/4, W/4, C], ...}` of images as the Model Garden's parsers normalise them.

    # Arguments
        encoder: Of `larq_ssl.models`, in any binarization; its layers are shared.
        min_level: Finest level, 2 to 5.
        freeze_stages: Stages that stay as they are, their BatchNormalization included: 1 is all up to the map at stride
            4, 4 all up to the one at stride 32.
        batch_norm: `train`: statistics of the batch, as far as stages are trained; `frozen`: the encoder's own ones
            everywhere, and its scales and shifts stay as they are.
    # Attributes
        output_specs: Shapes of the maps by level, which the Model Garden asks for.
        trained_variables: What an optimizer may move.
        frozen_variables: All other variables; training leaves them as they are, byte for byte.
    # Raises
        ValueError: If the encoder has no such maps, or an argument is none of its choices.
    """

    def __init__(self, encoder: Encoder, min_level: int = 2, freeze_stages: int = 0, batch_norm: str = "train"):
        _check(encoder, min_level, freeze_stages, batch_norm)
        encoder = encoder.at(None)
        frozen = _stage_layers(encoder, freeze_stages)
        norms = {layer.name for layer in encoder.layers if isinstance(layer, tf.keras.layers.BatchNormalization)}
        fixed = norms if batch_norm == "frozen" else norms & frozen
        names = [name for level, name in LEVELS.items() if level >= min_level]
        trunk = encoder.with_fixed_statistics(fixed).with_outputs(*names)
        inputs = tf.keras.Input((None, None, 3), name="image")
        maps = trunk(RawPixels(name="raw_pixels")(inputs))
        super().__init__(inputs, {str(level): maps[name] for level, name in LEVELS.items() if name in maps})
        self.output_specs = {level: map_.shape for level, map_ in self.output.items()}
        self._untrained = frozen | fixed
        self._trunk = trunk

    @property
    def trained_variables(self) -> list[tf.Variable]:
        return [weight for layer in self._layers_of(False) for weight in layer.trainable_weights]

    @property
    def frozen_variables(self) -> list[tf.Variable]:
        return [weight for layer in self._layers_of(True) for weight in layer.weights]

    def _layers_of(self, frozen: bool) -> list[tf.keras.layers.Layer]:
        return [layer for layer in self._trunk.layers if (layer.name in self._untrained) == frozen]

    def get_config(self) -> dict:
        """Not there: a backbone is made of an encoder, which is what is saved."""
        raise NotImplementedError("A detection backbone is rebuilt from its encoder.")


def _stage_layers(encoder: Encoder, stages: int) -> set[str]:
    """Names of the layers that the map at the end of a stage depends on."""
    if not stages:
        return set()
    end = encoder.named_outputs[list(LEVELS.values())[stages - 1]]
    return {layer.name for layer in tf.keras.Model(encoder.inputs, end).layers}


def _check(encoder: Encoder, min_level: int, freeze_stages: int, batch_norm: str) -> None:
    if min_level not in LEVELS:
        raise ValueError(f"min_level must be one of {list(LEVELS)}, got {min_level!r}.")
    if freeze_stages not in range(len(LEVELS) + 1):
        raise ValueError(f"freeze_stages must be 0 to {len(LEVELS)}, got {freeze_stages!r}.")
    if batch_norm not in BATCH_NORMS:
        raise ValueError(f"batch_norm must be one of {list(BATCH_NORMS)}, got {batch_norm!r}.")
    spec = encoder.spec
    maps = sorted(name for name in encoder.named_outputs if name.startswith("stride"))
    if not maps:
        raise ValueError(f"{spec.name} has no feature maps, only vectors: it cannot be the backbone of a detector.")
    missing = [name for name in LEVELS.values() if name not in maps]
    if missing:
        because = " because of stem='cifar', which is for small images: pre-train one with stem='imagenet'"
        raise ValueError(
            f"A detector needs feature maps at strides 4, 8, 16 and 32, and {spec.name} has none at "
            f"{missing[0]}{because if spec.stem == 'cifar' else ''}."
        )
