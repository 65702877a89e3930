"""What a network in bands will take, before it runs: its passes over an image of some size, and their memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .lowering import Add, Operation, Pad, Remember, Upsample, Window

_LEAST_ROWS = 8  # of a band of a wide image: fewer cost more in halo rows than a larger band in the cache
_LARGEST_SLAB = 33 << 20  # just above what malloc may keep to itself when it is freed
_SLABS = 16  # the largest map is stored in so many, or more
_EXACT_BLOCKS = 3  # what the first residual blocks round off, those after them amplify


@dataclass(frozen=True)
class Pass:
    """One operation over one image. rows: of a band; bands: how many; store: whether the result is kept; dtype: its format."""

    rows: int
    bands: int
    store: bool
    dtype: torch.dtype


@dataclass(frozen=True)
class Plan:
    """The passes of a run, the output's last. In bytes, maps: most held at once; band: the largest; slab: see maps.Pool."""

    passes: list[Pass]
    maps: int
    band: int
    slab: int


def plan_passes(
    operations: list[Operation], channels: int, height: int, width: int, dtype: torch.dtype, block_dtype: torch.dtype,
    *, band_bytes: int, band_rows: int | None, store_ends: bool,
) -> Plan:  # fmt: skip
    """Plan a run over an image of ``channels`` x H x W. The arguments are BandedNetwork's."""

    def band_of(row: int) -> int:
        most = max(band_bytes // row, min(_LEAST_ROWS, 4 * band_bytes // row))
        return band_rows or max(1, most)

    ends = _ends(operations)
    passes, phases, source_is_skip, blocks = [], 1, False, 0
    held = skip = peak = band = largest = longest = 0  # bytes
    for i, operation in enumerate(operations):
        positions, columns, store = height, width, True
        in_block = isinstance(operation, Window) and bool(skip)
        of_result = block_dtype if in_block and blocks > _EXACT_BLOCKS else dtype
        row = channels * dtype.itemsize  # bytes of one column of one row that is worked on
        if isinstance(operation, Window):
            following = operations[i + 1] if i + 1 < len(operations) else None
            if following is None:
                store = operation.norm is not None
            elif isinstance(following, Window):
                store = store_ends or i not in ends
            _, positions, height = operation.geometry(height)
            _, columns, width = operation.geometry(width)
            row = max(row * operation.stride**2, len(operation.weight) * of_result.itemsize)
            channels, phases = operation.channels, operation.phases
        elif isinstance(operation, Pad):
            positions = height = height + 2 * operation.pixels
            columns = width = width + 2 * operation.pixels
        elif isinstance(operation, Upsample):
            height, width = height * operation.factor, width * operation.factor
            positions, columns, phases = height, width, 1
        line = columns * channels * phases**2 * of_result.itemsize  # bytes of one stored row
        size = positions * line if store else held
        if isinstance(operation, Remember):
            skip, source_is_skip, blocks = held, True, blocks + 1
        else:
            # What is read for the last time goes as the result comes.
            source = 0 if source_is_skip else held
            peak = max(peak, skip + (max(source, size) if store else source))
            held = size
            source_is_skip = source_is_skip and not store
            skip = 0 if isinstance(operation, Add) else skip
        if store:
            largest, longest = max(largest, size), max(longest, line)
        rows = band_of(row * columns)
        band = max(band, min(rows, positions) * row * columns)
        busy = isinstance(operation, Upsample) or (isinstance(operation, Window) and (store or operation.norm))
        passes.append(Pass(rows, -(-positions // rows) if busy else 0, store, of_result))
    rows = -(-band_of(width * 64) // phases) * phases
    passes.append(Pass(rows, -(-height // rows), False, torch.float32))
    slab = max(min(_LARGEST_SLAB, max(largest // _SLABS, band)), longest)
    return Plan(passes, peak + 2 * min(slab, largest), band, slab)


def _ends(operations: list[Operation]) -> set[int]:
    """Indices of the convolutions with the largest maps: the first one and the last two."""
    windows = [i for i, operation in enumerate(operations) if isinstance(operation, Window)]
    return {*windows[:1], *windows[-2:]}
