"""The number formats that a network is computed in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..devices import PRECISIONS, has_fast_bf16
from ..errors import InputError


@dataclass(frozen=True)
class NumberFormats:
    """Number formats of a run. Statistics and output are float32 or better.

    Attributes:
        maps: stored feature maps, and convolutions
        blocks: the same in residual blocks from the fourth one on
        first: arithmetic of the first convolution, whose input is the image
    """

    maps: torch.dtype
    blocks: torch.dtype
    first: torch.dtype

    @classmethod
    def uniform(cls, dtype: torch.dtype) -> NumberFormats:
        """Return one format for everything."""
        return cls(dtype, dtype, dtype)


def number_formats(device: torch.device, precision: str) -> NumberFormats:
    """Return the number formats of a precision on a device.

    With "auto" on a CPU, residual blocks from the fourth one on use bfloat16 if the hardware has it. On the example photos
    with the bundled styles, the mean difference from fp32 is 0.02 to 0.04 of 255, and up to 1.1 at the worst pixel. With
    bf16 throughout, it is up to 30. The aim is 2, for other styles too (benchmarks/README.md compares choices of blocks).

    With "auto" on a GPU, all but the first convolution use fp16. Rounding the image causes nearly all of the error of fp16
    (and of TF32), so that the rest is as accurate as "auto" on a CPU. `without_float16` is for networks that overflow.

    "fp32" is exact: TF32 is off.

    Args:
        device: where the network runs
        precision: auto | fp32 | bf16 | fp16

    Raises:
        InputError: for another precision
    """
    if precision == "auto":
        if device.type != "cpu":
            return NumberFormats(torch.float16, torch.float16, torch.float32)
        return NumberFormats(torch.float32, torch.bfloat16 if has_fast_bf16(device) else torch.float32, torch.float32)
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; expected auto, {', '.join(PRECISIONS)}")
    return NumberFormats.uniform(PRECISIONS[precision])


def without_float16(device: torch.device) -> NumberFormats:
    """Return the formats of "auto" on a GPU for a network whose values leave the range of float16."""
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return NumberFormats(dtype, dtype, torch.float32)
