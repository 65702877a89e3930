"""The operations that networks need, as methods that each file format turns into its own operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

#: A value of a graph under construction, (N, C, H, W) to those who build it. Only its graph knows what it is.
Value = Any


class Graph(ABC):
    """A graph under construction.

    Args:
        half: Whether networks compute in float16. Norms and what surrounds the networks are float32 anyway.

    Attributes:
        half: Whether constants that are added now are float16.
    """

    def __init__(self, half: bool = False) -> None:
        self.half = half

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Store constants as float32 in the ``with`` block."""
        half, self.half = self.half, False
        try:
            yield
        finally:
            self.half = half

    def affine(self, x: Value, scale: Sequence[float] | Tensor, shift: Sequence[float] | Tensor) -> Value:
        """Scale and shift each channel."""
        factors, offsets = (
            np.asarray(each.detach().cpu() if isinstance(each, Tensor) else each, np.float64) for each in (scale, shift)
        )
        if (factors != 1).any():
            x = self.by_channel("mul", x, factors)
        return self.by_channel("add", x, offsets) if offsets.any() else x

    @abstractmethod
    def narrowed(self, x: Value) -> Value:
        """Convert float32 to the number format of the networks."""

    @abstractmethod
    def widened(self, x: Value) -> Value:
        """Convert the number format of the networks to float32."""

    @abstractmethod
    def unary(self, operator: str, x: Value) -> Value:
        """Apply relu | sigmoid | tanh | sqrt to each number."""

    @abstractmethod
    def binary(self, operator: str, x: Value, y: Value | float) -> Value:
        """Apply add | sub | mul | div | max to two values, or to a value and a number."""

    @abstractmethod
    def by_channel(self, operator: str, x: Value, numbers: np.ndarray) -> Value:
        """Apply add | mul to a value and one number for each channel, (C) or (1)."""

    @abstractmethod
    def clipped(self, x: Value, low: float, high: float) -> Value:
        """Limit each number."""

    @abstractmethod
    def pad(self, x: Value, before: int, after: int, mode: str) -> Value:
        """Pad the height and width: reflect | replicate | zero."""

    @abstractmethod
    def convolve(
        self, x: Value, weight: Tensor, bias: Tensor | None = None, *,
        stride: int = 1, pads: tuple[int, int] | None = (0, 0), channelwise: bool = False,
    ) -> Value:  # fmt: skip
        """Convolve a value.

        Args:
            x: The value.
            weight: (C', C, k, k), or (C, 1, k, k) if ``channelwise``.
            bias: (C').
            stride: Of the convolution.
            pads: Zeros before and after each side. If it is None, as many as TensorFlow's SAME puts there.
            channelwise: Whether each channel is convolved on its own.
        """

    @abstractmethod
    def instance_norm(self, x: Value, scale: Tensor, shift: Tensor, eps: float) -> Value:
        """Normalize each channel in float32: float16 cannot hold the squares."""

    @abstractmethod
    def split(self, x: Value, parts: int) -> list[Value]:
        """Return the parts of (N, parts * C, H, W)."""

    @abstractmethod
    def joined(self, parts: Sequence[Value]) -> Value:
        """Join the channels of values."""

    @abstractmethod
    def window(self, x: Value, starts: Sequence[int], ends: Sequence[int]) -> Value:
        """Return the rows and columns from ``starts`` to ``ends``, counted from the last ones: 0 or less."""

    @abstractmethod
    def cropped(self, x: Value, like: Value, factor: int = 1) -> Value:
        """Return as many rows and columns as ``factor`` times the sides of another value."""

    @abstractmethod
    def blocks(self, x: Value, side: int) -> Value:
        """Turn channel (a * side + b) * C + c into pixel (a, b) of blocks: (N, C, side * H, side * W)."""

    @abstractmethod
    def repeated(self, x: Value, factor: int) -> Value:
        """Repeat each pixel ``factor`` times in both directions."""

    @abstractmethod
    def turned(self, x: Value) -> Value:
        """Return the three channels in the opposite order."""

    @abstractmethod
    def channel_mean(self, x: Value) -> Value:
        """Return the mean of all channels, (N, 1, H, W)."""
