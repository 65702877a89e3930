"""The nodes of an ONNX graph that process the image, one after the other, and its constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, shortened
from ..budget import Budget
from .constants import array_of, fold

_PAD_MODES = {"constant": "zero", "reflect": "reflect", "edge": "replicate"}
_SPELLED_OUT = {"Reshape", "ReduceMean", "Sub", "Add", "Mul", "Pow", "Sqrt", "Div", "Reciprocal"}
_MOST_NUMBERS = 16
_NO_OPERATION = {"Identity", "Cast", "Dropout"}


class Nodes:
    """A place in the graph: `peek` looks at the next node, `step` moves past it.

    Args:
        onnx: the package
        graph: the graph
        budget: what reading the file may take

    Attributes:
        current: name of the value computed so far
        tensors: weights read so far, under new names
        used: shapes of the same weights, under the names of the graph
        norms: kinds of norms read so far
        eps: eps of the norms read so far
        paddings: kinds of padding read so far
        last_added: the last place in the graph where a value is added to another, by its name
        side: height of the current value, 0 or less if unknown

    Raises:
        CheckpointError: if weights are in another file, or there is not one input and one output
    """

    def __init__(self, onnx: Any, graph: Any, budget: Budget) -> None:
        self.budget = budget
        self.constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            self.constants[tensor.name] = array = array_of(onnx, tensor)
            budget.spend(size=array.nbytes)
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise CheckpointError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs; expected one of each")
        dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
        self.side = dims[2] if len(dims) == 4 else 0
        self.attribute: Callable[[Any], Any] = onnx.helper.get_attribute_value
        self.nodes = self.data_nodes(onnx, graph.node, inputs[0].name)
        self.last_added = {
            name: place for place, node in enumerate(self.nodes) if node.op_type == "Add" for name in node.input
        }
        self.place, self.current, self.end = 0, inputs[0].name, graph.output[0].name
        self.tensors: dict[str, Tensor] = {}
        self.used: dict[str, tuple[int, ...]] = {}
        self.paddings: set[str] = set()
        self.eps: set[float] = set()
        self.norms: set[str] = set()

    def data_nodes(self, onnx: Any, nodes: Any, image: str) -> list[Any]:
        """Return the nodes that process the image; fold others into constants where possible."""
        data, found = {image}, []

        for node in nodes:
            if node.op_type == "Shape":
                continue
            if data.intersection(node.input):
                data.update(node.output)
                found.append(node)
            else:
                fold(node, self.attributes(node), self.constants, partial(array_of, onnx), self.budget)
        return found

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes by name."""
        return {attribute.name: self.attribute(attribute) for attribute in node.attribute}

    def peek(self) -> str:
        """Return the next node's operation if it takes the current value, "?" if not, "" at the end."""
        while self.place < len(self.nodes) and self.nodes[self.place].op_type in _NO_OPERATION:
            node = self.nodes[self.place]
            if node.input[0] != self.current:
                break
            self.place, self.current = self.place + 1, node.output[0]
        if self.place == len(self.nodes):
            return ""
        node = self.nodes[self.place]
        return node.op_type if self.current in node.input else "?"

    def step(self) -> Any:
        """Move past the next node and return it."""
        self.budget.spend(len(self.nodes[self.place].input))
        node = self.nodes[self.place]
        self.place, self.current = self.place + 1, node.output[0]
        return node

    def padding(self, node: Any) -> tuple[tuple[int, ...], str]:
        """Return the pixels (top, left, bottom, right) and the kind of a padding."""
        values = self.attributes(node)
        mode = _PAD_MODES.get(values.get("mode", b"constant").decode())
        pads = values.get("pads")
        if pads is None:
            pads = self.numbers(self.constant(node.input[1]))
        fill = self.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else values.get("value", 0)
        if mode is None or (mode == "zero" and fill is not None and float(fill) != 0):
            raise CheckpointError("a padding of an unknown kind")
        if len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)):
            raise CheckpointError("a padding of other axes than height and width")
        return tuple(int(pads[i]) for i in (2, 3, 6, 7)), mode

    def norm(self, channels: int) -> str:
        """Read a norm, if one comes next, and return the name of its tensors, else ""."""
        operation = self.peek()
        if operation in ("InstanceNormalization", "BatchNormalization"):
            node = self.step()
            name = str(len(self.tensors))
            fields = ("weight", "bias", "running_mean", "running_var")[: len(node.input) - 1]
            for field, key in zip(fields, node.input[1:], strict=False):
                self.store(f"{name}.{field}", key)
            self.norms.add("instance" if operation == "InstanceNormalization" else "batch")
            self.eps.add(round(self.attributes(node).get("epsilon", 1e-5), 12))
            return name
        return self.spelled_out(channels)

    def spelled_out(self, channels: int) -> str:
        """Read an instance normalization as older exporters wrote it: mean, difference, mean square, root, quotient."""
        last = self.place
        operations: list[str] = []
        factor = eps = None
        source, produced = self.current, {self.current}
        while last < len(self.nodes) and self.nodes[last].op_type in _SPELLED_OUT:
            node = self.nodes[last]
            if not produced.issuperset(name for name in node.input if name not in self.constants):
                return ""
            operations.append(node.op_type)
            produced.update(node.output)
            vector = next((n for n in node.input if n in self.constants and self.constants[n].size == channels), None)
            number = next((n for n in node.input if n in self.constants and self.constants[n].size == 1), None)
            if node.op_type == "Mul" and vector:
                factor = vector
            if (
                node.op_type == "Add"
                and number
                and last + 1 < len(self.nodes)
                and self.nodes[last + 1].op_type == "Sqrt"
            ):
                eps = float(self.constants[number].ravel()[0])
            last += 1
            if node.op_type == "Add" and vector and factor:
                counts = [operations.count(name) for name in ("ReduceMean", "Sqrt", "Div", "Sub")]
                if counts != [2, 1, 1, 1] or eps is None:
                    raise CheckpointError("a normalization of an unknown kind")
                name = str(len(self.tensors))
                self.store(f"{name}.weight", factor)
                self.store(f"{name}.bias", vector)
                self.norms.add("instance")
                self.eps.add(float(f"{eps:.6g}"))
                self.place, self.current = last, node.output[0]
                return name
        if source != self.current:
            raise CheckpointError("a normalization of an unknown kind")
        return ""

    def store(self, name: str, key: str, flat: bool = True) -> Tensor:
        """Store the weights ``key`` of the graph as ``name``; ``flat`` makes a vector of any shape."""
        array = self.constant(key)
        if array.dtype.kind != "f" or not math.prod(array.shape):
            raise CheckpointError(
                f"the weights {shortened(key, 60)!r} are {array.dtype}; expected floating-point numbers"
            )
        self.budget.spend(size=4 * array.size)  # nodes can share weights, which are copied here
        array = array.reshape(-1) if flat else array
        self.used[key] = tuple(array.shape)
        self.tensors[name] = torch.from_numpy(array.astype("float32"))
        return self.tensors[name]

    def constant(self, name: str) -> Any:
        """Return a constant; raise CheckpointError if the value is computed."""
        if name not in self.constants:
            raise CheckpointError(f"{shortened(name, 60)!r} is computed; expected a constant")
        return self.constants[name]

    @staticmethod
    def numbers(array: Any) -> list[Any]:
        """Return the elements of a small array, an empty list for a large one."""
        return array.ravel().tolist() if array.size <= _MOST_NUMBERS else []
