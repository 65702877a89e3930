"""A graph of Core ML's operators under construction, in MIL, the language in which coremltools keeps ML programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .graph import Graph, Value

_BINARY = {"div": "real_div", "max": "maximum"}  # others have the same names
_PAD_MODES = {"reflect": "reflect", "replicate": "replicate", "zero": "constant"}


class CoreMLGraph(Graph):
    """Operators of iOS 15, added to the program that is built around them. Values are MIL's variables, (1, C, H, W).

    Args:
        builder: ``coremltools.converters.mil.Builder``.
        half: As in `Graph`.
    """

    def __init__(self, builder: Any, half: bool = False) -> None:
        super().__init__(half)
        self._mil = builder

    def constant(self, values: Any) -> np.ndarray:
        """Return a tensor or numbers in the number format of the moment."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        return np.ascontiguousarray(array, np.float16 if self.half else np.float32)

    def narrowed(self, x: Value) -> Value:
        """See `Graph`."""
        return self._mil.cast(x=x, dtype="fp16") if self.half else x

    def widened(self, x: Value) -> Value:
        """See `Graph`."""
        return self._mil.cast(x=x, dtype="fp32") if self.half else x

    def unary(self, operator: str, x: Value) -> Value:
        """See `Graph`."""
        return getattr(self._mil, operator)(x=x)

    def binary(self, operator: str, x: Value, y: Value | float) -> Value:
        """See `Graph`."""
        return getattr(self._mil, _BINARY.get(operator, operator))(
            x=x, y=self.constant(y) if isinstance(y, float | int) else y
        )

    def by_channel(self, operator: str, x: Value, numbers: np.ndarray) -> Value:
        """See `Graph`."""
        return getattr(self._mil, _BINARY.get(operator, operator))(x=x, y=self.constant(numbers.reshape(1, -1, 1, 1)))

    def clipped(self, x: Value, low: float, high: float) -> Value:
        """See `Graph`."""
        kind = np.float16 if self.half else np.float32
        return self._mil.clip(x=x, alpha=kind(low), beta=kind(high))

    def pad(self, x: Value, before: int, after: int, mode: str) -> Value:
        """See `Graph`."""
        if not (before or after):
            return x
        kind = np.float16 if self.half else np.float32
        return self._mil.pad(x=x, pad=[before, after] * 2, mode=_PAD_MODES[mode], constant_val=kind(0))

    def convolve(
        self, x: Value, weight: Tensor, bias: Tensor | None = None, *,
        stride: int = 1, pads: tuple[int, int] | None = (0, 0), channelwise: bool = False,
    ) -> Value:  # fmt: skip
        """See `Graph`."""
        options: dict[str, Any] = {"pad_type": "same"}
        if pads is not None:
            options = {"pad_type": "custom", "pad": [*pads] * 2} if any(pads) else {"pad_type": "valid"}
        if bias is not None:
            options["bias"] = self.constant(bias)
        groups = len(weight) if channelwise else 1
        return self._mil.conv(x=x, weight=self.constant(weight), strides=[stride] * 2, groups=groups, **options)

    def instance_norm(self, x: Value, scale: Tensor, shift: Tensor, eps: float) -> Value:
        """See `Graph`."""
        wide = self.widened(x)
        with self.float32():
            gamma, beta = self.constant(scale), self.constant(shift)
            result = self._mil.instance_norm(x=wide, gamma=gamma, beta=beta, epsilon=np.float32(eps))
        return self.narrowed(result)

    def split(self, x: Value, parts: int) -> list[Value]:
        """See `Graph`."""
        return list(self._mil.split(x=x, num_splits=parts, axis=1))

    def joined(self, parts: Sequence[Value]) -> Value:
        """See `Graph`."""
        return self._mil.concat(values=list(parts), axis=1)

    def window(self, x: Value, starts: Sequence[int], ends: Sequence[int]) -> Value:
        """See `Graph`."""
        return self._mil.slice_by_index(
            x=x, begin=[0, 0, *starts], end=[0, 0, *ends], end_mask=[True, True, *(end == 0 for end in ends)]
        )

    def cropped(self, x: Value, like: Value, factor: int = 1) -> Value:
        """See `Graph`. The sides are computed when the program runs, unless they are known."""
        sides = [factor * side if isinstance(side, int) else None for side in like.shape[2:]]
        if None not in sides:
            if list(x.shape[2:]) == sides:
                return x
            end: Any = [0, 0, *sides]
        else:
            found = self._mil.slice_by_index(x=self._mil.shape(x=like), begin=[2], end=[4])
            found = self._mil.mul(x=found, y=np.int32(factor)) if factor > 1 else found
            end = self._mil.concat(values=[np.zeros(2, np.int32), found], axis=0)
        return self._mil.slice_by_index(x=x, begin=[0] * 4, end=end, end_mask=[True, True, False, False])

    def blocks(self, x: Value, side: int) -> Value:
        """See `Graph`. Core ML orders the channels as TensorFlow does, whose converter uses this operator."""
        return self._mil.depth_to_space(x=x, block_size=side)

    def repeated(self, x: Value, factor: int) -> Value:
        """See `Graph`."""
        return self._mil.upsample_nearest_neighbor(x=x, scale_factor_height=factor, scale_factor_width=factor)

    def turned(self, x: Value) -> Value:
        """See `Graph`."""
        return self._mil.gather(x=x, indices=np.array([2, 1, 0], np.int32), axis=1)

    def channel_mean(self, x: Value) -> Value:
        """See `Graph`."""
        return self._mil.reduce_mean(x=x, axes=[1], keep_dims=True)
