"""A graph of ONNX operators under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from .graph import Graph, Value

#: The oldest set of operators that is enough, for programs that do not know the newest
OPSET = 17
_IR_VERSION = 8  # the file format that came with it
_END = 2**31 - 1  # in a slice: as far as there are values

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}


class OnnxGraph(Graph):
    """Nodes and constants in the order in which they are added. Values are known by their names."""

    def __init__(self, half: bool = False) -> None:
        super().__init__(half)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[bytes, str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        """Add a tensor or numbers and return their name. Integers are stored as int64. Equal constants are stored once."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(np.float16 if self.half else np.float32)
        key = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
        if key not in self._known:
            self._known[key] = f"constant_{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), self._known[key]))
        return self._known[key]

    def cast(self, x: str, number: int) -> str:
        """Convert values to a number format of ONNX."""
        return self.add("Cast", x, to=number)

    def narrowed(self, x: str) -> str:
        """See `Graph`."""
        return self.cast(x, TensorProto.FLOAT16) if self.half else x

    def widened(self, x: str) -> str:
        """See `Graph`."""
        return self.cast(x, TensorProto.FLOAT) if self.half else x

    def unary(self, operator: str, x: str) -> str:
        """See `Graph`."""
        return self.add(operator.capitalize(), x)

    def binary(self, operator: str, x: str, y: Value | float) -> str:
        """See `Graph`."""
        return self.add(operator.capitalize(), x, y if isinstance(y, str) else self.constant(float(y)))

    def by_channel(self, operator: str, x: str, numbers: np.ndarray) -> str:
        """See `Graph`."""
        return self.add(operator.capitalize(), x, self.constant(numbers.reshape(1, -1, 1, 1)))

    def clipped(self, x: str, low: float, high: float) -> str:
        """See `Graph`."""
        return self.add("Clip", x, self.constant(float(low)), self.constant(float(high)))

    def pad(self, x: str, before: int, after: int, mode: str) -> str:
        """See `Graph`."""
        if not (before or after):
            return x
        edges = self.constant([0, 0, before, before, 0, 0, after, after])
        return self.add("Pad", x, edges, mode=_PAD_MODES[mode])

    def convolve(
        self, x: str, weight: Tensor, bias: Tensor | None = None, *,
        stride: int = 1, pads: tuple[int, int] | None = (0, 0), channelwise: bool = False,
    ) -> str:  # fmt: skip
        """See `Graph`."""
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        options: dict[str, object] = {"auto_pad": "SAME_UPPER"}
        if pads is not None:
            options = {"pads": [pads[0]] * 2 + [pads[1]] * 2}
        if channelwise:
            options["group"] = len(weight)
        return self.add("Conv", *inputs, kernel_shape=list(weight.shape[2:]), strides=[stride] * 2, **options)

    def instance_norm(self, x: str, scale: Tensor, shift: Tensor, eps: float) -> str:
        """See `Graph`."""
        wide = self.widened(x)
        with self.float32():
            result = self.add(
                "InstanceNormalization", wide, self.constant(scale), self.constant(shift), epsilon=float(eps)
            )
        return self.narrowed(result)

    def split(self, x: str, parts: int) -> list[str]:
        """See `Graph`. The parts are equal."""
        names = [f"{x}_{part}" for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [x], names, name=f"Split_{len(self._nodes)}", axis=1))
        return names

    def joined(self, parts: Sequence[str]) -> str:
        """See `Graph`."""
        return self.add("Concat", *parts, axis=1)

    def window(self, x: str, starts: Sequence[int], ends: Sequence[int]) -> str:
        """See `Graph`."""
        stop = self.constant([end or _END for end in ends])
        return self.add("Slice", x, self.constant(list(starts)), stop, self.constant([2, 3]))

    def cropped(self, x: str, like: str, factor: int = 1) -> str:
        """See `Graph`. The sides are computed when the graph runs."""
        sides = self.add("Shape", like, start=2, end=4)
        if factor > 1:
            sides = self.add("Mul", sides, self.constant([factor, factor]))
        return self.add("Slice", x, self.constant([0, 0]), sides, self.constant([2, 3]))

    def blocks(self, x: str, side: int) -> str:
        """See `Graph`."""
        return self.add("DepthToSpace", x, blocksize=side)

    def repeated(self, x: str, factor: int) -> str:
        """See `Graph`."""
        with self.float32():
            scales = self.constant([1.0, 1.0, factor, factor])
        return self.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def turned(self, x: str) -> str:
        """See `Graph`."""
        return self.add("Gather", x, self.constant([2, 1, 0]), axis=1)

    def channel_mean(self, x: str) -> str:
        """See `Graph`."""
        return self.add("ReduceMean", x, axes=[1], keepdims=1)

    def model(
        self, inputs: onnx.ValueInfoProto, output: onnx.ValueInfoProto, result: str, metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Return the finished model, checked by ONNX itself.

        Args:
            inputs: The graph's input.
            output: The graph's output.
            result: Name of the value that becomes the output.
            metadata: Texts by name.
        """
        self._nodes.append(helper.make_node("Identity", [result], [output.name], name="Identity"))
        graph = helper.make_graph(self._nodes, "perceptual_style", [inputs], [output], self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION,
            producer_name="perceptual-style",
        )  # fmt: skip
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model
