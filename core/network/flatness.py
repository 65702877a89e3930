"""Flat planes: feature maps of one value, whose variance is nothing but rounding.

An instance normalization divides by the deviation of a plane. It would enlarge rounding errors some 300 times, and one
layer after the other, until the picture of a frame of one color depends on the size of bands and the layout of memory. So
a variance that rounding can explain counts as zero: the normalized plane is its shift, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A convolution of constants adds its terms in another order at edges and at the ends of vectors. This many times the
# epsilon of float32 is several times what such sums were seen to differ by.
_SUMS = 32
_SAMPLES = 8  # rows and columns that are enough to see that most planes are not flat


def rounding_variance(mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest variance that rounding can give to planes of one value.

    Rounding errors are relative to the terms that were added up, not to their sum. So the mean square over all planes of
    the layer counts, in addition to the mean of the plane itself.

    Args:
        mean: (..., C) means of the planes of a layer, before anything is subtracted from them
        variance: (..., C) their variances
        dtype: number format of the planes; their sums are float32 or better

    Returns:
        (..., C) variances.
    """
    square = mean.square()
    return tolerance(dtype) ** 2 * (square + (square + variance).mean(dim=-1, keepdim=True))


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest rounding error of planes in a number format, relative to the terms that were added up."""
    return _SUMS * torch.finfo(torch.float32).eps + torch.finfo(dtype).eps / 2


def flat_planes(x: Tensor) -> Tensor | None:
    """Return which planes of (N, C, H, W) are flat, (N, C, 1, 1) bool, or None if there are none."""
    rows, columns = (max(side // _SAMPLES, 1) for side in x.shape[-2:])
    if not _are_flat(x[..., ::rows, ::columns]).any():
        return None
    flat = _are_flat(x)
    return flat[..., None, None] if flat.any() else None


def _are_flat(x: Tensor) -> Tensor:
    wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)
    return variance <= rounding_variance(mean, variance, x.dtype)
