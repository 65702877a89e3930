"""Pictures whose opposite edges meet: 360-degree panoramas (left and right), and textures that tile a plane (both ways)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError
from .filters import resize

#: Which edges meet: none, left and right, or also top and bottom
WRAPS = ("none", "x", "xy")
_BICUBIC_REACH = 3  # px of the larger spacing that count for a pixel, on either side, with one to spare


def wrapped_axes(wrap: str) -> tuple[bool, bool]:
    """Return whether rows and columns wrap, for one of `WRAPS`. Raise InputError for anything else."""
    if wrap not in WRAPS:
        raise InputError(f"wrap is {wrap!r}; expected one of {', '.join(WRAPS)}")
    return "y" in wrap, "x" in wrap


def surround(image: Tensor, wrap: str, pixels: int) -> Tensor:
    """Continue (N, C, H, W) by ``pixels`` px beyond the edges that meet, as often around as needed; H and W may grow."""
    for axis, wraps in zip((2, 3), wrapped_axes(wrap), strict=True):
        image = _continued(image, axis, pixels) if wraps else image
    return image


def trim(image: Tensor, wrap: str, pixels: int) -> Tensor:
    """Remove what `surround` added."""
    for axis, wraps in zip((2, 3), wrapped_axes(wrap), strict=True):
        image = image.narrow(axis, pixels, image.shape[axis] - 2 * pixels) if wraps else image
    return image


def resize_wrapped(image: Tensor, height: int, width: int, wrap: str) -> Tensor:
    """Resize (N, C, H, W) float like `filters.resize`, so that edges that meet still do."""
    if wrap == "none" or image.shape[-2:] == (height, width):
        return resize(image, height, width)
    rows, columns = wrapped_axes(wrap)
    top, more_top = _margin(image.shape[2], height) if rows else (0, 0)
    left, more_left = _margin(image.shape[3], width) if columns else (0, 0)
    image = _continued(_continued(image, 2, top), 3, left)
    image = resize(image, height + 2 * more_top, width + 2 * more_left)
    return image[..., more_top : more_top + height, more_left : more_left + width]


def _continued(image: Tensor, axis: int, pixels: int) -> Tensor:
    if not pixels:
        return image
    side = image.shape[axis]
    return image.index_select(axis, torch.arange(-pixels, side + pixels, device=image.device) % side)


def _margin(old: int, new: int) -> tuple[int, int]:
    """Return the pixels that resizing from one side to another needs beyond an edge, and what they become: whole numbers."""
    step = old // math.gcd(old, new)
    pixels = math.ceil(_BICUBIC_REACH * max(1, old / new) / step) * step if old != new else 0
    return pixels, pixels * new // old
