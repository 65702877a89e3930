"""The last pass: a feature map becomes the output image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..images.bicubic import enlarge
from ..network.arch import ArchSpec
from ..network.transform_net import output_function
from .bands import Scratch, first_rows, read_band
from .feature_maps import Map
from .plan import Pass


def write_output(
    spec: ArchSpec, current: Map, step: Pass, tick: Callable[[], None] | None, image: Tensor
) -> Tensor:  # fmt: skip
    """Apply the output function to a map, and add the enlarged input if the network does.

    Args:
        spec: the network's architecture
        current: the last feature map
        step: the plan of this pass
        tick: called before every band
        image: the network's input, (1, 3, H, W)

    Returns:
        (1, C, H', W') float32 on the map's device.
    """
    for one in current.sources(None):
        one.release = True
    result = torch.empty(1, current.channels, current.height, current.width, dtype=torch.float32, device=current.device)
    scratch = Scratch()
    for first in first_rows(current.height, step.rows, tick):
        rows = min(step.rows, current.height - first)
        target = result[:, :, first : first + rows]
        if any(current.shifts) or current.phases == 1:
            target.copy_(read_band(current, torch.float32, "zero", first, rows, 0, current.width, scratch))
        else:
            _copy_blocks(current, first, target)
        values = replace(current.affine, threshold=None).apply(target, phases=1)
        target.copy_(output_function(values, spec.output))
        if spec.base == "bicubic":
            target.add_(_enlarged_rows(image, spec.scale, first, rows))
    return result


def _copy_blocks(current: Map, first: int, target: Tensor) -> None:
    """Copy pixel rows from ``first`` on out of S x S blocks that lie side by side: one copy takes them apart."""
    s = current.phases
    start, stop = first // s, (first + target.shape[2] - 1) // s + 1
    for begin, chunk in current.positions(start, stop):
        blocks = chunk[:, :, max(start - begin, 0) : stop - begin]
        blocks = blocks.unflatten(1, (s, s, -1)).permute(0, 3, 4, 1, 5, 2).to(target.device)
        top = max(begin - start, 0) * s
        band = target[:, :, top : top + blocks.shape[2] * s]
        if band.shape[2] == blocks.shape[2] * s and current.width == blocks.shape[4] * s:
            band.unflatten(3, (-1, s)).unflatten(2, (-1, s)).copy_(blocks)
        else:
            band.copy_(blocks.flatten(4, 5).flatten(2, 3)[:, :, : band.shape[2], : current.width])


def _enlarged_rows(image: Tensor, scale: int, first: int, rows: int) -> Tensor:
    """Return rows of the bicubically enlarged image."""
    base = enlarge(image, scale, first // scale, -(-(first + rows) // scale))
    return base[:, :, first % scale : first % scale + rows]
