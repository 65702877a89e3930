"""Bands: a few rows of a feature map at a time, read with padding and ReLU, in memory that every band reuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .feature_maps import Map


class Scratch:
    """Memory that every band reuses: fresh memory costs more than the arithmetic on it."""

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialized tensor (N, C, H, W), channels last.

        It is valid until the same name is requested again.
        """
        n, c, h, w = shape
        size = n * c * h * w
        memory = self.memory.get(name)
        if memory is None or memory.numel() < size or memory.dtype != dtype:
            memory = self.memory[name] = torch.empty(size, dtype=dtype, device=device)
        return memory[:size].view(n, h, w, c).permute(0, 3, 1, 2)


def first_rows(positions: int, rows: int, tick: Callable[[], None] | None) -> Iterator[int]:
    """Yield the first row of each band, after calling ``tick``."""
    for first in range(0, positions, rows):
        if tick is not None:
            tick()
        yield first


def read_band(
    source: Map, dtype: torch.dtype, padding: str, first: int, rows: int, left: int, columns: int, scratch: Scratch,
    wrap: bool = False,
) -> Tensor:  # fmt: skip
    """Read rows of a map with padding and ReLU.

    Args:
        source: the map
        dtype: number format of the result
        padding: how rows and columns outside the map are filled: reflect | replicate | zero
        first: first pixel row; negative above the map
        rows: rows to read
        left: columns of padding at the left
        columns: columns to read, padding included
        scratch: memory for the result
        wrap: whether columns outside the map are those of the opposite edge

    Returns:
        (1, C, rows, columns), channels last, in scratch memory. Scale and shift of ``source.affine`` are not applied.
    """
    device = source.device
    # what wraps must be read, even if it is not asked for
    held = max(columns, left + source.width) if wrap else columns
    band = scratch.get("band", (1, source.channels, rows, held), dtype, device)
    top, bottom = max(first, 0), min(first + rows, source.height)
    threshold = None if source.affine.threshold is None else source.affine.threshold.to(dtype)
    for column, row, values in source.rows(top, bottom):
        n, m = values.shape[2:]
        s = source.phases
        m = min(m, -(-(held - left - column) // s))
        row -= first
        column += left
        target = band[:, :, row : row + s * (n - 1) + 1 : s, column : column + s * (m - 1) + 1 : s]
        values = values[..., :m].to(device, non_blocking=source.pool is not None and source.pool.pinned)
        if threshold is None:
            target.copy_(values)
        else:
            torch.maximum(values, threshold, out=target)
    zero = source.affine.zero if padding == "zero" else 0.0
    _fill(band, 3, left, min(left + source.width, held), "wrap" if wrap else padding, zero)
    _fill(band, 2, top - first, bottom - first, padding, zero)
    return band[..., :columns]


def _fill(band: Tensor, axis: int, start: int, stop: int, padding: str, zero: Tensor | float) -> None:
    """Fill what lies before ``start`` and from ``stop`` on along an axis."""
    for i in (*range(start - 1, -1, -1), *range(stop, band.shape[axis])):
        target = band.narrow(axis, i, 1)
        if padding == "wrap":
            target.copy_(band.narrow(axis, start + (i - start) % (stop - start), 1))
        elif padding == "zero":
            target.copy_(zero) if isinstance(zero, Tensor) else target.fill_(zero)
        else:
            edge = start if i < start else stop - 1
            j = 2 * edge - i if padding == "reflect" else edge
            target.copy_(band.narrow(axis, min(max(j, start), stop - 1), 1))
