"""Image tensors, float RGB (N, 3, H, W) in [0, 1]: check and quantize them, and split them into bands of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ImageError

_BAND_PIXELS = 2**18  # of one band of rows


def check_image(image: Tensor, channels: int = 3, name: str = "image") -> None:
    """Raise ImageError unless ``image`` is a float tensor (N, channels, H, W) of finite values in [0, 1].

    Values may exceed the range by 0.001. The message calls the tensor ``name`` and says how to repair common mistakes.
    """
    wanted = f"{name}: expected a float tensor (N, {channels}, H, W) with values in [0, 1]"
    check_type(image, wanted)
    if image.ndim != 4 or image.shape[1] != channels or not image.numel():
        got, hint = tuple(image.shape), _hint_on_shape(tuple(image.shape), channels)
        raise ImageError(f"{wanted}, got shape {got}" + (f"; {hint}" if hint else ""))
    low, high = finite_range(image, name)
    if low < -1e-3 or high > 1 + 1e-3:
        raise ImageError(f"{wanted}, got values from {low:.4g} to {high:.4g}; {_hint_on_range(low, high)}")


def check_type(image: object, wanted: str) -> None:
    """Raise ImageError unless ``image`` is a float tensor. The message starts with ``wanted``."""
    if not isinstance(image, Tensor):
        raise ImageError(f"{wanted}, got {type(image).__name__}")
    if not image.is_floating_point():
        hint = "; use image.float() / 255" if image.dtype == torch.uint8 else ""
        raise ImageError(f"{wanted}, got {image.dtype}{hint}")


def finite_range(image: Tensor, name: str = "image") -> tuple[float, float]:
    """Return the smallest and the largest value of images (N, ...).

    Raises:
        ImageError: some values are nan or infinite; the message names the first such frame.
    """
    low, high = (float(extreme) for extreme in image.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        index = next((i for i, frame in enumerate(image.detach()) if not frame.isfinite().all()), 0)
        which = f"{'frame' if name == 'image' else name} {index + 1} of {len(image)}"
        subject = which if len(image) > 1 else f"the {name}"
        raise ImageError(f"{subject} has values that are nan or infinite; check the step that made it")
    return low, high


def _hint_on_shape(shape: tuple[int, ...], channels: int) -> str:
    if len(shape) == 3 and shape[0] == channels:
        return "use image[None]"
    if len(shape) == 4 and shape[3] == channels:
        return "use image.permute(0, 3, 1, 2)"
    if len(shape) == 4 and (shape[1], channels) == (4, 3):
        return "remove alpha with image[:, :3]"
    if len(shape) == 4 and shape[1] == 1:
        return f"use image.expand(-1, {channels}, -1, -1)"
    return ""


def _hint_on_range(low: float, high: float) -> str:
    if low >= 0 and 2 < high <= 255:
        return "they look like 0..255: divide by 255"
    if -1 <= low < -0.1 and high <= 1:
        return "they look like -1..1: use (image + 1) / 2"
    return "clamp them, or undo a normalization"


def quantize(image: Tensor) -> Tensor:
    """Round ``image`` as a file with 8 bits per channel does: clamped to [0, 1], in steps of 1/255."""
    return image.clamp(0, 1).mul(255).round().div(255)


def row_bands(height: int, width: int, least: int = 1) -> Iterable[slice]:
    """Return slices of rows that each need little memory to process. Each has ``least`` rows or more, but for the last."""
    rows = max(least, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
