"""The memory of a network over a whole image (whole.py), followed operation by operation."""

from __future__ import annotations

from dataclasses import dataclass

from .formats import NumberFormats
from .lowering import Add, Operation, Pad, Remember, Upsample, Window

_MOST_ELEMENTS = 2**31 - 1  # of a tensor; kernels of some back ends count no further


@dataclass
class _Held:
    """Bytes that are held, and the largest numbers so far."""

    bytes: int = 0
    peak: int = 0
    largest: int = 0

    def see(self, size: int, elements: int = 0) -> None:
        self.peak, self.largest = max(self.peak, size), max(self.largest, elements)


def whole_bytes(
    operations: list[Operation], channels: int, height: int, width: int, formats: NumberFormats, *, fused: bool
) -> int | None:
    """Return the memory that a run takes beside the image and the result, or None if a map is too large for one tensor.

    Args:
        operations: the lowered network
        channels: of the image
        height: H of the image
        width: W of the image
        formats: number formats
        fused: whether the steps between convolutions need no memory for intermediate results (Triton's kernels do not)
    """
    held = _Held()
    raw = 0  # the current map's memory
    skip = remembered = 0  # that of a map to add, and of the map that is remembered
    phases, is_remembered, item = 1, False, formats.first.itemsize
    for operation in operations:
        size = channels * height * width  # elements of the current map
        if isinstance(operation, Window):
            (before_rows, rows, out_height), (before_columns, columns, out_width) = (
                operation.geometry(side, axis) for axis, side in enumerate((height, width))
            )
            taken = channels * ((rows - 1) * operation.stride + operation.kernel)
            taken *= (columns - 1) * operation.stride + operation.kernel
            made = len(operation.weight) * rows * columns
            taken_bytes, made_bytes = taken * item, made * item
            between = 0 if fused else ((1 + (phases > 1)) * item + 4) * size
            held.see(raw + skip + remembered + taken_bytes + between, taken)
            blurred = 2 * 4 * taken if operation.stage.blur else 0
            held.see(remembered + taken_bytes + blurred + made_bytes, made)
            if is_remembered:  # what this convolution reads is held, with its frame, until it is added
                remembered, is_remembered = taken_bytes, False
            raw, skip, phases = made_bytes, 0, operation.phases
            channels, height, width = operation.channels, out_height, out_width
            item = formats.maps.itemsize
            if operation.norm is not None and not fused:
                held.see(remembered + raw + made_bytes * (phases > 1) + 4 * made)
        elif isinstance(operation, Remember):
            is_remembered = True
        elif isinstance(operation, Add):
            skip, remembered = remembered, 0
        elif isinstance(operation, Pad):
            height, width = height + 2 * operation.rows, width + 2 * operation.columns
            raw = 4 * channels * height * width
        else:
            factor = operation.factor if isinstance(operation, Upsample) else 1
            pixels = size * item
            enlarged = pixels * factor**2
            held.see(raw + skip + pixels * (1 if fused else 3), size)
            held.see(pixels + enlarged + (0 if fused else 4 * size), size * factor**2)
            raw, skip, phases = enlarged, 0, 1
            height, width = height * factor, width * factor
    last = channels * height * width
    held.see(raw + skip + (0 if fused else 2 * 4 * last), last)
    held.see(3 * 4 * last)  # the output function, or the enlarged image
    return held.peak if held.largest <= _MOST_ELEMENTS else None
