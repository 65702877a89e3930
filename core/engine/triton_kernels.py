"""The steps between the convolutions of a whole image as Triton kernels.

Each map is read once for its statistics, and once more to be normalized, activated, added and padded.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..network.flatness import tolerance
from .lowering import Norm
from .whole_maps import Frame, WholeMap

_ELEMENTS = 2048  # of a tile, channels times pixels
_PARTS = 512  # parts that statistics are gathered in, over all phases; enough to fill a GPU
_PADDINGS = {"reflect": 0, "replicate": 1, "zero": 2}
# Numbers that change with the image: without this, kernels would be compiled again for those that are 1 or divisible by 16.
_kernel = triton.jit(
    do_not_specialize=[
        "height", "width", "channels", "pixels", "result_width", "top", "left", "times", "each", "parts",
    ]
)  # fmt: skip


def statistics(source: WholeMap, norm: Norm) -> tuple[Tensor, Tensor]:
    """See `kernels.Kernels.statistics`."""
    raw, s, channels = source.raw, source.phases, source.channels
    wide, tall = _tile(channels)
    pixels = -(-source.height // s) * -(-source.width // s)  # of the largest phase
    tiles = -(-pixels // tall)
    each = max(1, -(-tiles * s * s // _PARTS))
    parts = -(-tiles // each)
    means, squares = torch.empty(2, parts * s * s, channels, dtype=torch.float32, device=raw.device)
    counts = torch.empty(parts * s * s, dtype=torch.float32, device=raw.device)
    _launch(
        _gather, (parts, s * s, -(-channels // wide)), raw, source.bias, means, squares, counts,
        source.height, source.width, channels, *_strides(raw), each,
        S=s, SHIFTS=_packed(source.shifts), HAS_BIAS=source.bias is not None, WIDE=wide, TALL=tall,
    )  # fmt: skip
    scale, shift = torch.empty(2, channels, dtype=torch.float32, device=raw.device)
    all_channels = triton.next_power_of_2(channels)
    _launch(
        _conclude, (1,), means, squares, counts, norm.scale, norm.shift, scale, shift, len(counts), channels, norm.eps,
        tolerance(raw.dtype) ** 2, WIDE=all_channels, TALL=max(1, _ELEMENTS // all_channels),
    )  # fmt: skip
    return scale, shift


def values(source: WholeMap, frame: Frame, dtype: torch.dtype, contiguous: bool = False) -> Tensor:
    """See `kernels.Kernels.values`."""
    raw, channels = source.raw, source.channels
    height, width = source.height + frame.top + frame.bottom, source.width + frame.left + frame.right
    layout = torch.contiguous_format if contiguous else torch.channels_last
    result = torch.empty(1, channels, height, width, dtype=dtype, device=raw.device, memory_format=layout)
    wide, tall = _tile(channels)
    skip = source.skip
    _launch(
        _normalize_and_pad, (-(-height * width // tall), -(-channels // wide)),
        raw, source.bias, source.scale, source.shift, skip, result, source.height, source.width, channels,
        height * width, width, frame.top, frame.left, source.times, *_strides(raw), *_strides(raw if skip is None else skip),
        *_strides(result), S=source.phases, SHIFTS=_packed(source.shifts), PADDING=_PADDINGS[frame.padding],
        HAS_BIAS=source.bias is not None, HAS_SCALE=source.scale is not None, HAS_SKIP=skip is not None, RELU=source.relu,
        WIDE=wide, TALL=tall,
    )  # fmt: skip
    return result


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **constants)


def _tile(channels: int) -> tuple[int, int]:
    """Return the channels and pixels of a tile."""
    wide = min(triton.next_power_of_2(channels), 64)
    return wide, _ELEMENTS // wide


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    _, channels, rows, columns = tensor.stride()
    return channels, rows, columns


def _packed(shifts: tuple[int, ...]) -> int:
    """Return the rows that phases move by as one number of 6 bits for each."""
    return sum(shift << (6 * phase) for phase, shift in enumerate(shifts))


@triton.jit
def _moved(phase, SHIFTS: tl.constexpr):
    """The rows that a phase moves by, see `_packed`."""
    return ((tl.full([1], SHIFTS, tl.int64) >> (6 * phase)) & 63).to(tl.int32)


@_kernel
def _gather(
    raw, bias, means, squares, counts, height, width, channels, channel_stride, row_stride, column_stride, each,
    S: tl.constexpr, SHIFTS: tl.constexpr, HAS_BIAS: tl.constexpr, WIDE: tl.constexpr, TALL: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squares around it of a part of the pixels of one phase."""
    part, phase = tl.program_id(0), tl.program_id(1)
    a, b = phase // S, phase % S
    rows, columns = (height - a + S - 1) // S, (width - b + S - 1) // S
    channel = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    here = channel < channels
    plane = (phase * channels + channel).to(tl.int64) * channel_stride
    down, right = _moved(a, SHIFTS), _moved(b, SHIFTS)
    added = tl.zeros([WIDE], tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + phase * channels + channel, mask=here, other=0.0)
    count = 0.0
    mean = tl.zeros([WIDE], tl.float32)
    square = tl.zeros([WIDE], tl.float32)
    for i in range(0, each):
        pixel = (part * each + i) * TALL + tl.arange(0, TALL)
        inside = pixel < rows * columns
        row, column = pixel // columns + down, pixel % columns + right
        place = row.to(tl.int64) * row_stride + column.to(tl.int64) * column_stride
        mask = inside[:, None] & here[None, :]
        x = tl.load(raw + place[:, None] + plane[None, :], mask=mask, other=0.0).to(tl.float32)
        x = tl.where(mask, x + added[None, :], 0.0)
        found = tl.sum(inside.to(tl.float32), axis=0)
        center = tl.sum(x, axis=0) / tl.maximum(found, 1.0)
        rest = tl.where(mask, x - center[None, :], 0.0)
        both = tl.maximum(count + found, 1.0)
        step = center - mean
        mean += step * (found / both)
        square += tl.sum(rest * rest, axis=0) + step * step * (count * found / both)
        count += found
    index = part * S * S + phase
    tl.store(means + index * channels + channel, mean, mask=here)
    tl.store(squares + index * channels + channel, square, mask=here)
    tl.store(counts + index, count)


@_kernel
def _conclude(
    means, squares, counts, norm_scale, norm_shift, scale, shift, parts, channels, eps, noise,
    WIDE: tl.constexpr, TALL: tl.constexpr,
):  # fmt: skip
    """Scale and shift of a normalization from the parts' means and sums of squares."""
    channel = tl.arange(0, WIDE)
    here = channel < channels
    total = 0.0
    mean = tl.zeros([WIDE], tl.float32)
    for first in range(0, parts, TALL):
        part = first + tl.arange(0, TALL)
        mask = (part < parts)[:, None] & here[None, :]
        count = tl.load(counts + part, mask=part < parts, other=0.0)
        total += tl.sum(count, axis=0)
        each = tl.load(means + part[:, None] * channels + channel[None, :], mask=mask, other=0.0)
        mean += tl.sum(each * count[:, None], axis=0)
    mean = mean / total
    square = tl.zeros([WIDE], tl.float32)
    for first in range(0, parts, TALL):
        part = first + tl.arange(0, TALL)
        mask = (part < parts)[:, None] & here[None, :]
        count = tl.load(counts + part, mask=part < parts, other=0.0)
        each = tl.load(means + part[:, None] * channels + channel[None, :], mask=mask, other=0.0)
        rest = tl.where(mask, each - mean[None, :], 0.0)
        inner = tl.load(squares + part[:, None] * channels + channel[None, :], mask=mask, other=0.0)
        square += tl.sum(inner + rest * rest * count[:, None], axis=0)
    variance = square / total
    power = mean * mean + variance
    layer = tl.sum(tl.where(here, power, 0.0), axis=0) / channels
    flat = variance <= noise * (mean * mean + layer) + 1.1920929e-07 * power
    wanted = tl.load(norm_shift + channel, mask=here, other=0.0)
    factor = tl.load(norm_scale + channel, mask=here, other=0.0) / tl.sqrt(variance + eps)
    tl.store(scale + channel, tl.where(flat, 0.0, factor), mask=here)
    tl.store(shift + channel, tl.where(flat, wanted, wanted - mean * factor), mask=here)


@triton.jit
def _inside(place, side, PADDING: tl.constexpr):
    """The pixel that is shown at a place along an axis: itself, or that of the padding."""
    if PADDING == 0:
        place = tl.abs(place)
        place = tl.where(place < side, place, 2 * (side - 1) - place)
    return tl.minimum(tl.maximum(place, 0), side - 1)


@_kernel
def _normalize_and_pad(
    raw, bias, scale, shift, skip, result, height, width, channels, pixels, result_width, top, left, times,
    channel_stride, row_stride, column_stride, skip_channel_stride, skip_row_stride, skip_column_stride,
    result_channel_stride, result_row_stride, result_column_stride,
    S: tl.constexpr, SHIFTS: tl.constexpr, PADDING: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr,
    HAS_SKIP: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, TALL: tl.constexpr,
):  # fmt: skip
    """The meaning of a map's values, with a frame around them."""
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)
    channel = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    here = channel < channels
    mask = (pixel < pixels)[:, None] & here[None, :]
    result_row, result_column = pixel // result_width, pixel % result_width
    y, x = result_row - top, result_column - left
    row, column = _inside(y, height, PADDING), _inside(x, width, PADDING)
    a, b = row % S, column % S
    down, right = _moved(a, SHIFTS), _moved(b, SHIFTS)
    place = (row // S + down).to(tl.int64) * row_stride + (column // S + right).to(tl.int64) * column_stride
    plane = ((a * S + b) * channels)[:, None] + channel[None, :]
    value = tl.load(raw + place[:, None] + plane.to(tl.int64) * channel_stride, mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        value += tl.load(bias + plane, mask=mask, other=0.0)
    if HAS_SCALE:
        value = value * tl.load(scale + channel, mask=here, other=0.0)[None, :]
        value += tl.load(shift + channel, mask=here, other=0.0)[None, :]
    if HAS_SKIP:
        place = row.to(tl.int64) * skip_row_stride + column.to(tl.int64) * skip_column_stride
        place = place[:, None] + channel.to(tl.int64)[None, :] * skip_channel_stride
        value += times * tl.load(skip + place, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0.0, 0.0, value)  # keeps nan
    if PADDING == 2:
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        value = tl.where(inside[:, None], value, 0.0)
    place = result_row.to(tl.int64) * result_row_stride + result_column.to(tl.int64) * result_column_stride
    place = place[:, None] + channel.to(tl.int64)[None, :] * result_channel_stride
    tl.store(result + place, value.to(result.dtype.element_ty), mask=mask)
