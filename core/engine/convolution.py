"""The pass of a convolution: computed band by band, with the statistics of its result added up on the way."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.stages import blurred
from .bands import Scratch, first_rows, read_band
from .feature_maps import Affine, ComputedMap, Map, Pool
from .lowering import Window
from .map_statistics import Sums
from .plan import Pass

_PROBES = 4  # rows from which the mean of a convolution's result is estimated


class BandConvolution:
    """A window over a map, computed for any rows of its result.

    Scale and shift of the source are folded into weight and bias. No part of the bias is lost to the number format:

    - With a norm after it, the convolution adds what the phases do not share, less the estimated mean of its result.
      The norm removes the rest.
    - Without a norm, the convolution adds the rounded bias, and the remainder becomes the result's shift. (A whole
      bias in the shift would be missing from the stored values. It would come back larger from every convolution,
      until half precision held little else.)

    Args:
        window: the convolution
        source: the map that it reads
        dtype: number format of the convolution

    Attributes:
        positions: rows of the result
        height: of the result in pixels
        width: of the result in pixels
        affine: the meaning of the result before its norm
        removed: (C) constants left out of the result, because the norm would remove them
        beyond: rows outside the source, where they wrap, each with the index of the first
    """

    def __init__(self, window: Window, source: Map, dtype: torch.dtype) -> None:
        self.window, self.source, self.dtype = window, source, dtype
        self.top, self.positions, self.height = window.geometry(source.height, 0)
        self.left, columns, self.width = window.geometry(source.width, 1)
        self.columns = (columns - 1) * window.stride + window.kernel
        self.scratch = Scratch()
        self.beyond: list[tuple[int, Tensor]] = []
        if window.wrap[0]:
            self.beyond = self._rows_beyond()
        weight, bias = window.weight, window.bias
        affine = source.affine.with_zero() if window.padding == "zero" else source.affine
        if affine.shift is not None:
            bias = bias + (weight.sum(dim=(2, 3)) * affine.shift.flatten()).sum(dim=1)
        if affine.scale is not None:
            weight = weight * affine.scale
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.affine = Affine()
        self.removed = torch.zeros(window.channels, dtype=torch.float32, device=bias.device)
        if window.norm is not None:
            self.bias = (bias - self._over_phases(bias)).to(dtype)
            self.bias = (self.bias - self._estimated_mean()).to(dtype)
            self.removed = (bias - self.bias.float()).view(-1, window.channels).mean(dim=0)
        else:
            self.bias = bias.to(dtype)
            rest = (bias - self.bias.float()).view(-1, window.channels).mean(dim=0).view(1, -1, 1, 1)
            self.affine = Affine(shift=rest, threshold=-rest if window.relu else None)

    def __call__(self, first: int, stop: int) -> Tensor:
        """Compute positions [first, stop): (1, S * S * C, stop - first, columns)."""
        window = self.window
        rows = (stop - 1 - first) * window.stride + window.kernel
        band = self._read(first * window.stride - self.top, rows)
        if window.stage.blur:  # its kernel adds up to 1, so the source's scale and shift can be applied after it
            band = blurred(band)
        return F.conv2d(band, self.weight, self.bias, window.stride)

    def _read(self, row: int, rows: int) -> Tensor:
        band = read_band(
            self.source, self.dtype, self.window.padding, row, rows, self.left, self.columns, self.scratch,
            wrap=self.window.wrap[1],
        )  # fmt: skip
        for start, known in self.beyond:
            low, high = max(row, start), min(row + rows, start + known.shape[2])
            if low < high:
                band[:, :, low - row : high - row].copy_(known[:, :, low - start : high - start])
        return band

    def _rows_beyond(self) -> list[tuple[int, Tensor]]:
        """Return the rows above the source and those below it, with the index of the first: those of the opposite edges.

        They are read before the pass, which drops rows on its way.
        """
        height = self.source.height
        below = (self.positions - 1) * self.window.stride - self.top + self.window.kernel - height
        starts = [(-self.top, self.top), (height, below)]
        return [
            (start, torch.cat([self._read(row % height, 1).clone() for row in range(start, start + count)], dim=2))
            for start, count in starts
            if count > 0
        ]

    def _over_phases(self, values: Tensor) -> Tensor:
        """Return the mean of (S * S * C) over phases, repeated for each phase."""
        return values.view(-1, self.window.channels).mean(dim=0).repeat(self.window.phases**2)

    def _estimated_mean(self) -> Tensor:
        """Estimate the mean of the result from a few rows, for each output channel of the window."""
        if isinstance(self.source, ComputedMap):  # which reads forward only
            firsts = {0}
        else:
            firsts = {self.positions * (2 * k + 1) // (2 * _PROBES) for k in range(_PROBES)}
        rows = torch.cat([self(first, first + 1).float().mean(dim=(2, 3)) for first in sorted(firsts)])
        return self._over_phases(rows.mean(dim=0))


def convolve(
    window: Window, source: Map, step: Pass, pool: Pool | None, tick: Callable[[], None] | None, keep: Map | None
) -> Map:
    """Run a convolution over a map.

    If a norm follows the convolution, its statistics are known when this returns. If the plan does not store the
    result, it is computed again whenever it is read.

    Args:
        window: the convolution
        source: the map that it reads
        step: the plan of this pass
        pool: memory of the result
        tick: called before every band
        keep: a map that is needed afterwards; others are dropped once they have been read for the last time

    Returns:
        The result as a map.
    """
    convolution = BandConvolution(window, source, step.arithmetic)
    result = _result(convolution, step, pool)
    last_read = list(source.sources(keep)) if step.store else []
    for one in last_read:
        one.release = True
    if step.store or window.norm is not None:
        sums = Sums(result)
        for first in first_rows(convolution.positions, step.rows, tick):
            band = convolution(first, min(first + step.rows, convolution.positions))
            if window.norm is not None:
                sums.add(first, band)
            if step.store:
                result.store(first, band.to(step.dtype))
        if window.norm is not None:
            result.affine = sums.affine(window.norm, window.relu, step.dtype, convolution.removed)
    for one in last_read:
        one.forget()
    return result


def _result(convolution: BandConvolution, step: Pass, pool: Pool | None) -> Map:
    """Return the map of a convolution's result, still empty."""
    window, source = convolution.window, convolution.source
    height, width, affine = convolution.height, convolution.width, convolution.affine
    if step.store:
        return Map(
            height=height, width=width, channels=window.channels, device=source.device, phases=window.phases,
            shifts=window.shifts, affine=affine, pool=pool,
        )  # fmt: skip
    return ComputedMap(
        height=height, width=width, channels=window.channels, device=source.device, phases=window.phases,
        shifts=window.shifts, affine=affine, compute=convolution, source=source,
    )  # fmt: skip
