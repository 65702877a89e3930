"""A graph of ONNX operators under construction, and the few operators that networks need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

#: The oldest set of operators that is enough, for programs that do not know the newest
OPSET = 17
_IR_VERSION = 8  # the file format that came with it

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}


class Graph:
    """Nodes and constants in the order in which they are added. Values are known by their names.

    Args:
        half: Whether networks compute in float16. Norms and what surrounds the networks are float32 anyway.

    Attributes:
        half: Whether constants that are added now are float16.
    """

    def __init__(self, half: bool = False) -> None:
        self.half = half
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
        """Convert float32 to the number format of the networks."""
        return self.cast(x, TensorProto.FLOAT16) if self.half else x

    def widened(self, x: str) -> str:
        """Convert the number format of the networks to float32."""
        return self.cast(x, TensorProto.FLOAT) if self.half else x

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Store constants as float32 in the ``with`` block."""
        half, self.half = self.half, False
        try:
            yield
        finally:
            self.half = half

    def pad(self, x: str, before: int, after: int, mode: str) -> str:
        """Pad the height and width of (N, C, H, W): reflect | replicate | zero."""
        if not (before or after):
            return x
        edges = self.constant([0, 0, before, before, 0, 0, after, after])
        return self.add("Pad", x, edges, mode=_PAD_MODES[mode])

    def convolve(self, x: str, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> str:
        """Convolve (N, C, H, W) with ``weight`` (C', C / group, k, k)."""
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", *inputs, kernel_shape=list(weight.shape[2:]), **attributes)

    def instance_norm(self, x: str, scale: Tensor, shift: Tensor, eps: float) -> str:
        """Normalize each channel of (N, C, H, W) in float32: float16 cannot hold the squares."""
        wide = self.widened(x)
        with self.float32():
            result = self.add(
                "InstanceNormalization", wide, self.constant(scale), self.constant(shift), epsilon=float(eps)
            )
        return self.narrowed(result)

    def split(self, x: str, parts: int, channels: int) -> list[str]:
        """Return the parts of (N, parts * channels, H, W)."""
        names = [f"{x}_{part}" for part in range(parts)]
        sizes = self.constant([channels] * parts)
        self._nodes.append(helper.make_node("Split", [x, sizes], names, name=f"Split_{len(self._nodes)}", axis=1))
        return names

    def window(self, x: str, starts: Sequence[int], ends: Sequence[int] | str) -> str:
        """Return the rows and columns from ``starts`` to ``ends``, which may be the name of a computed value."""
        stop = ends if isinstance(ends, str) else self.constant(ends)
        return self.add("Slice", x, self.constant(starts), stop, self.constant([2, 3]))

    def sides(self, x: str, factor: int = 1) -> str:
        """Return ``factor`` times the height and width of (N, C, H, W), as computed when the graph runs."""
        sides = self.add("Shape", x, start=2, end=4)
        return sides if factor == 1 else self.add("Mul", sides, self.constant([factor, factor]))

    def affine(self, x: str, scale: Sequence[float] | Tensor, shift: Sequence[float] | Tensor) -> str:
        """Scale and shift each channel of (N, C, H, W)."""
        columns = [np.asarray(each, np.float64).reshape(1, -1, 1, 1) for each in (scale, shift)]
        if (columns[0] != 1).any():
            x = self.add("Mul", x, self.constant(columns[0]))
        return self.add("Add", x, self.constant(columns[1])) if columns[1].any() else x

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
