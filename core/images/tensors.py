"""Image tensors: float RGB in [0, 1], (N, 3, H, W). Check, quantize and process them in bands of rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError

_BAND_PIXELS = 2**18


def check_image(image: Tensor, channels: int = 3, name: str = "image") -> None:
    """Raise ImageError unless ``image`` is a float tensor (N, channels, H, W) of finite values in [0, 1]."""
    shape = tuple(getattr(image, "shape", ()))
    hint = ""
    if not isinstance(image, Tensor):
        got = type(image).__name__
    elif not image.is_floating_point():
        got = str(image.dtype)
        hint = "use image.float() / 255" if image.dtype == torch.uint8 else ""
    elif image.ndim != 4 or shape[1] != channels or not image.numel():
        got = f"shape {shape}"
        if image.ndim == 3 and shape[0] == channels:
            hint = "use image[None]"
        elif image.ndim == 4 and shape[3] == channels:
            hint = "use image.permute(0, 3, 1, 2)"
        elif image.ndim == 4 and (shape[1], channels) == (4, 3):
            hint = "take alpha off with image[:, :3]"
        elif image.ndim == 4 and shape[1] == 1:
            hint = f"use image.expand(-1, {channels}, -1, -1)"
    else:
        low, high = (float(extreme) for extreme in image.detach().aminmax())
        if low >= -1e-3 and high <= 1 + 1e-3:
            return
        got = f"values from {low:.4g} to {high:.4g}"
        if not np.isfinite([low, high]).all():
            got = "values that are nan or infinite"
        elif low >= 0 and 2 < high <= 255:
            hint = "they look like 0..255: divide by 255"
        elif -1 <= low < -0.1 and high <= 1:
            hint = "they look like -1..1: use (image + 1) / 2"
        else:
            hint = "clamp them, or undo a normalization"
    wanted = f"{name}: expected a float tensor (N, {channels}, H, W) with values in [0, 1]"
    raise ImageError(f"{wanted}, got {got}" + (f"; {hint}" if hint else ""))


def quantize(image: Tensor) -> Tensor:
    """``image`` as it would be after writing it to a file of 8 bits per channel: clamped to [0, 1], in steps of 1/255."""
    return image.clamp(0, 1).mul(255).round().div(255)


def row_bands(height: int, width: int, least: int = 1) -> Iterable[slice]:
    """Slices of rows, ``least`` or more, so that what works on them needs little memory besides the image."""
    rows = max(least, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
