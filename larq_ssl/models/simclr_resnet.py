"""SimCLR's ResNets of 18 to 200 layers as float networks, with selective kernels under the names that end in `_sk`.

They differ from `larq_ssl.models.resnet` in the first block of every stage, whose shortcut is a projection even where
the shape stays, in the last BatchNorm of each residual branch, whose scale starts at 0 so that blocks start as their
shortcuts, and in their initial kernels. With selective kernels (in the 3x3 of bottlenecks) come the stem and the
shortcuts of ResNet-D: three 3x3 convolutions for the 7x7, and average pooling before the projection for its stride.
`stem="cifar"` is a single 3x3 convolution of stride 1 without max pooling, with selective kernels too.

SimCLR trains on pixels in 0..1: `preprocessing="unit"`. BYOL's ResNets are the same up to their padding, which is
"same" throughout, and their initial kernels.

Padding: convolutions of stride 2 pad on both sides, as in the published code, pooling pads at the end. On even sizes
"same" does the one and `rotate_input` the other, so here the convolutions have a layer that pads. Larq Compute Engine
could not binarise them, but no convolution of these networks is ever binary. The outputs are the published ones for
images of any size, and `rotate_input` is never needed.

Differences from the paper: channels are multiples of 8, which alters no published width. Moving variances are the
unbiased ones of Keras, unless `synchronized`; those of the published code are biased.

# References
    - A Simple Framework for Contrastive Learning of Visual Representations (SimCLR, Chen et al., ICML 2020)
    - Big Self-Supervised Models are Strong Semi-Supervised Learners (SimCLRv2, Chen et al., NeurIPS 2020)
    - Bag of Tricks for Image Classification with Convolutional Neural Networks (ResNet-D, He et al., CVPR 2019)
"""

import functools

import tensorflow as tf

from larq_ssl.layers import batch_norm
from larq_ssl.models.convolutions import float_conv, lecun_normal, symmetric_conv
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.models.selective_kernel import selective_conv

_LAYERS = tf.keras.layers
_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_BASIC = (18, 34)
_SK_RATIO = 0.0625


def basic_block(
    x: tf.Tensor, name: str, channels: int, strides: int, projection: bool, sk_ratio: float, layers: LayerStore
) -> tf.Tensor:
    """Two 3x3 convolutions and a shortcut; the stride is on the first. There is no selective kernel.

    # Arguments
        x: Maps.
        name: In front of the names of the layers.
        channels: Of the convolutions.
        strides: 1 or 2.
        projection: Whether the shortcut has a convolution.
        sk_ratio: Above 0, a projection is ResNet-D's.
        layers: Makes the layers.
    """
    shortcut = _projection(x, f"{name}/shortcut", channels, strides, sk_ratio, layers) if projection else x
    x = _conv_bn_relu(x, name, 1, channels, 3, strides, layers)
    x = symmetric_conv(x, layers, f"{name}/conv2", channels, 3, 1, lecun_normal)
    return _sum(x, shortcut, name, 2, layers)


def bottleneck_block(
    x: tf.Tensor, name: str, channels: int, strides: int, projection: bool, sk_ratio: float, layers: LayerStore
) -> tf.Tensor:
    """1x1, 3x3, and 1x1 to four times the channels, and a shortcut; the stride is on the 3x3.

    # Arguments
        x: Maps.
        name: In front of the names of the layers.
        channels: Of the 3x3, a quarter of those that come out.
        strides: 1 or 2.
        projection: Whether the shortcut has a convolution.
        sk_ratio: Above 0, the 3x3 has selective kernels (see `selective_conv`), and a projection is ResNet-D's.
        layers: Makes the layers.
    """
    shortcut = _projection(x, f"{name}/shortcut", 4 * channels, strides, sk_ratio, layers) if projection else x
    x = _conv_bn_relu(x, name, 1, channels, 1, 1, layers)
    if sk_ratio:
        x = selective_conv(x, f"{name}/sk2", channels, strides, sk_ratio, layers)
    else:
        x = _conv_bn_relu(x, name, 2, channels, 3, strides, layers)
    x = float_conv(layers, f"{name}/conv3", 4 * channels, 1, 1, lecun_normal)(x)
    return _sum(x, shortcut, name, 3, layers)


def _projection(x: tf.Tensor, name: str, filters: int, strides: int, sk_ratio: float, layers: LayerStore) -> tf.Tensor:
    if sk_ratio:
        if strides > 1:
            # A zero at the end, which "same" pooling would leave out of its averages, counts on odd sizes.
            x = layers(_LAYERS.ZeroPadding2D, f"{name}/pad", padding=((0, 1), (0, 1)))(x)
        padding = "valid" if strides > 1 else "same"
        x = layers(_LAYERS.AveragePooling2D, f"{name}/pool", pool_size=2, strides=strides, padding=padding)(x)
        strides = 1
    x = float_conv(layers, f"{name}/conv1", filters, 1, strides, lecun_normal)(x)
    return layers(batch_norm, f"{name}/bn1")(x)


def _conv_bn_relu(
    x: tf.Tensor, name: str, number: int, filters: int, kernel_size: int, strides: int, layers: LayerStore
) -> tf.Tensor:
    x = symmetric_conv(x, layers, f"{name}/conv{number}", filters, kernel_size, strides, lecun_normal)
    x = layers(batch_norm, f"{name}/bn{number}")(x)
    return layers(_LAYERS.ReLU, f"{name}/relu{number}")(x)


def _sum(x: tf.Tensor, shortcut: tf.Tensor, name: str, number: int, layers: LayerStore) -> tf.Tensor:
    x = layers(batch_norm, f"{name}/bn{number}", gamma_initializer=tf.keras.initializers.Zeros)(x)
    x = layers(_LAYERS.Add, f"{name}/add")([x, shortcut])
    return layers(_LAYERS.ReLU, f"{name}/relu{number}")(x)


def _stem(x: tf.Tensor, base: int, stem: str, sk_ratio: float, layers: LayerStore) -> tf.Tensor:
    if stem == "cifar":
        return _conv_bn_relu(x, "stem", 1, base, 3, 1, layers)
    if sk_ratio:
        x = _conv_bn_relu(x, "stem", 1, base // 2, 3, 2, layers)
        x = _conv_bn_relu(x, "stem", 2, base // 2, 3, 1, layers)
        x = _conv_bn_relu(x, "stem", 3, base, 3, 1, layers)
    else:
        x = _conv_bn_relu(x, "stem", 1, base, 7, 2, layers)
    return layers(_LAYERS.MaxPooling2D, "stem/pool", pool_size=3, strides=2, padding="same")(x)


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore, depth: int, sk_ratio: float) -> dict[str, tf.Tensor]:
    base = spec.channels(64)
    x = _stem(x, base, spec.stem, sk_ratio, layers)
    stride = 1 if spec.stem == "cifar" else 4
    make_block = basic_block if depth in _BASIC else bottleneck_block
    maps = {}
    for stage, block_count in enumerate(_BLOCKS[depth], start=1):
        for block in range(1, block_count + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            stride *= strides
            name, channels = f"stage{stage}/block{block}", base * 2 ** (stage - 1)
            x = make_block(x, name, channels, strides, block == 1, sk_ratio, layers)
        maps[f"stride{stride}"] = x
    return maps


def simclr_resnet(depth: int, sk_ratio: float = 0.0) -> Architecture:
    """SimCLR's ResNet of a depth, with selective kernels if `sk_ratio` is above 0 (see `selective_conv`)."""
    return Architecture(functools.partial(_trunk, depth=depth, sk_ratio=sk_ratio), binarizations=("none",))


ARCHITECTURES = {
    **{f"simclr_resnet_{depth}": simclr_resnet(depth) for depth in _BLOCKS},
    **{f"simclr_resnet_{depth}_sk": simclr_resnet(depth, _SK_RATIO) for depth in _BLOCKS if depth not in _BASIC},
}
