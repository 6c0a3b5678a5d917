"""The networks of Larq Zoo: `zoo:QuickNet`, `zoo:BiRealNet`, ..., every one that ends in a map to pool.

Each is built once by the zoo itself, without weights; what is kept is a plan, the list of its layers and of what they
are applied to. An encoder follows the plan with layers of its own, named by kind and number in topological order
(`quant_conv2d_1` is the first binary layer): the names are the same for every build and in every mode, where the
zoo's go on counting.

Features are what the published classifier reads: with the zoo's weights, logits are the zoo's. `binarization`
`"activations"` takes quantizers and constraints off the kernels; `"none"` exists where the zoo has a float factory
(RealToBinaryNet, tanh in place of the signs). Feature maps are the last sum or concatenation of each stride, and the
output.

Differences from the zoo: the stem for ImageNet at any image size (two networks have another below 50 pixels); weight
decay is left to the optimizer (the zoo regularises the stages of RealToBinaryNet with real kernels); layers of Larq
that quantise nothing are Keras's; shortcuts pool with "same" padding in BinaryResNetE18 too, so that odd sizes fit.
In RealToBinaryNet the shifts (`beta`) of the BatchNorms in the first two down-sampling shortcuts are optimised as in
the zoo, but the next BatchNorms take them away: their gradient is rounding.

# References
    - Larq Zoo 2.4, https://docs.larq.dev/zoo (Apache License 2.0)
"""

import collections
import dataclasses
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import larq
import tensorflow as tf

from larq_ssl.models.binary_convolution import Bfloat16BinaryConv2D, is_binary
from larq_ssl.models.encoder import BINARIZATIONS, Architecture, EncoderSpec, LayerStore

_LAYERS = tf.keras.layers
_NETWORKS = (
    "BiRealNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "BinaryResNetE18",
    "MeliusNet22",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "RealToBinaryNet",
)
# Networks with a published top that starts with ReLU, which the zoo's `include_top=False` leaves out.
_RELU_TOPS = ("QuickNet", "QuickNetLarge", "QuickNetSmall")
# What the zoo's own float factories have in place of the sign.
_FLOAT_INPUTS = {"RealToBinaryNet": tf.keras.activations.tanh}
_FLOAT_TWINS = {
    larq.layers.QuantConv2D: _LAYERS.Conv2D,
    larq.layers.QuantDepthwiseConv2D: _LAYERS.DepthwiseConv2D,
}


@dataclasses.dataclass(frozen=True)
class _Step:
    """One layer of a network.

    # Arguments
        make: Its class.
        name: Its name.
        arguments: Of the class.
        inputs: Numbers of the tensors that it is applied to; 0 is the image, each output has the next number.
        stride: Of its output.
    """

    make: Callable[..., tf.keras.layers.Layer]
    name: str
    arguments: dict[str, Any]
    inputs: tuple[int, ...]
    stride: int


@functools.cache
def _plan(network: str) -> tuple[_Step, ...]:
    import larq_zoo  # imports tensorflow_datasets and more: seconds that nobody else should wait

    make = getattr(larq_zoo.sota, network, None) or getattr(larq_zoo.literature, network)
    with tf.variable_creator_scope(_zeros):
        model = make(input_shape=(None, None, 3), weights=None, include_top=False)
    numbers, strides = {id(model.input): 0}, [1]
    counts: collections.Counter[str] = collections.Counter()
    steps = []
    for layer in model.layers[1:]:
        kind, arguments = _kind_and_arguments(layer)
        (node,) = layer.inbound_nodes
        inputs = tuple(numbers[id(tensor)] for tensor in node.keras_inputs)
        stride = strides[inputs[0]] * getattr(layer, "strides", (1,))[0]
        for output in tf.nest.flatten(node.outputs):
            numbers[id(output)] = len(numbers)
            strides.append(stride)
        kind_name = re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
        counts[kind_name] += 1
        steps.append(_Step(kind, f"{kind_name}_{counts[kind_name]}", arguments, inputs, stride))
    if network in _RELU_TOPS:
        steps.append(_Step(_LAYERS.ReLU, "re_lu_1", {}, (len(numbers) - 1,), strides[-1]))
    return tuple(steps)


def _zeros(next_creator: Callable[..., tf.Variable], **arguments: Any) -> tf.Variable:
    # The weights of the network that a plan is read from are never used: they take no random numbers.
    if callable(arguments["initial_value"]):
        arguments["initial_value"] = functools.partial(tf.zeros, arguments["shape"], arguments["dtype"])
    return next_creator(**arguments)


def _kind_and_arguments(layer: tf.keras.layers.Layer) -> tuple[type, dict[str, Any]]:
    if isinstance(layer, _LAYERS.Lambda):
        return _LAYERS.Lambda, {"function": layer.function}
    with warnings.catch_warnings():  # that QuickNet's blur is initialised by a function
        warnings.filterwarnings("ignore", message=".*keras.initializers.serialize")
        arguments = _without_names(layer.get_config())
    if arguments.get("function") == "__operators__.add":  # x + y
        return _LAYERS.Add, {}
    kind = type(layer)
    if kind is _LAYERS.AveragePooling2D:
        arguments["padding"] = "same"
    quantizers = [name for name in arguments if name.endswith("_quantizer")]
    if kind in _FLOAT_TWINS and not any(arguments[name] for name in quantizers):
        kind = _FLOAT_TWINS[kind]
        for name in (*quantizers, "pad_values"):
            del arguments[name]
    for name, value in arguments.items():
        if name.endswith("_initializer"):
            arguments[name] = functools.partial(tf.keras.initializers.get, value)
        elif name.endswith("_regularizer"):
            arguments[name] = None
    return kind, arguments


def _without_names(config: Any) -> Any:
    """A configuration without names and precisions, its own and those of quantizers: what is built decides them."""
    if not isinstance(config, dict):
        return config
    return {key: _without_names(value) for key, value in config.items() if key not in ("name", "dtype")}


def _trunk(x: tf.Tensor, spec: EncoderSpec, layers: LayerStore, network: str) -> dict[str, tf.Tensor]:
    if spec.image_size is not None and spec.image_size < 32:
        raise ValueError(f"`image_size` of {spec.name} must be at least 32 or None, not {spec.image_size}.")
    return dict(_maps(x, spec.binarization, layers, network))


def _maps(x: tf.Tensor, binarization: str, layers: LayerStore, network: str) -> Iterator[tuple[str, tf.Tensor]]:
    tensors = [x]
    for step in _plan(network):
        arguments = dict(step.arguments)
        if step.make is larq.layers.QuantConv2D and binarization != "full":
            arguments |= {"kernel_quantizer": None, "kernel_constraint": None}
            if binarization == "none":
                arguments["input_quantizer"] = _FLOAT_INPUTS[network]
        make = step.make
        if layers.binary_compute == "bfloat16" and make is larq.layers.QuantConv2D and binarization == "full":
            make = _in_bfloat16(arguments)
        inputs = [tensors[number] for number in step.inputs]
        output = layers(make, step.name, **arguments)(inputs if len(inputs) > 1 else inputs[0])
        tensors += tf.nest.flatten(output)
        if len(inputs) > 1 and step.stride >= 4:
            yield f"stride{step.stride}", output
    yield f"stride{step.stride}", output


def _in_bfloat16(arguments: dict[str, Any]) -> type[larq.layers.QuantConv2D]:
    """A binary layer's class for bfloat16; where a network quantises to anything but ±1, the layer is as it was."""
    quantizers = (larq.quantizers.get(arguments[f"{what}_quantizer"]) for what in ("input", "kernel"))
    return Bfloat16BinaryConv2D if all(map(is_binary, quantizers)) else larq.layers.QuantConv2D


ARCHITECTURES = {
    f"zoo:{network}": Architecture(
        functools.partial(_trunk, network=network),
        binarizations=BINARIZATIONS if network in _FLOAT_INPUTS else ("activations", "full"),
        adjustable=False,
    )
    for network in _NETWORKS
}

REFUSED = {
    f"zoo:{network}": ", whose features are those of dense layers: it has no map to pool"
    for network in ("BinaryAlexNet", "DoReFaNet", "XNORNet")
}
