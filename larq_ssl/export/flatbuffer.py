"""What is in a `.tflite` file, and variants of it that show what happens inside."""

import collections
import copy
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a file: its name and the numbers of the tensors that it reads and writes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class LiteFile:
    """A `.tflite` file of one graph, taken apart.

    # Arguments
        content: Of the file.
    # Attributes
        content: The same.
        operations: In the order in which they are run.
        inputs, outputs: Numbers of the tensors that go in and come out.
    # Raises
        ValueError: If it is not such a file, or has several graphs.
    """

    def __init__(self, content: bytes) -> None:
        if content[4:8] != b"TFL3":
            raise ValueError("`content` must be that of a .tflite file; its identifier TFL3 is missing.")
        self.content = content
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(content), 0))
        if len(self._model.subgraphs) != 1:
            raise ValueError(f"`content` must have one graph, got {len(self._model.subgraphs)}.")
        (graph,) = self._model.subgraphs
        self.inputs, self.outputs = tuple(map(int, graph.inputs)), tuple(map(int, graph.outputs))
        self.operations = tuple(
            Operation(self._name(part), tuple(map(int, part.inputs)), tuple(map(int, part.outputs)))
            for part in graph.operators
        )

    def histogram(self) -> dict[str, int]:
        """How often each operation occurs, the most frequent first."""
        return dict(collections.Counter(part.name for part in self.operations).most_common())

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(map(int, self._model.subgraphs[0].tensors[tensor].shape))

    def dtype(self, tensor: int) -> Any:
        """Type of the numbers of a tensor, `None` if it is one that occurs in no network of ours."""
        return _TYPES.get(self._model.subgraphs[0].tensors[tensor].type)

    def constant(self, tensor: int) -> np.ndarray:
        """The numbers that a file holds for a tensor."""
        data = self._model.buffers[self._model.subgraphs[0].tensors[tensor].buffer].data
        if data is None:
            raise ValueError(f"`tensor` {tensor} is no constant of the file.")
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), self.dtype(tensor)).reshape(self.shape(tensor))

    def numbers(self, tensor: int, values: np.ndarray) -> np.ndarray:
        """What the values of a tensor stand for: those of 8 bits are steps of its scale from its zero point on."""
        if self.dtype(tensor) is not np.int8:
            return values
        rounding = self._model.subgraphs[0].tensors[tensor].quantization
        return (values.astype(np.float32) - float(rounding.zeroPoint[0])) * float(rounding.scale[0])

    def producer(self, tensor: int) -> Operation | None:
        """The operation that writes a tensor, `None` if none does."""
        return next((part for part in self.operations if tensor in part.outputs), None)

    def showing(self, tensors: Sequence[int], fed: Collection[int] = ()) -> bytes:
        """A variant of the file that gives out tensors in its middle, before its own outputs.

        # Arguments
            tensors: What is given out.
            fed: Those of which what is written is given out, but what is read, by `LceQuantize`, is a further input of
                the file, in this order, after its own.
        """
        model = copy.copy(self._model)
        graph = copy.copy(model.subgraphs[0])
        model.subgraphs, model.signatureDefs = [graph], None
        graph.tensors = list(graph.tensors)
        inputs = {}
        for tensor in fed:
            twin = copy.copy(graph.tensors[tensor])
            twin.buffer, twin.name = 0, twin.name + b"/fed"
            inputs[tensor] = len(graph.tensors)
            graph.tensors.append(twin)
        graph.operators = [self._rewired(part, inputs) for part in graph.operators]
        graph.inputs = [*self.inputs, *inputs.values()]
        graph.outputs = [*tensors, *self.outputs]
        builder = flatbuffers.Builder(len(self.content))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _rewired(self, part: Any, inputs: dict[int, int]) -> Any:
        if self._name(part) != "LceQuantize" or int(part.inputs[0]) not in inputs:
            return part
        part = copy.copy(part)
        part.inputs = [inputs[int(part.inputs[0])]]
        return part

    def _name(self, part: Any) -> str:
        code = self._model.operatorCodes[part.opcodeIndex]
        if code.customCode:
            return code.customCode.decode()
        # Old readers know the first 127 by another field.
        return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
