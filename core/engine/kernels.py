"""The steps between the convolutions of a whole image, and which module of them suits a device."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from . import torch_kernels
from .lowering import Norm
from .whole_maps import Frame, WholeMap


class Kernels(Protocol):
    """The two steps between convolutions, as torch's operations or as kernels of our own."""

    def statistics(self, source: WholeMap, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return the scale and the shift, (C) float32 each, that normalize a map whose scale and skip are None.

        Planes whose variance is only rounding (network/flatness.py) get scale 0, and the norm's shift.
        """

    def values(self, source: WholeMap, frame: Frame, dtype: torch.dtype, contiguous: bool = False) -> Tensor:
        """Return the values of a map with a frame: (1, C, H', W'), channels last unless they are to be contiguous."""


@lru_cache(maxsize=16)
def kernels_for(device: torch.device) -> Kernels:
    """Return the module of the kernels for a device: Triton's on CUDA where they can be compiled, else torch's."""
    if device.type == "cuda":
        try:
            from . import triton_kernels

            if _agree(triton_kernels, device):
                return triton_kernels
        except Exception:  # no Triton, no compiler for it, or a GPU that it does not know
            return torch_kernels
    return torch_kernels


def _agree(kernels: Kernels, device: torch.device) -> bool:
    """Return whether kernels compute the same as torch's on a small map."""
    raw = (
        torch.arange(96, dtype=torch.float32, device=device)
        .reshape(1, 8, 3, 4)
        .sin()
        .contiguous(memory_format=torch.channels_last)
    )
    ones = torch.ones(2, dtype=torch.float32, device=device)
    for dtype in (torch.float32, torch.float16):
        found = WholeMap(raw.to(dtype), 4, 6, 2, 2, (0, 1), relu=True)
        results = []
        for module in (kernels, torch_kernels):
            scale, shift = module.statistics(found, Norm(ones, 0 * ones, 1e-5))
            whole = WholeMap(found.raw, 4, 6, 2, 2, (0, 1), None, scale, shift, relu=True)
            results.append(module.values(whole, Frame(1, 1, 1, 1, "reflect"), dtype))
        ours, plain = (result.float() for result in results)
        if not torch.allclose(ours, plain, atol=1e-2):
            return False
    return True
