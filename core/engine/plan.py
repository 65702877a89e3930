"""The plan of a run, made before it starts: passes over an image of some size, and the memory that they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .formats import NumberFormats
from .lowering import Add, Operation, Pad, Remember, Upsample, Window

_LEAST_ROWS = 8  # in a band of a wide image: fewer cost more in halo rows than a larger band costs in the cache
_LARGEST_SLAB = 33 << 20  # just above what malloc may keep to itself after it is freed
_SLABS = 16  # the largest map is stored in at least so many
_EXACT_BLOCKS = 3  # later residual blocks amplify what the first ones round off
_OUTPUT_BYTES = 64  # a pixel of the last pass: the output in float32, and the copies made on the way


@dataclass(frozen=True)
class Pass:
    """One operation over one image.

    Attributes:
        rows: height of a band
        bands: number of bands
        store: whether the result is kept
        dtype: number format of the result
        arithmetic: number format of the convolution
    """

    rows: int
    bands: int
    store: bool
    dtype: torch.dtype
    arithmetic: torch.dtype


@dataclass(frozen=True)
class Plan:
    """The passes of a run, the output's last, and their memory in bytes.

    Attributes:
        passes: one for each operation, and one for the output
        maps: the most that feature maps take at once
        band: the largest band
        slab: size of a slab, see `feature_maps.Pool`
    """

    passes: list[Pass]
    maps: int
    band: int
    slab: int


@dataclass(frozen=True)
class _Result:
    """The feature map that one operation leaves.

    Attributes:
        positions: rows in `Window` form
        store: whether it is kept
        dtype: its number format
        arithmetic: number format in which it is computed
        row_bytes: of one stored row
        band_row_bytes: of one row that is worked on
        height, width: in pixels
        phases: as in `Window`
    """

    positions: int
    store: bool
    dtype: torch.dtype
    arithmetic: torch.dtype
    row_bytes: int
    band_row_bytes: int
    height: int
    width: int
    phases: int

    @property
    def bytes(self) -> int:
        return self.positions * self.row_bytes


def plan_passes(
    operations: list[Operation], channels: int, height: int, width: int, formats: NumberFormats,
    *, band_bytes: int, band_rows: int | None, store_ends: bool,
) -> Plan:  # fmt: skip
    """Plan a run over an image of ``channels`` x H x W. See `BandedNetwork` for the other arguments."""

    def rows_of(row_bytes: int) -> int:
        most = max(band_bytes // row_bytes, min(_LEAST_ROWS, 4 * band_bytes // row_bytes))
        return band_rows or max(1, most)

    passes, memory = [], _Memory()
    band = largest = longest = 0  # bytes
    phases = 1
    for operation, result in zip(
        operations, _results(operations, channels, height, width, formats, store_ends), strict=True
    ):
        memory.add(operation, result)
        if result.store:
            largest, longest = max(largest, result.bytes), max(longest, result.row_bytes)
        rows = rows_of(result.band_row_bytes)
        band = max(band, min(rows, result.positions) * result.band_row_bytes)
        bands = -(-result.positions // rows) if _counts_bands(operation, result) else 0
        passes.append(Pass(rows, bands, result.store, result.dtype, result.arithmetic))
        height, width, phases = result.height, result.width, result.phases
    rows = -(-rows_of(width * _OUTPUT_BYTES) // phases) * phases
    passes.append(Pass(rows, -(-height // rows), False, torch.float32, torch.float32))
    slab = max(min(_LARGEST_SLAB, max(largest // _SLABS, band)), longest)
    return Plan(passes, memory.peak + 2 * min(slab, largest), band, slab)


def _counts_bands(operation: Operation, result: _Result) -> bool:
    """Return whether a pass over bands runs for the operation, and reports them."""
    if isinstance(operation, Window):
        return result.store or operation.norm is not None
    return isinstance(operation, Upsample)


def _results(
    operations: list[Operation], channels: int, height: int, width: int, formats: NumberFormats, store_ends: bool
) -> Iterator[_Result]:
    """Yield what each operation leaves, in order."""
    ends = _ends(operations)
    first = next((i for i, operation in enumerate(operations) if isinstance(operation, Window)), None)
    phases, blocks, in_block = 1, 0, False
    for i, operation in enumerate(operations):
        result_dtype, store = formats.maps, True
        arithmetic = formats.first if i == first else formats.maps
        band_bytes = channels * arithmetic.itemsize  # of one column of one row
        positions, columns = height, width
        if isinstance(operation, Remember):
            in_block, blocks = True, blocks + 1
        elif isinstance(operation, Add):
            in_block = False
        elif isinstance(operation, Window):
            if in_block and blocks > _EXACT_BLOCKS:
                result_dtype = arithmetic = formats.blocks
            following = operations[i + 1] if i + 1 < len(operations) else None
            if following is None:
                store = operation.norm is not None
            elif isinstance(following, Window):
                store = store_ends or i not in ends
            _, positions, height = operation.geometry(height, 0)
            _, columns, width = operation.geometry(width, 1)
            band_bytes = max(band_bytes * operation.stride**2, len(operation.weight) * arithmetic.itemsize)
            channels, phases = operation.channels, operation.phases
        elif isinstance(operation, Pad):
            positions = height = height + 2 * operation.rows
            columns = width = width + 2 * operation.columns
        elif isinstance(operation, Upsample):
            positions = height = height * operation.factor
            columns = width = width * operation.factor
            phases = 1
        row_bytes = columns * channels * phases**2 * result_dtype.itemsize
        yield _Result(
            positions, store, result_dtype, arithmetic, row_bytes, band_bytes * columns, height, width, phases
        )


class _Memory:
    """Bytes of the feature maps that a run holds, followed operation by operation.

    Attributes:
        peak: the most held at once
    """

    def __init__(self) -> None:
        self.peak = 0
        self._current = 0
        self._skip = 0  # the remembered map
        self._current_is_skip = False

    def add(self, operation: Operation, result: _Result) -> None:
        """Take account of the next operation and its result."""
        if isinstance(operation, Remember):
            self._skip, self._current_is_skip = self._current, True
            return
        source = 0 if self._current_is_skip else self._current
        size = result.bytes if result.store else self._current
        # When a map is read for the last time, it shrinks as the result grows.
        self.peak = max(self.peak, self._skip + (max(source, size) if result.store else source))
        self._current = size
        self._current_is_skip = self._current_is_skip and not result.store
        if isinstance(operation, Add):
            self._skip = 0


def _ends(operations: list[Operation]) -> set[int]:
    """Return the indices of the convolutions with the largest maps: the first one and the last two."""
    windows = [i for i, operation in enumerate(operations) if isinstance(operation, Window)]
    return {*windows[:1], *windows[-2:]}
