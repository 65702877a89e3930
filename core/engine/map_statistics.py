"""Mean and variance of a feature map, added up over bands, for instance normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from .feature_maps import Affine, Map
from .lowering import Norm


class Sums:
    """Sums over a map's pixels: float32 within a band, float64 between bands.

    Stored values lie around 0. For devices without float64 (MPS), float32 between bands is therefore precise enough.

    Args:
        target: the map that the bands belong to
    """

    def __init__(self, target: Map) -> None:
        self.map = target
        self.dtype = torch.float32 if target.device.type == "mps" else torch.float64
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
            values = band.float()
            sums, squares = (part.sum(dim=(0, 2, 3)) for part in (values, values.square()))
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

    def affine(self, norm: Norm, relu: bool) -> Affine:
        """Return the normalization, and ReLU if asked, of stored values with these statistics."""
        count = self.map.height * self.map.width
        mean = self.sum / count
        variance = (self.squares / count - mean * mean).clamp_min(0)
        scale = norm.scale.to(self.dtype) * torch.rsqrt(variance + norm.eps)
        scale = scale.clamp_min(1e-12)  # a scale of 0 has no inverse
        shift = norm.shift.to(self.dtype) - mean * scale
        scale, shift = (value.float().view(1, -1, 1, 1) for value in (scale, shift))
        return Affine(scale, shift, -shift / scale if relu else None)


def _sums_on_cpu(band: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums and sums of squares of each channel of (1, C, rows, columns), float64.

    A batch normalization's statistics take one pass over the band in the cache. Converting bfloat16 to float32,
    squaring and reading it again took a fifth of the time.
    """
    unused = torch.zeros(band.shape[1])  # running statistics, with a momentum of 0
    mean, variance = (part.double() for part in torch.batch_norm_update_stats(band, unused, unused, 0.0))
    count = band.shape[2] * band.shape[3]
    return mean * count, (variance + mean * mean) * count
