"""Feature maps as the streaming engine keeps them: raw results of convolutions, and what their values mean.

Normalization and ReLU happen when a map is read. For s > 0, relu(s x + b) = s max(x, -b / s) + b: reading takes one
maximum, and s and b are folded into the next convolution's weights and bias.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Affine:
    """The meaning of stored values x: scale * max(x, threshold) + shift.

    Attributes:
        scale: (1, C, 1, 1) float32, 0 for flat planes; None means 1
        shift: (1, C, 1, 1) float32; None means 0
        threshold: (1, C, 1, 1) float32; None means no maximum
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    threshold: Tensor | None = None

    @property
    def zero(self) -> Tensor | float:
        """The stored value that means 0."""
        if self.threshold is None:
            return 0.0 if self.shift is None else -self.shift
        if self.scale is None or self.shift is None:
            return self.threshold
        return torch.where(self.scale == 0, self.threshold - self.shift, self.threshold)

    def with_zero(self) -> Affine:
        """Return the same meaning in a form in which 0 has a stored value in flat planes, too."""
        if self.threshold is None or self.scale is None or self.shift is None:
            return self
        flat = self.scale == 0
        shift = torch.where(flat, self.shift - self.threshold, self.shift)
        return replace(self, scale=torch.where(flat, 1.0, self.scale), shift=shift)

    def apply(self, values: Tensor, phases: int) -> Tensor:
        """Return what stored values of all S x S phases mean, (1, S * S * C, rows, columns)."""
        scale, shift, threshold = (
            part if part is None else part.repeat(1, phases**2, 1, 1)
            for part in (self.scale, self.shift, self.threshold)
        )
        if threshold is not None:
            values = torch.maximum(values, threshold)
        if scale is not None:
            values = values * scale
        return values if shift is None else values + shift


class Pool:
    """Slabs of memory for stored rows, reused once their content has been read.

    Fresh memory costs page faults, some percent of the time. Only large slabs are sure to return to the system when
    they are dropped.

    Args:
        size: bytes of a slab

    Attributes:
        pinned: whether a GPU copies from and to the slabs by itself, while the host goes on
    """

    pinned = False

    def __init__(self, size: int) -> None:
        self.size, self.keep = size, True
        self.free: list[torch.UntypedStorage] = []

    def rows(self, like: Tensor) -> int:
        """Return how many rows of (1, C, rows, W) fit into a slab."""
        return self.size // (like.shape[1] * like.shape[3] * like.itemsize)

    def take(self, like: Tensor) -> Tensor:
        """Return a slab for rows like these as (1, C, 0, W), channels last; as_strided makes it longer."""
        _, c, _, w = like.shape
        storage = self.free.pop() if self.free else torch.UntypedStorage(self.size, device="cpu")
        return torch.empty(0, dtype=like.dtype, device="cpu").set_(storage, 0, (1, c, 0, w), (w * c, 1, w * c, c))

    def give(self, slab: Tensor) -> None:
        """Take back a slab whose content is no longer needed."""
        if self.keep:
            self.free.append(slab.untyped_storage())

    def close(self) -> None:
        """Stop reusing slabs, so that all memory returns to the system."""
        self.keep = False
        self.free.clear()


class PinnedPool(Pool):
    """Slabs that a CUDA device copies from and to. A slab is reused once the copies that were begun have ended.

    Args:
        size: bytes of a slab
        device: the device
    """

    pinned = True

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__(size)
        self.device = device
        self._used: deque[tuple[torch.UntypedStorage, torch.cuda.Event]] = deque()

    def take(self, like: Tensor) -> Tensor:
        """Return a slab as `Pool.take` does, oldest first."""
        if self._used:
            storage, event = self._used.popleft()
            event.synchronize()
        else:
            storage = torch.empty(self.size, dtype=torch.uint8, device="cpu", pin_memory=True).untyped_storage()
        self.free.append(storage)
        return super().take(like)

    def give(self, slab: Tensor) -> None:
        """Take back a slab whose content is no longer needed once the copies from it have ended."""
        if self.keep:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.device))
            self._used.append((slab.untyped_storage(), event))

    def close(self) -> None:
        """Stop reusing slabs. Torch frees their memory when the copies from it have ended."""
        super().close()
        self._used.clear()


@dataclass(kw_only=True)
class Map:
    """A stored feature map: positions of `Window` form, in chunks of rows.

    Attributes:
        height: rows in pixels
        width: columns in pixels
        channels: C
        device: where bands of this map are worked on
        phases: S, as in `Window`
        shifts: as in `Window`
        affine: the meaning of the stored values
        chunks: (first position, values (1, S * S * C, rows, columns)), in order and without gaps
        pool: memory of the chunks; if None, every stored band becomes a chunk, and each chunk belongs to someone else
        release: whether the map is being read for the last time, so that rows can be dropped on the way
    """

    height: int
    width: int
    channels: int
    device: torch.device
    phases: int = 1
    shifts: tuple[int, ...] = (0,)
    affine: Affine = field(default_factory=Affine)
    chunks: deque[tuple[int, Tensor]] = field(default_factory=deque)
    pool: Pool | None = None
    release: bool = False

    @classmethod
    def of_image(cls, image: Tensor) -> Map:
        """Return (1, C, H, W) as a map that shares its memory."""
        _, channels, height, width = image.shape
        return cls(height=height, width=width, channels=channels, device=image.device, chunks=deque([(0, image)]))

    def store(self, first: int, band: Tensor) -> None:
        """Keep positions from ``first`` on, which must follow the last stored one."""
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
            chunk[:, :, filled:].copy_(band[:, :, :rows], non_blocking=self.pool.pinned)
            self.chunks[-1] = (start, chunk)
            first, band = first + rows, band[:, :, rows:]

    def forget(self, before: int | None = None) -> None:
        """Drop the chunks that end before this position. If it is None, drop all."""
        while self.chunks and (before is None or self.chunks[0][0] + self.chunks[0][1].shape[2] <= before):
            _, chunk = self.chunks.popleft()
            if self.pool is not None:
                self.pool.give(chunk)

    def sources(self, keep: Map | None) -> Iterator[Map]:
        """Yield this map and those it is computed from, up to ``keep``, which is needed longer."""
        if self is not keep:
            yield self

    def positions(self, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the chunks that cover positions [first, stop).

        Passes read forward: once `release` is set, positions before ``first`` are dropped.
        """
        if self.release:
            self.forget(first)
        yield from self._between(first, stop)

    def _between(self, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        for start, chunk in self.chunks:
            if start < stop and start + chunk.shape[2] > first:
                yield start, chunk

    def pieces(self, rows: int) -> Iterator[tuple[int, Tensor]]:
        """Yield all positions in order, at most ``rows`` rows of one chunk at a time: (first position, values)."""
        first = 0
        while (found := next(self.positions(first, first + 1), None)) is not None:
            start, chunk = found
            piece = chunk[:, :, first - start : first - start + rows]
            yield first, piece
            first += piece.shape[2]

    def rows(self, first: int, stop: int) -> Iterator[tuple[int, int, Tensor]]:
        """Yield pieces of pixel rows [first, stop), without activation.

        Yields:
            (b, r, values): b is the phase column and the first pixel column, r the first pixel row. Values are
            (1, C, n, m), at pixel rows r + S i and columns b + S j.
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


@dataclass(kw_only=True)
class ComputedMap(Map):
    """A feature map that is computed whenever it is read, from another map; only the last rows are kept.

    Attributes:
        compute: makes positions [first, stop) from ``source``
        source: the map that this one is computed from
    """

    compute: Callable[[int, int], Tensor]
    source: Map

    def sources(self, keep: Map | None) -> Iterator[Map]:
        """Yield this map and those it is computed from, up to ``keep``, which is needed longer."""
        if self is not keep:
            yield self
            yield from self.source.sources(keep)

    def positions(self, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Yield chunks that cover positions [first, stop), and drop what lies before ``first``."""
        self.forget(first)
        if self.chunks and self.chunks[0][0] > first:  # another pass begins
            self.chunks.clear()
        end = self.chunks[-1][0] + self.chunks[-1][1].shape[2] if self.chunks else first
        if end < stop:
            self.chunks.append((end, self.compute(end, stop)))
        yield from self._between(first, stop)
