"""The steps between the convolutions of a whole image as torch's own operations, for any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.flatness import rounding_variance
from ..network.stages import PAD_MODES
from .lowering import Norm
from .whole_maps import Frame, WholeMap


def statistics(source: WholeMap, norm: Norm) -> tuple[Tensor, Tensor]:
    """See `kernels.Kernels.statistics`."""
    pixels = _pixels(source)
    variance, mean = torch.var_mean(pixels.float(), dim=(0, 2, 3), correction=0)
    noise = rounding_variance(mean, variance, pixels.dtype) + torch.finfo(torch.float32).eps * (
        variance + mean.square()
    )
    flat = variance <= noise
    scale = norm.scale * torch.rsqrt(variance + norm.eps)
    return torch.where(flat, 0.0, scale), torch.where(flat, norm.shift, norm.shift - mean * scale)


def values(source: WholeMap, frame: Frame, dtype: torch.dtype, contiguous: bool = False) -> Tensor:
    """See `kernels.Kernels.values`."""
    pixels = _pixels(source)
    if source.scale is not None and source.shift is not None:
        pixels = _scaled(pixels, source.scale, source.shift)
    if source.skip is not None:
        pixels = torch.add(pixels, source.skip, alpha=source.times)
    if source.relu:
        pixels = pixels.relu() if pixels is source.raw else pixels.relu_()
    pixels = _framed(pixels.to(dtype), frame)
    return pixels.contiguous(memory_format=torch.contiguous_format if contiguous else torch.channels_last)


def _scaled(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return pixels * scale + shift, computed in float32."""
    if pixels.device.type in ("cpu", "cuda"):  # where a batch normalization in eval mode does it at once
        return F.batch_norm(
            pixels, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, training=False, eps=0.0
        )
    return (pixels * scale.view(1, -1, 1, 1)).add_(shift.view(1, -1, 1, 1))  # half precision becomes float32


def _pixels(source: WholeMap) -> Tensor:
    """Return raw values and bias as pixels, (1, C, H, W)."""
    raw, s = source.raw, source.phases
    if source.bias is not None:
        raw = raw + source.bias.to(raw.dtype).view(1, -1, 1, 1)
    if s == 1:
        return raw
    result = raw.new_empty(1, source.channels, source.height, source.width)
    result = result.contiguous(memory_format=torch.channels_last)
    for a, down in enumerate(source.shifts):
        for b, right in enumerate(source.shifts):
            target = result[:, :, a::s, b::s]
            k, (rows, columns) = (a * s + b) * source.channels, target.shape[2:]
            target.copy_(raw[:, k : k + source.channels, down : down + rows, right : right + columns])
    return result


def _framed(pixels: Tensor, frame: Frame) -> Tensor:
    height, width = pixels.shape[2:]
    pixels = pixels[:, :, : height + min(frame.bottom, 0), : width + min(frame.right, 0)]
    edges = frame.left, max(frame.right, 0), frame.top, max(frame.bottom, 0)
    if not any(edges):
        return pixels
    if frame.padding == "zero" or (max(edges[:2]) < pixels.shape[3] and max(edges[2:]) < pixels.shape[2]):
        return F.pad(pixels, edges, mode=PAD_MODES[frame.padding])
    for axis, before, after in ((2, frame.top, edges[3]), (3, frame.left, edges[1])):  # beyond a whole reflection
        side = pixels.shape[axis]
        index = torch.arange(-before, side + after, device=pixels.device)
        if frame.padding == "reflect":
            index = torch.where(index.abs() < side, index.abs(), 2 * (side - 1) - index)
        pixels = pixels.index_select(axis, index.clamp(0, side - 1))
    return pixels
