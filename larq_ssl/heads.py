"""Projection heads and classifiers: small networks on top of an encoder, never part of it."""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from larq_ssl import layers

INITIALIZERS = ("kaiming", "pytorch", "normal_0.01")


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """All that is needed to build a head again, apart from its weights; see `mlp_head`."""

    name: str
    input_dim: int
    hidden_dims: tuple[int, ...]
    output_dim: int
    batch_norm: bool
    output_relu: bool = False
    output_bias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        for argument, width in [("input_dim", self.input_dim), ("output_dim", self.output_dim)]:
            if not _is_count(width):
                raise ValueError(f"{argument} must be positive, got {width}.")
        if not all(_is_count(width) for width in self.hidden_dims):
            raise ValueError(f"hidden_dims must be positive, got {self.hidden_dims}.")
        for argument in ("batch_norm", "output_relu", "output_bias"):
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
            and biases uniform within 1 / sqrt(inputs). `normal_0.01`: normal with deviation 0.01, biases 0.
        synchronized: Whether batch norm takes its statistics over all replicas.
        output_relu: Whether a ReLU follows the last dense layer.
        output_bias: Whether the last dense layer has a bias; prototypes, which are directions, have none.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim]`, whose attribute `spec` is its `HeadSpec`.
    # Raises
        ValueError: If a width is not positive or the initializer is unknown.
    # References
        - BSSL (released code): 2,000 hidden units, 2,000 classes, batch norm synchronised, `kaiming`
        - Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020): hidden layer as wide as
          the features, 128 outputs, `pytorch`
    # Differences from the paper
        Keras's batch norm on `[batch, dim]` puts the biased variance into its moving statistics, the
        references the unbiased one: inference differs by the factor (batch - 1) / batch in the variance,
        training not at all.
    """
    spec = HeadSpec(name, input_dim, tuple(hidden_dims), output_dim, batch_norm, output_relu, output_bias)
    model = tf.keras.Sequential(name=name)
    model.add(tf.keras.Input([input_dim]))
    inputs = input_dim
    for index, width in enumerate(hidden_dims, start=1):
        model.add(_dense(f"dense{index}", inputs, width, kernel_initializer, use_bias=not batch_norm))
        if batch_norm:
            model.add(layers.batch_norm(f"bn{index}", synchronized=synchronized))
        model.add(tf.keras.layers.ReLU(name=f"relu{index}"))
        inputs = width
    model.add(_dense(f"dense{len(hidden_dims) + 1}", inputs, output_dim, kernel_initializer, use_bias=output_bias))
    if output_relu:
        model.add(tf.keras.layers.ReLU(name="relu"))
    model.spec = spec
    return model


def build_head(spec: HeadSpec) -> tf.keras.Sequential:
    """The head that a spec describes, with fresh weights."""
    return mlp_head(**dataclasses.asdict(spec))


def _dense(name: str, inputs: int, outputs: int, initializer: str, use_bias: bool) -> tf.keras.layers.Dense:
    kernel, bias = _initializers(initializer, inputs)
    return tf.keras.layers.Dense(
        outputs, use_bias=use_bias, kernel_initializer=kernel, bias_initializer=bias, name=name
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
    if name == "normal_0.01":
        return tf.keras.initializers.RandomNormal(stddev=0.01), zeros
    raise ValueError(f"kernel_initializer must be one of {', '.join(INITIALIZERS)}, got {name!r}.")
