"""ReActNet-18: the topology of Bi-Real-Net-18, with a shortcut around each convolution, and RSign and RPReLU.

Differences from the papers: as in `larq_ssl.models.reactnet`. `stem="cifar"` is a 3x3 convolution of stride 1
without max pooling.

# References
    - Bi-Real Net: Enhancing the Performance of 1-bit CNNs (ECCV 2018)
    - ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions (ECCV 2020)
"""

import functools

import tensorflow as tf

from larq_ssl.layers import ChannelBias, RPReLU, batch_norm
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.models.reactnet import OFFICIAL, BinaryFamily, binary_conv, float_conv

_LAYERS = tf.keras.layers
_BLOCKS_PER_STAGE = 4


def bireal_block(
    x: tf.Tensor,
    name: str,
    filters: int,
    strides: int,
    binarization: str,
    family: BinaryFamily,
    layers: LayerStore,
) -> tf.Tensor:
    """One binary 3x3 convolution and its shortcut, which is real-valued where the shape changes."""
    shortcut = x
    if strides == 2:
        shortcut = layers(_LAYERS.AveragePooling2D, f"{name}/shortcut/pool", padding="same")(shortcut)
    if strides == 2 or filters != x.shape[-1]:
        conv = float_conv(layers, f"{name}/shortcut/conv", filters, 1, 1, family.initializer)
        shortcut = layers(batch_norm, f"{name}/shortcut/bn")(conv(shortcut))
    make = functools.partial(binary_conv, binarization=binarization, family=family)
    branch = layers(ChannelBias, f"{name}/sign")(x)
    conv = layers(
        make,
        f"{name}/conv",
        filters=filters,
        kernel_size=3,
        strides=strides,
        kernel_initializer=family.initializer,
    )
    branch = conv(branch)
    branch = layers(batch_norm, f"{name}/bn")(branch)
    x = layers(_LAYERS.Add, f"{name}/add")([branch, shortcut])
    return layers(RPReLU, f"{name}/act")(x)


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore) -> dict[str, tf.Tensor]:
    base = spec.channels(64)
    kernel_size, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
    x = float_conv(layers, "stem/conv", base, kernel_size, stride, OFFICIAL.initializer)(x)
    x = layers(batch_norm, "stem/bn")(x)
    if spec.stem == "imagenet":
        x = layers(_LAYERS.MaxPooling2D, "stem/pool", pool_size=3, strides=2, padding="same")(x)
        stride *= 2
    maps = {}
    for stage in range(1, 5):
        for block in range(1, _BLOCKS_PER_STAGE + 1):
            block_strides = 2 if stage > 1 and block == 1 else 1
            stride *= block_strides
            x = bireal_block(
                x,
                f"stage{stage}/block{block}",
                base * 2 ** (stage - 1),
                block_strides,
                spec.binarization,
                OFFICIAL,
                layers,
            )
        maps[f"stride{stride}"] = x
    return maps


REACTNET_18 = Architecture(_trunk)
