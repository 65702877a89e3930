"""Feature maps as the streaming engine keeps them: raw results of convolutions, and what they mean.

Normalization and ReLU happen as a map is read, relu(s x + b) = s max(x, -b / s) + b for s > 0: reading is one maximum,
and s and b go into the next convolution's weights and bias.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .lowering import Norm


@dataclass
class Affine:
    """What stored values x mean: scale * max(x, threshold) + shift, each (1, C, 1, 1) float32 or None for 1, none, 0."""

    scale: Tensor | None = None
    shift: Tensor | None = None
    threshold: Tensor | None = None

    @property
    def zero(self) -> Tensor | float:
        """The stored value that means 0."""
        if self.threshold is not None:
            return self.threshold
        return 0.0 if self.shift is None else -self.shift


class Pool:
    """Memory of stored rows, in slabs of ``size`` bytes that are used again when what they held has been read.

    Fresh memory costs page faults, which are some percent of the time; and only large slabs are sure to go back to the
    system when they are dropped.
    """

    def __init__(self, size: int) -> None:
        self.size, self.keep = size, True
        self.free: list[torch.UntypedStorage] = []

    def rows(self, like: Tensor) -> int:
        """How many rows of (1, C, rows, W) a slab holds."""
        return self.size // (like.shape[1] * like.shape[3] * like.itemsize)

    def take(self, like: Tensor) -> Tensor:
        """A slab for rows like these, as (1, C, 0, W), channels last: as_strided makes it longer."""
        _, c, _, w = like.shape
        storage = self.free.pop() if self.free else torch.UntypedStorage(self.size)
        return torch.empty(0, dtype=like.dtype).set_(storage, 0, (1, c, 0, w), (w * c, 1, w * c, c))

    def give(self, slab: Tensor) -> None:
        """What this slab holds is not needed anymore."""
        if self.keep:
            self.free.append(slab.untyped_storage())

    def close(self) -> None:
        """From now on, nothing is used again: all memory goes back to the system."""
        self.keep = False
        self.free.clear()


@dataclass
class Map:
    """A feature map: positions of `Window` form, in chunks of rows, each (1, S * S * C, rows, columns).

    height, width: in pixels; phases, shifts: as in Window
    pool: of the chunks' memory; None: each band that is stored becomes a chunk, each chunk is somebody else's
    compute: makes positions [a, b) from those of ``source``, when nothing is stored
    release: whether this is the last time that the map is read
    """

    height: int
    width: int
    channels: int
    phases: int = 1
    shifts: tuple[int, ...] = (0,)
    affine: Affine = field(default_factory=Affine)
    chunks: deque[tuple[int, Tensor]] = field(default_factory=deque)
    pool: Pool | None = None
    compute: Callable[[int, int], Tensor] | None = None
    source: Map | None = None
    release: bool = False
    compute_device: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where bands of this map are worked on."""
        return self.compute_device if self.compute_device is not None else self.chunks[0][1].device

    def store(self, first: int, band: Tensor) -> None:
        """Keep positions from ``first`` on, which come right after those that are kept already."""
        if self.pool is None:
            self.chunks.append((first, band))
            return
        capacity = self.pool.rows(band)
        while band.shape[2]:
            if not self.chunks or self.chunks[-1][1].shape[2] == capacity:
                self.chunks.append((first, self.pool.take(band)))
            start, chunk = self.chunks[-1]
            filled = chunk.shape[2]
            rows = min(capacity - filled, band.shape[2])
            chunk = chunk.as_strided((1, chunk.shape[1], filled + rows, chunk.shape[3]), chunk.stride())
            chunk[:, :, filled:].copy_(band[:, :, :rows])
            self.chunks[-1] = (start, chunk)
            first, band = first + rows, band[:, :, rows:]

    def forget(self, before: int | None = None) -> None:
        """Drop the chunks that end before this position; None: all."""
        while self.chunks and (before is None or self.chunks[0][0] + self.chunks[0][1].shape[2] <= before):
            _, chunk = self.chunks.popleft()
            if self.pool is not None:
                self.pool.give(chunk)

    def sources(self, keep: Map | None) -> Iterator[Map]:
        """This map and those that it is computed from, up to ``keep``, which is needed longer."""
        one: Map | None = self
        while one is not None and one is not keep:
            yield one
            one = one.source

    def positions(self, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Chunks that cover positions [first, stop). Passes read forward: what lies before ``first`` may be forgotten."""
        if self.compute is not None or self.release:
            self.forget(first)
        if self.compute is not None:
            if self.chunks and self.chunks[0][0] > first:  # another pass begins
                self.chunks.clear()
            end = self.chunks[-1][0] + self.chunks[-1][1].shape[2] if self.chunks else first
            if end < stop:
                self.chunks.append((end, self.compute(end, stop)))
        for start, chunk in self.chunks:
            if start < stop and start + chunk.shape[2] > first:
                yield start, chunk

    def rows(self, first: int, stop: int) -> Iterator[tuple[int, int, Tensor]]:
        """Pieces of pixel rows [first, stop): (phase row a, phase column b, first pixel row, values) without activation.

        Values are (1, C, n, m): pixel rows first + S i and columns b + S j.
        """
        s = self.phases
        low = first // s + min(self.shifts)
        high = (stop - 1) // s + max(self.shifts) + 1
        for start, chunk in self.positions(low, high):
            for a in range(s):
                # pixel row s * m + a is at position m + shifts[a]
                m0 = max(-(-(first - a) // s), start - self.shifts[a])
                m1 = min(-(-(stop - a) // s), start + chunk.shape[2] - self.shifts[a])
                if m0 >= m1:
                    continue
                here = slice(m0 + self.shifts[a] - start, m1 + self.shifts[a] - start)
                for b in range(s):
                    columns = slice(self.shifts[b], self.shifts[b] + -(-(self.width - b) // s))
                    k = (a * s + b) * self.channels
                    yield b, s * m0 + a, chunk[:, k : k + self.channels, here, columns]


class Scratch:
    """Memory that is used again for every band: fresh memory costs more than the arithmetic on it."""

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """An uninitialized tensor (N, C, H, W), channels last, valid until the same name is asked for again."""
        n, c, h, w = shape
        size = n * c * h * w
        memory = self.memory.get(name)
        if memory is None or memory.numel() < size or memory.dtype != dtype:
            memory = self.memory[name] = torch.empty(size, dtype=dtype, device=device)
        return memory[:size].view(n, h, w, c).permute(0, 3, 1, 2)


class Sums:
    """Mean and variance of a map's pixels, added up over bands: float32 within a band, float64 between them.

    Stored values are around 0, so that float32 between bands, too, is precise enough for devices without float64 (MPS).
    """

    def __init__(self, target: Map) -> None:
        self.map = target
        self.dtype = torch.float32 if target.device.type == "mps" else torch.float64
        self.sum = self.squares = 0.0

    def add(self, first: int, band: Tensor) -> None:
        """Add positions from ``first`` on, each pixel once. Values of no pixel, at the map's edges, become 0."""
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
        """The normalization (and ReLU) of stored values with these statistics."""
        count = self.map.height * self.map.width
        mean = self.sum / count
        variance = (self.squares / count - mean * mean).clamp_min(0)
        scale = norm.scale.to(self.dtype) * torch.rsqrt(variance + norm.eps)
        scale = scale.clamp_min(1e-12)  # a scale of 0 has no inverse
        shift = norm.shift.to(self.dtype) - mean * scale
        scale, shift = (value.float().view(1, -1, 1, 1) for value in (scale, shift))
        return Affine(scale, shift, -shift / scale if relu else None)


def _sums_on_cpu(band: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and sums of squares of each channel of (1, C, rows, columns), float64.

    A batch normalization's statistics are one pass over the band in the cache, where bfloat16 would be copied to float32
    first, squared and read again: that took a fifth of the time.
    """
    unused = torch.zeros(band.shape[1])  # running statistics, with a momentum of 0
    mean, variance = (part.double() for part in torch.batch_norm_update_stats(band, unused, unused, 0.0))
    count = band.shape[2] * band.shape[3]
    return mean * count, (variance + mean * mean) * count


def read(
    source: Map, dtype: torch.dtype, padding: str, first: int, rows: int, left: int, columns: int, scratch: Scratch
) -> Tensor:
    """Rows first ... first + rows - 1 of a map, ``columns`` wide from column -left on, padded, ReLU applied.

    padding: how rows and columns outside of the map are made up: reflect | replicate | zero. Returns (1, C, rows,
    columns), channels last, in scratch memory; scale and shift of source.affine remain to be applied.
    """
    device = source.device
    shape = (1, source.channels, rows, columns)
    band = scratch.get("band", shape, dtype, device)
    top, bottom = max(first, 0), min(first + rows, source.height)
    threshold = None if source.affine.threshold is None else source.affine.threshold.to(dtype)
    for column, row, values in source.rows(top, bottom):
        n, m = values.shape[2:]
        s = source.phases
        m = min(m, -(-(columns - left - column) // s))
        row -= first
        column += left
        target = band[:, :, row : row + s * (n - 1) + 1 : s, column : column + s * (m - 1) + 1 : s]
        values = values[..., :m].to(device, non_blocking=True)
        if threshold is None:
            target.copy_(values)
        else:
            torch.maximum(values, threshold, out=target)
    zero = source.affine.zero
    _fill(band, 3, left, min(left + source.width, columns), padding, zero)
    _fill(band, 2, top - first, bottom - first, padding, zero)
    return band


def _fill(band: Tensor, axis: int, start: int, stop: int, padding: str, zero: Tensor | float) -> None:
    """Make up what lies before ``start`` and from ``stop`` on along an axis."""
    for i in (*range(start - 1, -1, -1), *range(stop, band.shape[axis])):
        target = band.narrow(axis, i, 1)
        if padding == "zero":
            target.copy_(zero) if isinstance(zero, Tensor) else target.fill_(zero)
        else:
            edge = start if i < start else stop - 1
            j = 2 * edge - i if padding == "reflect" else edge
            target.copy_(band.narrow(axis, min(max(j, start), stop - 1), 1))
