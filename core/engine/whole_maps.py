"""Feature maps that are held whole, as a GPU with enough memory computes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class WholeMap:
    """A feature map as a convolution left it, and what its values mean.

    The value of pixel (y, x) is relu(scale (raw + bias) + shift + times skip), without the parts that are None.

    Attributes:
        raw: (1, S * S * C, positions, positions), positions as in `Window`
        height: rows in pixels
        width: columns in pixels
        channels: C
        phases: S, as in `Window`
        shifts: as in `Window`
        bias: (S * S * C) float32
        scale: (C) float32
        shift: (C) float32; None if ``scale`` is
        skip: (1, C, height, width), a map to add
        times: how often ``skip`` is added
        relu: whether a ReLU follows
    """

    raw: Tensor
    height: int
    width: int
    channels: int
    phases: int = 1
    shifts: tuple[int, ...] = (0,)
    bias: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    skip: Tensor | None = None
    times: int = 1
    relu: bool = False

    @classmethod
    def of(cls, pixels: Tensor) -> WholeMap:
        """Return the map of (1, C, H, W) values."""
        _, channels, height, width = pixels.shape
        return cls(pixels, height, width, channels)


@dataclass(frozen=True)
class Frame:
    """The pixels around a map that a convolution reads, or the pixels of the map that it leaves out.

    Attributes:
        top: rows above the map
        bottom: rows below it; negative for rows that are left out
        left: columns
        right: columns
        padding: how they are filled: reflect | replicate | zero
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    padding: str = "zero"
