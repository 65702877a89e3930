"""Feature maps that are held whole, as a GPU with enough memory computes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from . import torch_kernels
from .lowering import Norm


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


class Kernels(Protocol):
    """The two steps between convolutions, as torch's operations or as kernels of our own."""

    def statistics(self, source: WholeMap, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return the scale and the shift, (C) float32 each, that normalize a map whose scale and skip are None.

        Planes whose variance is only rounding (network/flatness.py) get scale 0, and the norm's shift.
        """

    def values(self, source: WholeMap, frame: Frame, dtype: torch.dtype, contiguous: bool = False) -> Tensor:
        """Return the values of a map with a frame: (1, C, H', W'), channels last unless they are to be contiguous."""


@lru_cache(maxsize=16)
def kernels_for(device: torch.device) -> ModuleType:
    """Return the module of the kernels for a device: Triton's on CUDA where they can be compiled, else torch's."""
    if device.type == "cuda":
        try:
            from . import triton_kernels

            if _agree(triton_kernels, device):
                return triton_kernels
        except Exception:  # no Triton, no compiler for it, or a GPU that it does not know
            return torch_kernels
    return torch_kernels


def _agree(kernels: ModuleType, device: torch.device) -> bool:
    """Return whether kernels compute the same as torch's on a small map."""
    raw = torch.arange(96.0, device=device).reshape(1, 8, 3, 4).sin().contiguous(memory_format=torch.channels_last)
    ones = torch.ones(2, device=device)
    for dtype in (torch.float32, torch.float16):
        found = WholeMap(raw.to(dtype), 4, 6, 2, 2, (0, 1), relu=True)
        results = []
        for module in (kernels, torch_kernels):
            scale, shift = module.statistics(found, Norm(ones, 0 * ones, 1e-5))
            whole = WholeMap(found.raw, 4, 6, 2, 2, (0, 1), None, scale, shift, relu=True)
            results.append(module.values(whole, Frame(1, 1, 1, 1, "reflect"), dtype))
        if not torch.allclose(*(result.float() for result in results), atol=1e-2):
            return False
    return True
