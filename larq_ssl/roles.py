"""What a trainable variable is for: weight decay, trust ratios and freezing read its role, never its name."""

import enum
from collections.abc import Mapping

import tensorflow as tf


class Role(str, enum.Enum):
    """What a trainable variable does in its layer."""

    KERNEL = "kernel"
    DEPTHWISE = "depthwise"
    BIAS = "bias"
    NORM = "norm"
    THRESHOLD = "threshold"
    SLOPE = "slope"
    PROTOTYPES = "prototypes"
    LAST_LAYER = "last_layer"


_LAYERS = tf.keras.layers
_KERAS_ROLES: tuple[tuple[type, Mapping[str, Role]], ...] = (
    # The first type that fits wins. Larq's Quant layers are subclasses of these.
    (
        _LAYERS.DepthwiseConv2D,
        {"depthwise_kernel": Role.DEPTHWISE, "bias": Role.BIAS},
    ),
    (
        _LAYERS.SeparableConv2D,
        {"depthwise_kernel": Role.DEPTHWISE, "pointwise_kernel": Role.KERNEL, "bias": Role.BIAS},
    ),
    (_LAYERS.Conv1D, {"kernel": Role.KERNEL, "bias": Role.BIAS}),
    (_LAYERS.Conv2D, {"kernel": Role.KERNEL, "bias": Role.BIAS}),
    (_LAYERS.Dense, {"kernel": Role.KERNEL, "bias": Role.BIAS}),
    (_LAYERS.EinsumDense, {"kernel": Role.KERNEL, "bias": Role.BIAS}),
    (_LAYERS.BatchNormalization, {"gamma": Role.NORM, "beta": Role.NORM}),
    (_LAYERS.experimental.SyncBatchNormalization, {"gamma": Role.NORM, "beta": Role.NORM}),
    (_LAYERS.LayerNormalization, {"gamma": Role.NORM, "beta": Role.NORM}),
    (_LAYERS.GroupNormalization, {"gamma": Role.NORM, "beta": Role.NORM}),
    (_LAYERS.PReLU, {"alpha": Role.SLOPE}),
)


def variable_roles(model: tf.keras.Model) -> list[tuple[tf.Variable, Role]]:
    """The role of each trainable variable of a model, in the order of `model.trainable_weights`.

    The layer that made a variable decides: a layer of this package by its `weight_roles`
    (`{attribute: Role}`), a layer of Keras or Larq by its type. A layer may carry `kernel_role`,
    which overrides the role of its kernel (prototypes, last layer).

    # Arguments
        model: A model or layer, built.
    # Returns
        A list of pairs `(variable, role)`.
    # Raises
        TypeError: if a variable belongs to a layer whose roles are not known.
    """
    layers = [m for m in (model, *model.submodules) if isinstance(m, tf.keras.layers.Layer)]
    roles = {}
    for layer in layers:
        for attribute, role in _roles_of(layer).items():
            variable = getattr(layer, attribute, None)
            if variable is not None:
                roles[id(variable)] = role
    for variable in model.trainable_weights:
        if id(variable) not in roles:
            raise TypeError(
                f"The variable `{variable.name}` of `{_owner(variable, layers)}` has no role: its layer "
                "must be a known layer of Keras or Larq, or declare `weight_roles`."
            )
    return [(variable, roles[id(variable)]) for variable in model.trainable_weights]


def _roles_of(layer: tf.keras.layers.Layer) -> dict[str, Role]:
    by_type: Mapping[str, Role] = next((roles for kind, roles in _KERAS_ROLES if isinstance(layer, kind)), {})
    result = dict(getattr(layer, "weight_roles", by_type))
    if "kernel" in result and getattr(layer, "kernel_role", None) is not None:
        result["kernel"] = Role(layer.kernel_role)
    return result


def _owner(variable: tf.Variable, layers: list[tf.keras.layers.Layer]) -> str:
    owners = [layer for layer in layers if any(variable is weight for weight in layer.trainable_weights)]
    return type(min(owners, key=lambda layer: len(layer.weights))).__name__
