"""A network as passes over bands of rows: what the streaming engine (stream.py) runs.

Instance normalization needs statistics of the whole image, so every convolution is a pass of its own: bands of the input
are normalized, activated, padded and convolved while they are in the cache, and the sums that make the statistics of
the output are added up. A convolution's raw result is what is stored (maps.py), around a mean of about zero, for which
the convolution's bias is free; this keeps sums of squares and half precision exact. The largest maps, at the two ends
of the network, can be computed twice rather than stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.bicubic import enlarge
from ..network.stages import InstanceNorm
from ..network.transform_net import TransformNet, output_function
from .feature_maps import Affine, Map, Pool, Scratch, Sums, read
from .lowering import Add, Norm, Normalize, Pad, Remember, Upsample, Window, batch_norm_affine, lower
from .plan import Pass, Plan, plan_passes

_PROBES = 4  # rows from which the mean of a convolution's result is guessed


class BandedNetwork:
    """Runs one network over bands, image by image.

    dtype: of stored values and convolutions; block_dtype: of those in residual blocks from the fourth one on; statistics
        are float32 and better
    band_bytes: aim for a band's size: what stays in the cache; band_rows: its rows, instead
    store_ends: whether the largest maps are stored, or computed twice
    host_maps: whether maps are kept in the host's memory, bands of them moving over
    """

    def __init__(
        self, network: TransformNet, dtype: torch.dtype = torch.float32, block_dtype: torch.dtype | None = None, *,
        band_bytes: int = 2 << 20, band_rows: int | None = None, store_ends: bool = True, host_maps: bool = False,
    ) -> None:  # fmt: skip
        self.spec, self.dtype, self.block_dtype = network.spec, dtype, block_dtype or dtype
        self.band_bytes, self.band_rows, self.store_ends = band_bytes, band_rows, store_ends
        self.host_maps = host_maps
        self.operations = lower(network)

    def plan(self, height: int, width: int) -> Plan:
        """What a run over an image of this size takes."""
        return plan_passes(
            self.operations, self.spec.in_channels, height, width, self.dtype, self.block_dtype,
            band_bytes=self.band_bytes, band_rows=self.band_rows, store_ends=self.store_ends,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, image: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
        """(1, 3, H, W) float32 -> what network(image) gives, (1, C, H', W') float32, on image's device.

        tick: called before every band of the plan; what it raises stops the work.
        """
        height, width = image.shape[-2:]
        plan = self.plan(height, width)
        passes = plan.passes
        pool = Pool(plan.slab) if self.host_maps or image.device.type == "cpu" else None
        current = Map(height, width, image.shape[1], chunks=deque([(0, image)]), compute_device=image.device)
        skip: Map | None = None
        for operation, step in zip(self.operations, passes, strict=False):
            if isinstance(operation, Window):
                current = self._convolve(operation, current, step, tick, pool, keep=skip)
            elif isinstance(operation, Remember):
                skip = current
            elif isinstance(operation, Add):
                current, skip = self._add(operation, current, skip, step, pool), None
            elif isinstance(operation, Pad):
                padded = F.pad(image, (operation.pixels,) * 4, mode="reflect")
                current = Map(
                    *padded.shape[-2:], padded.shape[1], chunks=deque([(0, padded)]), compute_device=image.device
                )
            elif isinstance(operation, Normalize):
                current = self._normalize(operation, current, step, pool)
            else:
                current = self._upsample(operation, current, step, tick, pool)
        if pool is not None:
            pool.close()  # what the maps leave is the result's
        return self._finish(current, passes[-1], tick, image)

    def _convolve(
        self, window: Window, source: Map, step: Pass, tick: Callable | None, pool: Pool | None, keep: Map | None
    ) -> Map:
        """A convolution. With a norm after it, the norm's statistics are known when this returns.

        keep: a map that is needed afterwards; others go when they have been read for the last time
        """
        top, positions, height = window.geometry(source.height)
        left, columns, width = window.geometry(source.width)
        affine, weight, bias, dtype = source.affine, window.weight, window.bias, step.dtype
        if affine.shift is not None:
            bias = bias + (weight.sum(dim=(2, 3)) * affine.shift.flatten()).sum(dim=1)
        if affine.scale is not None:
            weight = weight * affine.scale
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        span = (columns - 1) * window.stride + window.kernel
        device = source.device
        result = Map(height, width, window.channels, window.phases, window.shifts, compute_device=device, pool=pool)
        scratch = Scratch()

        def compute(first: int, stop: int) -> Tensor:
            rows = (stop - 1 - first) * window.stride + window.kernel
            band = read(source, dtype, window.padding, first * window.stride - top, rows, left, span, scratch)
            return F.conv2d(band, weight, center, window.stride)

        # Of the bias nothing is lost to the compute type. What phases share goes into a norm; without one, the convolution
        # adds the bias, rounded, and the rest goes into the shift. (A whole bias in the shift is missing in the stored
        # values, and comes back larger from every convolution, until half precision holds little else.)
        if window.norm is not None:
            center = (bias - bias.view(-1, window.channels).mean(dim=0).repeat(window.phases**2)).to(dtype)
            center = (center - self._mean(window, compute, positions, can_jump=source.compute is None)).to(dtype)
        else:
            center = bias.to(dtype)
            rest = (bias - center.float()).view(-1, window.channels).mean(dim=0).view(1, -1, 1, 1)
            result.affine = Affine(shift=rest, threshold=-rest if window.relu else None)
        if step.store:
            for one in source.sources(keep):
                one.release = True
        if step.store or window.norm is not None:
            sums = Sums(result)
            for first in _bands(positions, step.rows, tick):
                band = compute(first, min(first + step.rows, positions))
                if window.norm is not None:
                    sums.add(first, band)
                if step.store:
                    result.store(first, band)
            if window.norm is not None:
                result.affine = sums.affine(window.norm, window.relu)
        if step.store:
            for one in source.sources(keep):
                one.forget()
        else:
            result.pool, result.compute, result.source = None, compute, source
        return result

    def _mean(self, window: Window, compute: Callable, positions: int, can_jump: bool) -> Tensor:
        """About the mean of the result, from a few rows of it, for each output channel of the window."""
        firsts = {positions * (2 * k + 1) // (2 * _PROBES) for k in range(_PROBES)} if can_jump else {0}
        rows = torch.cat([compute(first, first + 1).float().mean(dim=(2, 3)) for first in sorted(firsts)])
        mean = rows.mean(dim=0).view(-1, window.channels).mean(dim=0)
        return mean.repeat(window.phases**2)

    def _add(self, operation: Add, current: Map, skip: Map, step: Pass, pool: Pool | None) -> Map:
        """skip + current, in place of current where its number format allows."""
        scale, times, crop = current.affine.scale, operation.times, operation.crop
        factor = times if skip.affine.scale is None else skip.affine.scale * times
        shifts = [part for part in (current.affine.shift, _times(skip.affine.shift, times)) if part is not None]
        shift = sum(shifts) if shifts else None
        result = replace(current, chunks=deque(), pool=pool, affine=Affine(shift=shift))
        scratch = Scratch()
        skip.release = True
        current.release = current.chunks[0][1].dtype != self.dtype  # otherwise the sum takes its place
        # In half precision throughout, sums are rounded as all else is; between half and full they are made in full.
        exact = self.dtype if current.chunks[0][1].dtype == self.dtype else torch.float32
        factor = factor if isinstance(factor, int) else factor.to(exact)
        scale = None if scale is None else scale.to(exact)
        for first, piece in _pieces(current, step.rows):
            band = read(skip, exact, "zero", first + crop, piece.shape[2], 0, skip.width, scratch)
            band = band[..., crop : crop + current.width]
            if not isinstance(factor, int) or factor != 1:
                band.mul_(factor)
            in_place = piece.dtype == exact and piece.device == band.device
            added = piece if in_place else scratch.get("added", tuple(piece.shape), exact, band.device)
            if not in_place:
                added.copy_(piece)
            if scale is None:
                added.add_(band)
            else:
                torch.addcmul(band, added, scale, out=added)
            if piece.dtype == self.dtype:
                piece.copy_(added)  # does nothing in place
            else:
                result.store(first, added.to(self.dtype, copy=pool is None))
        skip.forget()
        if result.chunks:
            current.forget()
        else:
            result.chunks = current.chunks
        if operation.relu:
            zero = torch.zeros(1, current.channels, 1, 1, device=current.device)
            result.affine.threshold = zero if shift is None else -shift
        return result

    def _normalize(self, operation: Normalize, current: Map, step: Pass, pool: Pool | None) -> Map:
        """Normalization and ReLU of a map whose own normalization and ReLU come first."""
        result = replace(current, chunks=deque(), pool=pool, compute=None, affine=Affine())
        norm, sums = operation.norm, Sums(current)
        if isinstance(norm, InstanceNorm):
            # its scale may be negative, and a maximum needs a positive one: the sign goes into the stored values
            scale, shift = torch.where(norm.weight < 0, -1.0, 1.0).detach(), 0.0
        else:
            scale, shift = (1.0, 0.0) if norm is None else batch_norm_affine(norm)
        affine = Affine(_shaped(scale), _shaped(shift))
        current.release = True
        for first, piece in _pieces(current, step.rows):
            values = _applied(piece.to(current.device).float(), current.affine, current.phases)
            values = _applied(values, affine, current.phases)
            if isinstance(norm, InstanceNorm):
                sums.add(first, values)
            elif operation.relu:
                values = values.clamp_min(0)
            result.store(first, values.to(self.dtype).contiguous(memory_format=torch.channels_last))
        current.forget()
        if isinstance(norm, InstanceNorm):
            absolute = Norm(norm.weight.detach().float().abs(), norm.bias.detach().float(), norm.eps)
            result.affine = sums.affine(absolute, operation.relu)
        return result

    def _upsample(self, operation: Upsample, current: Map, step: Pass, tick: Callable | None, pool: Pool | None) -> Map:
        """Nearest upsampling on its own."""
        factor = operation.factor
        result = replace(
            current, height=current.height * factor, width=current.width * factor, phases=1, shifts=(0,),
            chunks=deque(), pool=pool, compute=None, affine=replace(current.affine, threshold=None),
        )  # fmt: skip
        scratch = Scratch()
        current.release = True
        for first in _bands(result.height, step.rows, tick):
            stop = min(first + step.rows, result.height)
            low, high = first // factor, (stop - 1) // factor + 1
            band = read(current, self.dtype, "zero", low, high - low, 0, current.width, scratch)
            rows = torch.arange(first, stop, device=band.device) // factor - low
            band = band.index_select(2, rows).repeat_interleave(factor, dim=3)
            result.store(first, band.contiguous(memory_format=torch.channels_last))
        current.forget()
        return result

    def _finish(self, current: Map, step: Pass, tick: Callable | None, image: Tensor) -> Tensor:
        """The output image, band by band."""
        s, device = current.phases, current.device
        for one in current.sources(None):
            one.release = True
        result = torch.empty(1, current.channels, current.height, current.width, device=device)
        scratch = Scratch()
        for first in _bands(current.height, step.rows, tick):
            rows = min(step.rows, current.height - first)
            target = result[:, :, first : first + rows]
            if any(current.shifts) or s == 1:
                target.copy_(read(current, torch.float32, "zero", first, rows, 0, current.width, scratch))
            else:  # blocks of pixels side by side: one copy takes them apart
                for start, chunk in current.positions(first // s, (first + rows - 1) // s + 1):
                    blocks = chunk[:, :, max(first // s - start, 0) : (first + rows - 1) // s + 1 - start]
                    blocks = blocks.unflatten(1, (s, s, -1)).permute(0, 3, 4, 1, 5, 2).to(device)
                    top = max(start - first // s, 0) * s
                    band = target[:, :, top : top + blocks.shape[2] * s]
                    if band.shape[2] == blocks.shape[2] * s and current.width == blocks.shape[4] * s:
                        band.unflatten(3, (-1, s)).unflatten(2, (-1, s)).copy_(blocks)
                    else:
                        band.copy_(blocks.flatten(4, 5).flatten(2, 3)[:, :, : band.shape[2], : current.width])
            values = _applied(target, replace(current.affine, threshold=None), 1)
            target.copy_(output_function(values, self.spec.output))
            if self.spec.base == "bicubic":
                scale = self.spec.scale
                base = enlarge(image, scale, first // scale, -(-(first + rows) // scale))
                target.add_(base[:, :, first % scale : first % scale + rows])
        return result


def _bands(positions: int, rows: int, tick: Callable[[], None] | None) -> Iterator[int]:
    for first in range(0, positions, rows):
        if tick is not None:
            tick()
        yield first


def _pieces(source: Map, rows: int) -> Iterator[tuple[int, Tensor]]:
    """All stored positions, a few rows of a chunk at a time."""
    first = 0
    while (found := next(source.positions(first, first + 1), None)) is not None:
        start, chunk = found
        piece = chunk[:, :, first - start : first - start + rows]
        yield first, piece
        first += piece.shape[2]


def _shaped(value: Tensor | float) -> Tensor | None:
    return value.view(1, -1, 1, 1) if isinstance(value, Tensor) else None


def _applied(values: Tensor, affine: Affine, phases: int) -> Tensor:
    """The meaning of stored values of all phases."""
    scale, shift, threshold = (
        part if part is None else part.repeat(1, phases**2, 1, 1)
        for part in (affine.scale, affine.shift, affine.threshold)
    )
    if threshold is not None:
        values = torch.maximum(values, threshold)
    if scale is not None:
        values = values * scale
    return values if shift is None else values + shift


def _times(shift: Tensor | None, times: int) -> Tensor | None:
    return None if shift is None else shift * times
