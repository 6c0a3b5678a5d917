"""Bi-Real-Net, a ResNet with a shortcut around each convolution, and ReActNet in its topology.

`BIREALNET_18` and `BIREALNET_34` take plain signs and nothing behind the sums; `REACTNET_18` and `REACTNET_34` are
the same networks with RSign and RPReLU. Down-sampling shortcuts are real-valued. `stem="cifar"` is a 3x3 convolution
of stride 1 without max pooling.

Differences from the papers: as in `larq_ssl.models.reactnet`. The float twin of a Bi-Real-Net clips to ±1 where the
sign was, as the real-valued network from which the paper starts; stage 1 (binary activations, real kernels) the
paper does not have. There are no published weights of ReActNet-34.

# References
    - Bi-Real Net: Enhancing the Performance of 1-bit CNNs (ECCV 2018)
    - ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions (ECCV 2020)
"""

import functools

import larq
import tensorflow as tf

from larq_ssl.layers import RPReLU, batch_norm
from larq_ssl.models.convolutions import BinaryFamily, binary_conv, float_conv
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.models.reactnet import OFFICIAL, rsign_bias
from larq_ssl.quantizers import MagnitudeSign

_LAYERS = tf.keras.layers
# Blocks of one convolution in each of the four stages.
_18, _34 = (4, 4, 4, 4), (6, 8, 12, 6)

BIREAL = BinaryFamily(
    input_quantizer="approx_sign",
    # Both factors: the paper's magnitude-aware gradient.
    kernel_quantizer=functools.partial(MagnitudeSign, scale_in_grad=True, clip_grad=True),
    float_activation=larq.activations.hard_tanh,
)


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
    branch = rsign_bias(layers, f"{name}/sign", binarization)(x) if family.rsign_rprelu else x
    branch = binary_conv(layers, f"{name}/conv", filters, 3, strides, binarization, family)(branch)
    branch = layers(batch_norm, f"{name}/bn")(branch)
    x = layers(_LAYERS.Add, f"{name}/add")([branch, shortcut])
    return layers(RPReLU, f"{name}/act")(x) if family.rsign_rprelu else x


def _trunk(
    x: tf.Tensor, spec: EncoderSpec, layers: LayerStore, blocks: tuple[int, ...], family: BinaryFamily
) -> dict[str, tf.Tensor]:
    base = spec.channels(64)
    kernel_size, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
    x = float_conv(layers, "stem/conv", base, kernel_size, stride, family.initializer)(x)
    x = layers(batch_norm, "stem/bn")(x)
    if spec.stem == "imagenet":
        x = layers(_LAYERS.MaxPooling2D, "stem/pool", pool_size=3, strides=2, padding="same")(x)
        stride *= 2
    maps = {}
    for stage, block_count in enumerate(blocks, start=1):
        for block in range(1, block_count + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            stride *= strides
            channels = base * 2 ** (stage - 1)
            x = bireal_block(x, f"stage{stage}/block{block}", channels, strides, spec.binarization, family, layers)
        maps[f"stride{stride}"] = x
    return maps


BIREALNET_18 = Architecture(functools.partial(_trunk, blocks=_18, family=BIREAL))
BIREALNET_34 = Architecture(functools.partial(_trunk, blocks=_34, family=BIREAL))
REACTNET_18 = Architecture(functools.partial(_trunk, blocks=_18, family=OFFICIAL))
REACTNET_34 = Architecture(functools.partial(_trunk, blocks=_34, family=OFFICIAL))
