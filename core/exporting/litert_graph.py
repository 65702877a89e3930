"""A graph of LiteRT's operators under construction, for pictures of one size. LiteRT was called TensorFlow Lite before."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from .graph import Graph
from .litert_parts import Parts

_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Maximum"}
_UNARY = {"relu": "RELU", "sigmoid": "LOGISTIC", "tanh": "TANH", "sqrt": "SQRT"}


class LiteRTGraph(Graph, Parts):
    """Operators and constants in the order in which they are added. Values are numbers of tensors, (1, H, W, C) there.

    Args:
        schema: As in `Parts`.
        half: Whether the weights of convolutions are stored as float16. All numbers are computed in float32, or in what the
            device prefers.
    """

    def __init__(self, schema: ModuleType, half: bool = False) -> None:
        Graph.__init__(self, half)
        Parts.__init__(self, schema)

    def narrowed(self, x: int) -> int:
        """See `Graph`."""
        return x

    def widened(self, x: int) -> int:
        """See `Graph`."""
        return x

    def unary(self, operator: str, x: int) -> int:
        """See `Graph`."""
        return self.add(_UNARY[operator], [x], self.shape(x))

    def binary(self, operator: str, x: int, y: int | float) -> int:
        """See `Graph`. An integer is the number of a tensor."""
        name = _BINARY[operator]
        shape = self.shape(x)
        options = "MaximumMinimum" if operator == "max" else name
        return self.add(name.upper(), [x, self.constant(y) if isinstance(y, float) else y], shape, options=options)

    def by_channel(self, operator: str, x: int, numbers: np.ndarray) -> int:
        """See `Graph`."""
        return self.binary(operator, x, self.constant(numbers.reshape(1, 1, 1, -1)))

    def clipped(self, x: int, low: float, high: float) -> int:
        """See `Graph`."""
        x = self.binary("max", x, float(low))
        return self.add("MINIMUM", [x, self.constant(float(high))], self.shape(x), options="MaximumMinimum")

    def pad(self, x: int, before: int, after: int, mode: str) -> int:
        """See `Graph`."""
        if not (before or after):
            return x
        if mode == "replicate" and max(before, after) > 1:
            for axis in (1, 2):
                x = self._extended(x, axis, before, after)
            return x
        _, height, width, channels = self.shape(x)
        edges = self.constant([[0, 0], [before, after], [before, after], [0, 0]])
        shape = 1, height + before + after, width + before + after, channels
        if mode == "zero":
            return self.add("PAD", [x, edges], shape, options="Pad")
        kind = self.schema.MirrorPadMode.REFLECT if mode == "reflect" else self.schema.MirrorPadMode.SYMMETRIC
        return self.add("MIRROR_PAD", [x, edges], shape, options="MirrorPad", mode=kind)

    def convolve(
        self, x: int, weight: Tensor, bias: Tensor | None = None, *,
        stride: int = 1, pads: tuple[int, int] | None = (0, 0), channelwise: bool = False,
    ) -> int:  # fmt: skip
        """See `Graph`."""
        if pads is not None:
            x = self.pad(x, *pads, "zero")
        kernel, sides = weight.shape[2:], self.shape(x)[1:3]
        if pads is None:
            sides = [-(-side // stride) for side in sides]
        else:
            sides = [(side - extent) // stride + 1 for side, extent in zip(sides, kernel, strict=True)]
        order = (1, 2, 3, 0) if channelwise else (0, 2, 3, 1)
        array = np.ascontiguousarray(weight.detach().cpu().permute(order).numpy())
        weights = self.constant(array.astype(np.float16) if self.half else array)
        if self.half:
            weights = self.add("DEQUANTIZE", [weights], array.shape, options="Dequantize", version=3)
        biases = self.constant(np.zeros(len(weight)) if bias is None else bias)
        padding = self.schema.Padding.SAME if pads is None else self.schema.Padding.VALID
        options: dict[str, Any] = (
            {"options": "DepthwiseConv2D", "depthMultiplier": 1} if channelwise else {"options": "Conv2D"}
        )
        return self.add(
            "DEPTHWISE_CONV_2D" if channelwise else "CONV_2D", [x, weights, biases], (1, *sides, len(weight)),
            padding=padding, strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1, **options,
        )  # fmt: skip

    def instance_norm(self, x: int, scale: Tensor, shift: Tensor, eps: float) -> int:
        """See `Graph`."""
        rest = self.binary("sub", x, self._plane_mean(x))
        variance = self._plane_mean(self.binary("mul", rest, rest))
        factor = self.add("RSQRT", [self.binary("add", variance, float(eps))], self.shape(variance))
        factor = self.by_channel("mul", factor, scale.detach().cpu().numpy())
        return self.by_channel("add", self.binary("mul", rest, factor), shift.detach().cpu().numpy())

    def split(self, x: int, parts: int) -> list[int]:
        """See `Graph`."""
        *sides, channels = self.shape(x)
        shapes = [[*sides, channels // parts]] * parts
        first = self.add("SPLIT", [self.constant(3), x], *shapes, options="Split", numSplits=parts)
        return list(range(first, first + parts))

    def joined(self, parts: Sequence[int]) -> int:
        """See `Graph`."""
        return self._concatenated(parts, 3)

    def window(self, x: int, starts: Sequence[int], ends: Sequence[int]) -> int:
        """See `Graph`."""
        _, height, width, _ = self.shape(x)
        return self._part(x, starts, (height - starts[0] + ends[0], width - starts[1] + ends[1]))

    def cropped(self, x: int, like: int, factor: int = 1) -> int:
        """See `Graph`."""
        _, height, width, _ = self.shape(like)
        return self._part(x, (0, 0), (factor * height, factor * width))

    def blocks(self, x: int, side: int) -> int:
        """See `Graph`."""
        _, height, width, channels = self.shape(x)
        shape = 1, height * side, width * side, channels // side**2
        return self.add("DEPTH_TO_SPACE", [x], shape, options="DepthToSpace", blockSize=side)

    def repeated(self, x: int, factor: int) -> int:
        """See `Graph`."""
        _, height, width, channels = self.shape(x)
        sides = height * factor, width * factor
        return self.add(
            "RESIZE_NEAREST_NEIGHBOR", [x, self.constant(sides)], (1, *sides, channels), options="ResizeNearestNeighbor"
        )

    def turned(self, x: int) -> int:
        """See `Graph`."""
        return self.joined(self.split(x, 3)[::-1])

    def channel_mean(self, x: int) -> int:
        """See `Graph`."""
        return self._mean(x, 3)

    def cast(self, x: int, kind: type) -> int:
        """Convert values to another number format."""
        before, after = self.number(x), self.number_of(kind)
        return self.add("CAST", [x], self.shape(x), kind=kind, options="Cast", inDataType=before, outDataType=after)

    def _plane_mean(self, x: int) -> int:
        """Return the mean of each channel. One sum over all pixels in float32 would lose digits, as kernels add one by one."""
        return self._mean(self._mean(x, 2), 1)

    def _mean(self, x: int, axis: int) -> int:
        shape = [*self.shape(x)]
        shape[axis] = 1
        return self.add("MEAN", [x, self.constant([axis])], shape, options="Reducer", keepDims=True)

    def _part(self, x: int, starts: Sequence[int], sides: Sequence[int]) -> int:
        channels = self.shape(x)[3]
        if self.shape(x)[1:3] == [*sides]:
            return x
        where = self.constant([0, *starts, 0]), self.constant([1, *sides, channels])
        return self.add("SLICE", [x, *where], (1, *sides, channels), options="Slice")

    def _extended(self, x: int, axis: int, before: int, after: int) -> int:
        """Repeat the first and the last row or column."""
        sides = self.shape(x)[1:3]
        thin = [1 if axis == 1 else sides[0], 1 if axis == 2 else sides[1]]
        last = [side - extent for side, extent in zip(sides, thin, strict=True)]
        first_part, last_part = self._part(x, (0, 0), thin), self._part(x, last, thin)
        return self._concatenated([first_part] * before + [x] + [last_part] * after, axis)

    def _concatenated(self, parts: Sequence[int], axis: int) -> int:
        shape = [*self.shape(parts[0])]
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self.add("CONCATENATION", parts, shape, options="Concatenation", axis=axis)
