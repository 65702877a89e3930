"""A LiteRT file under construction: tensors, constants and operators, and the bytes that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

_ALIGNMENT = 16  # bytes, of the constants in the file
_VERSION = 3  # of the file format


class Parts:
    """What a file consists of. Tensors are known by their numbers.

    Args:
        schema: ``ai_edge_litert.schema_py_generated``, the classes of the file format.
    """

    def __init__(self, schema: ModuleType) -> None:
        self.schema: Any = schema
        self._model, self._graph = self.schema.ModelT(), self.schema.SubGraphT()
        self._model.buffers, self._model.operatorCodes = [self.schema.BufferT()], []
        self._graph.tensors, self._graph.operators = [], []
        self._known: dict[bytes, int] = {}

    def shape(self, x: int) -> list[int]:
        """Return a tensor's shape."""
        return self._graph.tensors[x].shape

    def number(self, x: int) -> int:
        """Return the format's name, a number, of a tensor's number format."""
        return self._graph.tensors[x].type

    def number_of(self, kind: type) -> int:
        """Return the format's name of one of numpy's number formats."""
        return getattr(self.schema.TensorType, np.dtype(kind).name.upper())

    def tensor(self, shape: Sequence[int], kind: type = np.float32, name: str = "", buffer: int = 0) -> int:
        """Add a tensor without an operator, such as an input, and return its number."""
        tensor = self.schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = [*map(int, shape)], self.number_of(kind), buffer
        tensor.name = name or f"value_{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def add(
        self, operator: str, inputs: Sequence[int], *shapes: Sequence[int],
        options: str = "", version: int = 1, kind: type = np.float32, **attributes: Any,
    ) -> int:  # fmt: skip
        """Add an operator and return the number of its first result; others follow it.

        Args:
            operator: Name in LiteRT's list of operators.
            inputs: Numbers of tensors.
            *shapes: Shapes of the results.
            options: Name of its options in LiteRT's schema, without "Options" at the end.
            version: Version of the operator.
            kind: Number format of the results.
            **attributes: Options.
        """
        results = [self.tensor(shape, kind) for shape in shapes]
        added = self.schema.OperatorT()
        added.opcodeIndex, added.inputs, added.outputs = self._code(operator, version), [*inputs], results
        if options:
            added.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{options}Options")
            added.builtinOptions = getattr(self.schema, f"{options}OptionsT")()
            for name, value in attributes.items():
                setattr(added.builtinOptions, name, value)
        self._graph.operators.append(added)
        return results[0]

    def constant(self, values: Any) -> int:
        """Add a tensor or numbers, as float32 or int32, or as float16 if they are. Equal constants are stored once."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        if array.dtype != np.float16:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
        key = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
        if key not in self._known:
            self._known[key] = self.tensor(array.shape, array.dtype.type, buffer=self._buffer(array.tobytes()))
        return self._known[key]

    def file(self, image: int, result: int, description: str, metadata: Mapping[str, str]) -> bytes:
        """Return the content of the finished file.

        Args:
            image: The input.
            result: The output.
            description: What viewers show.
            metadata: Texts by name.
        """
        import flatbuffers

        graph, model = self._graph, self._model
        graph.tensors[result].name = "result"
        graph.name, graph.inputs, graph.outputs = "perceptual_style", [image], [result]
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [self._named("image", image)], [self._named("result", result)]
        model.version, model.description = _VERSION, description
        model.subgraphs, model.signatureDefs, model.metadata = [graph], [signature], []
        for name, text in metadata.items():
            entry = self.schema.MetadataT()
            entry.name, entry.buffer = name, self._buffer(text.encode())
            model.metadata.append(entry)
        builder = flatbuffers.Builder(2**20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, operator: str, version: int) -> int:
        """Return the number of an operator in the file's own list."""
        wanted = self.schema.OperatorCodeT()
        wanted.builtinCode, wanted.version = getattr(self.schema.BuiltinOperator, operator), version
        wanted.deprecatedBuiltinCode = min(wanted.builtinCode, 127)
        for index, code in enumerate(self._model.operatorCodes):
            if (code.builtinCode, code.version) == (wanted.builtinCode, version):
                return index
        self._model.operatorCodes.append(wanted)
        return len(self._model.operatorCodes) - 1

    def _buffer(self, content: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.Pack = partial(_packed, self.schema, content)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _named(self, name: str, tensor: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor
        return entry


def _packed(schema: Any, content: bytes, builder: Any) -> int:
    """Add bytes to a file under construction, at a place from which processors can read numbers directly."""
    builder.StartVector(1, len(content), _ALIGNMENT)
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    vector = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, vector)
    return schema.BufferEnd(builder)
