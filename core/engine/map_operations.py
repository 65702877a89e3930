"""The passes that are no convolutions: adding two maps, normalizing a map that exists, nearest upsampling."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..network.stages import InstanceNorm
from .bands import Scratch, first_rows, read_band
from .feature_maps import Affine, Map, Pool
from .lowering import Add, Norm, Normalize, Upsample, batch_norm_affine
from .map_statistics import Sums
from .plan import Pass


def add(operation: Add, current: Map, skip: Map, step: Pass, dtype: torch.dtype, pool: Pool | None) -> Map:
    """Return skip + current. It takes the place of ``current`` if that already has number format ``dtype``.

    In half precision throughout, sums are rounded like everything else. Between half and full precision they are
    computed in full.
    """
    (top, left), stored = operation.crop, current.chunks[0][1].dtype
    in_place = stored == dtype
    exact = dtype if in_place else torch.float32
    scale = None if current.affine.scale is None else current.affine.scale.to(exact)
    factor = _factor(skip.affine.scale, operation.times, exact)
    shift = _sum(current.affine.shift, None if skip.affine.shift is None else skip.affine.shift * operation.times)
    result = replace(current, chunks=deque(), pool=pool, affine=Affine(shift=shift))
    scratch = Scratch()
    skip.release = True
    current.release = not in_place
    for first, piece in current.pieces(step.rows):
        band = read_band(skip, exact, "zero", first + top, piece.shape[2], 0, skip.width, scratch)
        band = band[..., left : left + current.width]
        if factor is not None:
            band.mul_(factor)
        total = _converted(piece, exact, band.device, scratch)
        if scale is None:
            total.add_(band)
        else:
            torch.addcmul(band, total, scale, out=total)
        if in_place:
            piece.copy_(total)  # does nothing if total is the piece
        else:
            result.store(first, total.to(dtype, copy=pool is None))
    skip.forget()
    if in_place:
        result.chunks = current.chunks
    else:
        current.forget()
    if operation.relu:
        zero = torch.zeros(1, current.channels, 1, 1, dtype=torch.float32, device=current.device)
        result.affine.threshold = zero if shift is None else -shift
    return result


def _factor(scale: Tensor | None, times: int, dtype: torch.dtype) -> Tensor | int | None:
    """Return scale * times, None for 1."""
    if scale is not None:
        return (scale * times).to(dtype)
    return None if times == 1 else times


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _converted(piece: Tensor, dtype: torch.dtype, device: torch.device, scratch: Scratch) -> Tensor:
    """Return the piece itself, or a copy where its number format or device differs."""
    if piece.dtype == dtype and piece.device == device:
        return piece
    n, c, h, w = piece.shape
    return scratch.get("added", (n, c, h, w), dtype, device).copy_(piece)


def normalize(operation: Normalize, current: Map, step: Pass, dtype: torch.dtype, pool: Pool | None) -> Map:
    """Normalize a map, and apply ReLU, after its own normalization and ReLU.

    For an instance normalization, values are stored without the mean of the first rows, which it removes anyway: sums of
    squares and half precision are exact around 0.
    """
    result = replace(current, chunks=deque(), pool=pool, affine=Affine())
    norm, sums = operation.norm, Sums(current)
    affine = _norm_affine(norm)
    current.release = True
    removed: Tensor | None = None
    for first, piece in current.pieces(step.rows):
        values = current.affine.apply(piece.to(current.device).float(), current.phases)
        values = affine.apply(values, current.phases)
        if isinstance(norm, InstanceNorm):
            if removed is None:
                removed = values.mean(dim=(0, 2, 3)).view(-1, current.channels).mean(dim=0)
            values = values - removed.repeat(current.phases**2).view(1, -1, 1, 1)
            sums.add(first, values)
        elif operation.relu:
            values = values.clamp_min(0)
        result.store(first, values.to(dtype).contiguous(memory_format=torch.channels_last))
    current.forget()
    if isinstance(norm, InstanceNorm) and removed is not None:
        absolute = Norm(norm.weight.detach().float().abs(), norm.bias.detach().float(), norm.eps)
        result.affine = sums.affine(absolute, operation.relu, dtype, removed)
    return result


def _norm_affine(norm: nn.Module | None) -> Affine:
    """Return the part of a normalization that stored values take in."""
    if isinstance(norm, InstanceNorm):
        # Its scale may be negative, and a maximum needs a positive one: the sign goes into the stored values.
        return Affine(torch.where(norm.weight < 0, -1.0, 1.0).detach().view(1, -1, 1, 1))
    if isinstance(norm, nn.BatchNorm2d):
        return Affine(*(part.view(1, -1, 1, 1) for part in batch_norm_affine(norm)))
    return Affine()


def upsample(
    operation: Upsample, current: Map, step: Pass, dtype: torch.dtype, pool: Pool | None,
    tick: Callable[[], None] | None,
) -> Map:  # fmt: skip
    """Return a map with each pixel repeated; ``tick`` is called before every band."""
    factor = operation.factor
    result = replace(
        current, height=current.height * factor, width=current.width * factor, phases=1, shifts=(0,),
        chunks=deque(), pool=pool, affine=replace(current.affine, threshold=None),
    )  # fmt: skip
    scratch = Scratch()
    current.release = True
    for first in first_rows(result.height, step.rows, tick):
        stop = min(first + step.rows, result.height)
        low, high = first // factor, (stop - 1) // factor + 1
        band = read_band(current, dtype, "zero", low, high - low, 0, current.width, scratch)
        rows = torch.arange(first, stop, device=band.device) // factor - low
        band = band.index_select(2, rows).repeat_interleave(factor, dim=3)
        result.store(first, band.contiguous(memory_format=torch.channels_last))
    current.forget()
    return result
