"""Vision transformers as DINO has them, without dropout: features are the class token after the last norm.

Any image size: patches beyond a multiple of the patch size are cut off, and embeddings of positions, which are those
of images of 224 pixels, are interpolated (see `larq_ssl.models.vit_layers.Tokens`). There is no padding, so images
are never turned, those of imported networks neither.

Differences from the papers: none.

# References
    - An Image is Worth 16x16 Words (ICLR 2021)
    - Emerging Properties in Self-Supervised Vision Transformers (DINO, ICCV 2021)
"""

import dataclasses
import functools

import tensorflow as tf

from larq_ssl.models.convolutions import pytorch_default
from larq_ssl.models.encoder import Architecture, EncoderSpec, LayerStore
from larq_ssl.models.vit_layers import DropPath, SelfAttention, Tokens

_LAYERS = tf.keras.layers
_GRID_OF = 224
_DEPTH = 12
_NAMED = 4  # linear probes read the class tokens of the last four blocks
_normal = functools.partial(tf.keras.initializers.RandomNormal, 0.0, 0.02)


@dataclasses.dataclass(frozen=True)
class Size:
    """What sets one vision transformer apart from another.

    # Arguments
        patch: Height and width of a patch in pixels.
        channels: Of the tokens.
        heads: Of the attention.
    """

    patch: int
    channels: int
    heads: int


def transformer_block(x: tf.Tensor, name: str, heads: int, drop_path: float, layers: LayerStore) -> tf.Tensor:
    """Attention and a dense layer of four times the channels, each after a norm and with a shortcut around it."""
    channels = x.shape[-1]
    branch = _norm(f"{name}/norm1", layers)(x)
    branch = _dense(f"{name}/attention/qkv", 3 * channels, layers)(branch)
    branch = layers(SelfAttention, f"{name}/attention/heads", heads=heads)(branch)
    branch = _dense(f"{name}/attention/project", channels, layers)(branch)
    x = _add(x, branch, f"{name}/attention", drop_path, layers)
    branch = _norm(f"{name}/norm2", layers)(x)
    branch = _dense(f"{name}/mlp/dense1", 4 * channels, layers)(branch)
    branch = layers(_LAYERS.Activation, f"{name}/mlp/gelu", activation="gelu")(branch)
    branch = _dense(f"{name}/mlp/dense2", channels, layers)(branch)
    return _add(x, branch, f"{name}/mlp", drop_path, layers)


def _add(x: tf.Tensor, branch: tf.Tensor, name: str, drop_path: float, layers: LayerStore) -> tf.Tensor:
    if drop_path:
        branch = layers(DropPath, f"{name}/drop_path", rate=drop_path)(branch)
    return layers(_LAYERS.Add, f"{name}/add")([x, branch])


def _norm(name: str, layers: LayerStore) -> tf.keras.layers.Layer:
    return layers(_LAYERS.LayerNormalization, name, epsilon=1e-6)


def _dense(name: str, units: int, layers: LayerStore) -> tf.keras.layers.Layer:
    return layers(_LAYERS.Dense, name, units=units, kernel_initializer=_normal)


def _tokens(x: tf.Tensor, size: Size, layers: LayerStore) -> tf.Tensor:
    bound = (3 * size.patch**2) ** -0.5
    patches = layers(
        _LAYERS.Conv2D,
        "patches",
        filters=size.channels,
        kernel_size=size.patch,
        strides=size.patch,
        kernel_initializer=pytorch_default,
        bias_initializer=functools.partial(tf.keras.initializers.RandomUniform, -bound, bound),
    )
    tokens = layers(
        Tokens, "tokens", grid=_GRID_OF // size.patch, token_initializer=_normal, position_initializer=_normal
    )
    return tokens(patches(x))


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore, size: Size) -> dict[str, tf.Tensor]:
    if spec.image_size is not None and spec.image_size < size.patch:
        raise ValueError(f"`image_size` of {spec.name} must be at least {size.patch} or None, not {spec.image_size}.")
    x = _tokens(x, size, layers)
    vectors = {}
    for number in range(1, _DEPTH + 1):
        drop_path = layers.drop_path * (number - 1) / (_DEPTH - 1)
        x = transformer_block(x, f"block{number}", size.heads, drop_path, layers)
        if number > _DEPTH - _NAMED:
            class_token = layers(_LAYERS.Lambda, f"block{number}/class_token", function=_first)(x)
            # In float32, as the features of all networks.
            norm = layers(_LAYERS.LayerNormalization, "norm", epsilon=1e-6, dtype="float32")
            vectors[f"block{number}"] = norm(class_token)
    joined = layers(_LAYERS.Concatenate, "class_tokens", dtype="float32")(list(vectors.values()))
    return {"class_tokens": joined, **vectors}  # the last one is the features


def _first(tokens: tf.Tensor) -> tf.Tensor:
    return tokens[:, 0]


def _architecture(patch: int, channels: int, heads: int) -> Architecture:
    return Architecture(
        functools.partial(_trunk, size=Size(patch, channels, heads)),
        binarizations=("none",),
        adjustable=False,
        maps=False,
        drop_path=True,
    )


VIT_TINY_32 = _architecture(patch=32, channels=192, heads=3)
VIT_TINY_16 = _architecture(patch=16, channels=192, heads=3)
VIT_SMALL_16 = _architecture(patch=16, channels=384, heads=6)
