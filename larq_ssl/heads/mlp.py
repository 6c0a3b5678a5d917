"""A head as a multi-layer perceptron, and the spec that rebuilds it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from larq_ssl import layers
from larq_ssl.heads.spec import HeadSpec
from larq_ssl.roles import Role

_DTYPE = "float32"
INITIALIZERS = ("kaiming", "pytorch", "lecun", "normal_0.01", "normal_0.02", "zeros")


def mlp_head(
    name: str,
    input_dim: int,
    hidden_dims: Sequence[int],
    output_dim: int | None,
    norm: str,
    kernel_initializer: str = "kaiming",
    synchronized: bool = False,
    output_relu: bool = False,
    output_bias: bool = True,
    activation: str = "relu",
    last_layer: int | None = None,
    free_gain: bool = False,
    output_role: str = Role.KERNEL.value,
    output_norm: bool = False,
) -> tf.keras.Sequential:
    """A multi-layer perceptron: (dense - [norm] - ReLU) for each hidden layer, then a dense layer.

    Layers are called `dense1`, `bn1`, `relu1`, `dense2`, ... (`ln1` with layer norm). A dense layer directly before a
    batch norm has no bias: the norm subtracts it again, it would never get a gradient. The others have one.

    With one hidden layer, this is BSSL's classifier (with batch norm) and MoCo v2's projection head
    (without).

    # Arguments
        name: Name of the model.
        input_dim: Length of the features that go in.
        hidden_dims: Widths of the hidden layers; none of them makes a linear layer.
        output_dim: Length of the output, which is not normalised; `None` ends after the last hidden layer.
        norm: Of the hidden layers. `batch` and `layer`: such a norm follows each dense one; `weight`: their kernels are
            standardised (`larq_ssl.layers.StandardisedDense`), and no norm follows; `none`.
        kernel_initializer: `kaiming`: normal with deviation sqrt(2 / inputs), biases 0. `pytorch`: kernels
            and biases uniform within 1 / sqrt(inputs). `lecun`: normal with deviation 1 / sqrt(inputs), cut off at two
            of them, biases 0. `normal_0.01`, `normal_0.02`: normal with that deviation, biases 0. `zeros`: nothing but
            zeros, for a layer that nothing but a loss follows.
        synchronized: Whether batch norm takes its statistics over all replicas.
        output_relu: Whether a ReLU follows the last dense layer.
        output_bias: Whether the last dense layer has a bias; prototypes, which are directions, have none.
        activation: What follows the hidden layers, `relu` or `gelu` (the exact one, by the error function).
        last_layer: So many outputs of a `WeightNormDense` on the unit row of the last dense layer's outputs, or `None`.
        free_gain: Whether the gains of that layer are trained; otherwise its outputs are cosines.
        output_role: What the kernel of the last dense layer is for the optimizer: `kernel`; `last_layer`, as that of a
            classifier that SimCLR's LARS leaves alone; or `prototypes`.
        output_norm: Whether a batch norm without shift follows the last dense layer, which then has no bias.
    # Returns
        A built model `[batch, input_dim] -> [batch, output]`, whose attribute `spec` is its `HeadSpec`. It is computed
        in float32 under any precision policy: beside an encoder it costs next to nothing, and losses divide what comes
        out of it by small numbers.
    # Raises
        ValueError: If a width is not positive, or the norm, initializer, activation or role is unknown.
    # References
        - BSSL (released code): 2,000 hidden units, 2,000 classes, batch norm synchronised, `kaiming`
        - Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020): hidden layer as wide as
          the features, 128 outputs, `pytorch`
    # Differences from the paper
        Keras's batch norm on `[batch, dim]` puts the biased variance into its moving statistics, PyTorch's
        references the unbiased one: inference differs by the factor (batch - 1) / batch in the variance,
        training not at all.
    """
    spec = HeadSpec(
        name,
        input_dim,
        tuple(hidden_dims),
        output_dim,
        norm,
        output_relu,
        output_bias,
        activation,
        last_layer,
        free_gain,
        output_role,
        output_norm,
    )
    model = tf.keras.Sequential(name=name)
    model.add(tf.keras.Input([input_dim]))
    inputs = input_dim
    for index, width in enumerate(hidden_dims, start=1):
        _add_hidden(model, spec, index, inputs, width, kernel_initializer, synchronized)
        inputs = width
    if output_dim is not None:
        _add_output(model, spec, inputs, output_dim, kernel_initializer, synchronized)
    model.spec = spec
    return model


def _add_hidden(
    model: tf.keras.Sequential,
    spec: HeadSpec,
    index: int,
    inputs: int,
    width: int,
    initializer: str,
    synchronized: bool,
) -> None:
    kind = layers.StandardisedDense if spec.norm == "weight" else tf.keras.layers.Dense
    use_bias = spec.norm != "batch"
    model.add(_dense(f"dense{index}", inputs, width, initializer, use_bias, kind))
    if spec.norm == "batch":
        model.add(layers.batch_norm(f"bn{index}", synchronized=synchronized, dtype=_DTYPE))
    if spec.norm == "layer":
        model.add(tf.keras.layers.LayerNormalization(epsilon=1e-5, name=f"ln{index}", dtype=_DTYPE))
    model.add(tf.keras.layers.Activation(spec.activation, name=f"{spec.activation}{index}", dtype=_DTYPE))


def _add_output(
    model: tf.keras.Sequential, spec: HeadSpec, inputs: int, outputs: int, initializer: str, synchronized: bool
) -> None:
    index = len(spec.hidden_dims) + 1
    use_bias = spec.output_bias and not spec.output_norm
    last = _dense(f"dense{index}", inputs, outputs, initializer, use_bias)
    last.kernel_role = Role(spec.output_role)
    model.add(last)
    if spec.output_norm:
        model.add(layers.batch_norm(f"bn{index}", synchronized=synchronized, center=False, dtype=_DTYPE))
    if spec.output_relu:
        model.add(tf.keras.layers.ReLU(name="relu", dtype=_DTYPE))
    if spec.last_layer is not None:
        model.add(layers.UnitRows(name="unit"))
        model.add(layers.WeightNormDense(spec.last_layer, spec.free_gain, name="last_layer"))


def build_head(spec: HeadSpec, synchronized: bool = False) -> tf.keras.Sequential:
    """The head that a spec describes, with fresh weights."""
    return mlp_head(**dataclasses.asdict(spec), synchronized=synchronized)


def first_layers(head: tf.keras.Sequential, count: int, name: str, synchronized: bool = False) -> tf.keras.Sequential:
    """A head of its own with the first layers of another one, from which a classifier can be fine-tuned.

    A layer is a dense one with its norm and activation; the last of a head may have neither.

    # Arguments
        head: Of `mlp_head`.
        count: Number of its layers, at least 1; all of them make a copy of the head.
        name: Name of the new head.
        synchronized: Whether its batch norm takes its statistics over all replicas.
    # Returns
        A head with copies of their weights.
    # Raises
        ValueError: If the head has not so many layers.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 3.1: fine-tuning from
          a middle layer
    """
    spec: HeadSpec = head.spec
    if not 1 <= count <= spec.depth:
        raise ValueError(f"count must be in [1, {spec.depth}], the layers of {head.name}, got {count}.")
    cut = {} if count == spec.depth else {"hidden_dims": spec.hidden_dims[:count], **_NO_OUTPUT}
    result = build_head(dataclasses.replace(spec, name=name, **cut), synchronized)
    for layer in result.layers:
        layer.set_weights(head.get_layer(layer.name).get_weights())
    return result


_NO_OUTPUT: dict[str, Any] = {"output_dim": None, "output_relu": False, "output_norm": False, "last_layer": None}


def _dense(
    name: str,
    inputs: int,
    outputs: int,
    initializer: str,
    use_bias: bool,
    kind: type[tf.keras.layers.Dense] = tf.keras.layers.Dense,
) -> tf.keras.layers.Dense:
    kernel, bias = _initializers(initializer, inputs)
    return kind(outputs, use_bias=use_bias, kernel_initializer=kernel, bias_initializer=bias, name=name, dtype=_DTYPE)


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
    if name == "lecun":
        return tf.keras.initializers.TruncatedNormal(stddev=1 / math.sqrt(inputs)), zeros
    if name in ("normal_0.01", "normal_0.02"):
        return tf.keras.initializers.RandomNormal(stddev=float(name.removeprefix("normal_"))), zeros
    if name == "zeros":
        return zeros, zeros
    raise ValueError(f"kernel_initializer must be one of {', '.join(INITIALIZERS)}, got {name!r}.")
