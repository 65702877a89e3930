"""Mean and variance of a feature map, added up over bands, for instance normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arithmetic import has_float64
from ..network.flatness import rounding_variance
from .feature_maps import Affine, Map
from .lowering import Norm

_LEAST_FLOOR = 2.0**-14  # the smallest normal number of float16
_MOST_TERMS = 256  # of a sum in float32 on a CPU


class Sums:
    """Sums over a map's pixels: float32 within a band, float64 between bands.

    Stored values lie around 0. On devices without float64, float32 between bands is therefore precise enough (2e-6).

    Args:
        target: the map that the bands belong to
    """

    def __init__(self, target: Map) -> None:
        self.map = target
        self.dtype = torch.float64 if has_float64(target.device) else torch.float32
        self.sum = self.squares = torch.zeros(target.channels, dtype=self.dtype, device=target.device)

    def add(self, first: int, band: Tensor) -> None:
        """Add positions from ``first`` on, each pixel once.

        Values at the map's edges that belong to no pixel become 0.
        """
        if self.map.phases > 1:
            self._clear_edges(first, band)
        if band.device.type == "cpu":
            sums, squares = _sums_on_cpu(band)
        else:
            variance, mean = torch.var_mean(band.float(), dim=(0, 2, 3), correction=0)
            sums, squares = _sums_of(mean.to(self.dtype), variance.to(self.dtype), band)
        self.sum = self.sum + sums.to(self.dtype).view(-1, self.map.channels).sum(dim=0)
        self.squares = self.squares + squares.to(self.dtype).view(-1, self.map.channels).sum(dim=0)

    def _clear_edges(self, first: int, band: Tensor) -> None:
        m = self.map
        values = band.unflatten(1, (m.phases, m.phases, m.channels))
        for phase, shift in enumerate(m.shifts):
            for axis, start, side in ((3, first, m.height), (4, 0, m.width)):
                part = values.select(axis - 2, phase).movedim(axis, 0)  # (rows or columns, ...)
                pixels = -(-(side - phase) // m.phases)
                part[: max(shift - start, 0)] = 0
                part[max(shift + pixels - start, 0) :] = 0

    def affine(self, norm: Norm, relu: bool, dtype: torch.dtype, removed: Tensor) -> Affine:
        """Return the normalization, and ReLU if asked, of stored values with these statistics.

        A plane whose variance is only rounding (network/flatness.py) becomes the norm's shift exactly: its scale is 0.

        Args:
            norm: the normalization
            relu: whether a ReLU follows
            dtype: number format of the stored values
            removed: (C) constants left out of the stored values, because the norm would remove them
        """
        count = self.map.height * self.map.width
        mean, square = self.sum / count, self.squares / count
        variance = (square - mean * mean).clamp_min(0)
        noise = rounding_variance(mean + removed, variance, dtype) + torch.finfo(self.dtype).eps * square
        flat = variance <= noise
        scale = norm.scale.to(self.dtype) * torch.rsqrt(variance + norm.eps)
        scale = scale.clamp_min(1e-12)  # a scale of 0 has no inverse
        shift = norm.shift.to(self.dtype) - mean * scale
        constant = norm.shift.to(self.dtype).clamp_min(0) if relu else norm.shift.to(self.dtype)
        flat = flat.view(1, -1, 1, 1)
        scale, shift, constant = (_as_planes(part) for part in (scale, shift, constant))
        affine = Affine(torch.where(flat, 0.0, scale), torch.where(flat, constant, shift))
        if relu:
            above = 2 * (mean.abs() + ((variance + noise) * count).sqrt())  # twice the most that a value can be
            floor = above.clamp_min(_LEAST_FLOOR).log2().ceil().exp2()  # which every number format holds exactly
            affine.threshold = torch.where(flat, _as_planes(floor), -shift / scale)
        return affine


def _as_planes(values: Tensor) -> Tensor:
    return values.float().view(1, -1, 1, 1)


def _sums_on_cpu(band: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums and sums of squares of each channel of (1, C, rows, columns), float64.

    A batch normalization's statistics take one pass over the band in the cache. Converting bfloat16 to float32,
    squaring and reading it again took a fifth of the time.

    They add up one pixel after the other in float32, which would lose some digits. So pixels that lie side by side are
    treated as one pixel with more channels: sums have fewer terms, and narrow maps fill the vector registers.
    """
    channels, pixels = band.shape[1], band.shape[2] * band.shape[3]
    width = -(-pixels // _MOST_TERMS)
    values = band.permute(0, 2, 3, 1).reshape(pixels, channels)  # no copy for channels last
    count, size = pixels // width, width * channels
    groups = values[: count * width].reshape(1, count, 1, size).permute(0, 3, 1, 2)
    unused = torch.zeros(size, dtype=torch.float32, device="cpu")  # running statistics, with a momentum of 0
    mean, variance = (part.double() for part in torch.batch_norm_update_stats(groups, unused, unused, 0.0))
    sums, squares = (part.view(width, channels).sum(dim=0) for part in _sums_of(mean, variance, groups))
    if rest := pixels - count * width:
        left = values[-rest:].double()
        sums, squares = sums + left.sum(dim=0), squares + left.square().sum(dim=0)
    return sums, squares


def _sums_of(mean: Tensor, variance: Tensor, band: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums and sums of squares of a band with these means and variances."""
    count = band.shape[2] * band.shape[3]
    return mean * count, (variance + mean * mean) * count
