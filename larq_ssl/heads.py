"""Projection heads and classifiers: small networks on top of an encoder, never part of it."""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from larq_ssl import layers
from larq_ssl.roles import Role

INITIALIZERS = ("kaiming", "pytorch", "normal_0.01", "normal_0.02")
ACTIVATIONS = ("relu", "gelu")
OUTPUT_ROLES = (Role.KERNEL.value, Role.PROTOTYPES.value)


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """All that is needed to build a head again, apart from its weights; see `mlp_head` and `dino_head`."""

    name: str
    input_dim: int
    hidden_dims: tuple[int, ...]
    output_dim: int
    batch_norm: bool
    output_relu: bool = False
    output_bias: bool = True
    activation: str = "relu"
    last_layer: int | None = None
    free_gain: bool = False
    output_role: str = Role.KERNEL.value

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        for argument in ("input_dim", "output_dim", *(("last_layer",) if self.last_layer is not None else ())):
            if not _is_count(getattr(self, argument)):
                raise ValueError(f"{argument} must be positive, got {getattr(self, argument)}.")
        if not all(_is_count(width) for width in self.hidden_dims):
            raise ValueError(f"hidden_dims must be positive, got {self.hidden_dims}.")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}.")
        if self.output_role not in OUTPUT_ROLES:
            raise ValueError(f"output_role must be one of {', '.join(OUTPUT_ROLES)}, got {self.output_role!r}.")
        for argument in ("batch_norm", "output_relu", "output_bias", "free_gain"):
            value = getattr(self, argument)
            if not isinstance(value, bool):
                raise ValueError(f"{argument} must be True or False, got {value!r}.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def mlp_head(
    name: str,
    input_dim: int,
    hidden_dims: Sequence[int],
    output_dim: int,
    batch_norm: bool,
    kernel_initializer: str = "kaiming",
    synchronized: bool = False,
    output_relu: bool = False,
    output_bias: bool = True,
    activation: str = "relu",
    last_layer: int | None = None,
    free_gain: bool = False,
    output_role: str = Role.KERNEL.value,
) -> tf.keras.Sequential:
    """A multi-layer perceptron: (dense - [batch norm] - ReLU) for each hidden layer, then a dense layer.

    Layers are called `dense1`, `bn1`, `relu1`, `dense2`, ... A dense layer directly before a batch norm has
    no bias: the norm subtracts it again, it would never get a gradient. The others have one.

    With one hidden layer, this is BSSL's classifier (with batch norm) and MoCo v2's projection head
    (without).

    # Arguments
        name: Name of the model.
        input_dim: Length of the features that go in.
        hidden_dims: Widths of the hidden layers; none of them makes a linear layer.
        output_dim: Length of the output, which is not normalised.
        batch_norm: Whether batch norm follows each hidden dense layer (none follows the last).
        kernel_initializer: `kaiming`: normal with deviation sqrt(2 / inputs), biases 0. `pytorch`: kernels
            and biases uniform within 1 / sqrt(inputs). `normal_0.01`, `normal_0.02`: normal with that deviation,
            biases 0.
        synchronized: Whether batch norm takes its statistics over all replicas.
        output_relu: Whether a ReLU follows the last dense layer.
        output_bias: Whether the last dense layer has a bias; prototypes, which are directions, have none.
        activation: What follows the hidden layers, `relu` or `gelu` (the exact one, by the error function).
        last_layer: So many outputs of a `WeightNormDense` on the unit row of the last dense layer's outputs, or `None`.
        free_gain: Whether the gains of that layer are trained; otherwise its outputs are cosines.
        output_role: What the kernel of the last dense layer is for the optimizer, `kernel` or `prototypes`, which are
            float32 under any precision policy.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim or last_layer]`, whose attribute `spec` is its
        `HeadSpec`.
    # Raises
        ValueError: If a width is not positive, or the initializer, activation or role is unknown.
    # References
        - BSSL (released code): 2,000 hidden units, 2,000 classes, batch norm synchronised, `kaiming`
        - Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020): hidden layer as wide as
          the features, 128 outputs, `pytorch`
    # Differences from the paper
        Keras's batch norm on `[batch, dim]` puts the biased variance into its moving statistics, the
        references the unbiased one: inference differs by the factor (batch - 1) / batch in the variance,
        training not at all.
    """
    spec = HeadSpec(
        name,
        input_dim,
        tuple(hidden_dims),
        output_dim,
        batch_norm,
        output_relu,
        output_bias,
        activation,
        last_layer,
        free_gain,
        output_role,
    )
    model = tf.keras.Sequential(name=name)
    model.add(tf.keras.Input([input_dim]))
    inputs = input_dim
    for index, width in enumerate(hidden_dims, start=1):
        model.add(_dense(f"dense{index}", inputs, width, kernel_initializer, use_bias=not batch_norm))
        if batch_norm:
            model.add(layers.batch_norm(f"bn{index}", synchronized=synchronized))
        model.add(tf.keras.layers.Activation(activation, name=f"{activation}{index}"))
        inputs = width
    role = Role(output_role)
    # What is done with the scores of prototypes divides them by a small number.
    dtype = "float32" if role is Role.PROTOTYPES else None
    last = _dense(f"dense{len(hidden_dims) + 1}", inputs, output_dim, kernel_initializer, output_bias, dtype)
    last.kernel_role = role
    model.add(last)
    if output_relu:
        model.add(tf.keras.layers.ReLU(name="relu"))
    if last_layer is not None:
        model.add(layers.UnitRows(name="unit"))
        model.add(layers.WeightNormDense(last_layer, free_gain, name="last_layer"))
    model.spec = spec
    return model


def dino_head(
    name: str,
    input_dim: int,
    output_dim: int = 65536,
    batch_norm: bool = False,
    free_gain: bool = False,
    hidden_dims: Sequence[int] = (2048, 2048),
    bottleneck_dim: int = 256,
    synchronized: bool = False,
) -> tf.keras.Sequential:
    """DINO's head: hidden layers with GELU, a bottleneck, its unit row, and weight-normalised directions.

    # Arguments
        name: Name of the model.
        input_dim: Length of the features that go in.
        output_dim: Number of directions; SSLight has 4,096 for convolutional networks.
        batch_norm: Whether batch norm follows each hidden layer, as SSLight has it for convolutional networks.
        free_gain: Whether the lengths of the directions are trained, as SSLight has it for ViTs.
        hidden_dims: Widths of the hidden layers.
        bottleneck_dim: Width of the row that is normalised.
        synchronized: Whether batch norm takes its statistics over all replicas.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim]`, whose attribute `spec` is its `HeadSpec`.
    # Raises
        ValueError: If a width is not positive.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), App. C
    # Differences from the paper
        As for `mlp_head`: no bias directly before a batch norm.
    """
    return mlp_head(
        name,
        input_dim,
        hidden_dims,
        bottleneck_dim,
        batch_norm,
        kernel_initializer="normal_0.02",
        synchronized=synchronized,
        activation="gelu",
        last_layer=output_dim,
        free_gain=free_gain,
    )


def prototypes(name: str, input_dim: int, count: int, kernel_initializer: str = "pytorch") -> tf.keras.Sequential:
    """SwAV's prototypes: a dense layer without bias, whose kernel has the role of prototypes.

    # Arguments
        name: Name of the model.
        input_dim: Length of an embedding.
        count: Number of prototypes.
        kernel_initializer: See `mlp_head`; SSLight has `normal_0.01`.
    # Returns
        A built model `[batch, input_dim] -> [batch, count]`: the scores, cosines if kernel columns and rows of the
        input have length one; float32 under any precision policy.
    # References
        - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020)
    """
    return mlp_head(
        name,
        input_dim,
        (),
        count,
        batch_norm=False,
        kernel_initializer=kernel_initializer,
        output_bias=False,
        output_role=Role.PROTOTYPES.value,
    )


def build_head(spec: HeadSpec) -> tf.keras.Sequential:
    """The head that a spec describes, with fresh weights."""
    return mlp_head(**dataclasses.asdict(spec))


def _dense(
    name: str, inputs: int, outputs: int, initializer: str, use_bias: bool, dtype: str | None = None
) -> tf.keras.layers.Dense:
    kernel, bias = _initializers(initializer, inputs)
    return tf.keras.layers.Dense(
        outputs, use_bias=use_bias, kernel_initializer=kernel, bias_initializer=bias, name=name, dtype=dtype
    )


def _initializers(
    name: str, inputs: int
) -> tuple[tf.keras.initializers.Initializer, tf.keras.initializers.Initializer]:
    """Kernel and bias initializer of that name for a layer with so many inputs."""
    zeros = tf.keras.initializers.Zeros()
    if name == "kaiming":
        # Not VarianceScaling's default, which truncates.
        return tf.keras.initializers.RandomNormal(stddev=math.sqrt(2 / inputs)), zeros
    if name == "pytorch":
        limit = 1 / math.sqrt(inputs)
        return tuple(tf.keras.initializers.RandomUniform(-limit, limit) for _ in range(2))  # type: ignore[return-value]
    if name in ("normal_0.01", "normal_0.02"):
        return tf.keras.initializers.RandomNormal(stddev=float(name.removeprefix("normal_"))), zeros
    raise ValueError(f"kernel_initializer must be one of {', '.join(INITIALIZERS)}, got {name!r}.")
