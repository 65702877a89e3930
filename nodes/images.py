"""The host's images and core's: IMAGE is [B, H, W, C] with C = 1, 3 or 4, core has (N, 3, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import ImageError


def to_core(frame: Tensor, device: torch.device) -> Tensor:
    """One frame [H, W, C] -> (1, 3, H, W) float32 in [0, 1] on ``device``; grey is repeated, alpha left out.

    Values a little outside of [0, 1], as decoders and sharpeners give them, are clamped.
    """
    rgb = frame[..., :3].to(device=device, dtype=torch.float32)
    return rgb.movedim(-1, 0)[None].clamp(0, 1).expand(1, 3, -1, -1)


def check(image: Tensor) -> None:
    """Refuse what is not an IMAGE. Raises ImageError."""
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ImageError(f"expected an IMAGE of [batch, height, width, 1, 3 or 4 channels], got {list(image.shape)}")


def empty_like(image: Tensor, scale: int, **where: torch.device | torch.dtype) -> Tensor:
    """Room for a result: [B, scale H, scale W, 3], or 4 with alpha."""
    batch, height, width, channels = image.shape
    return torch.empty(batch, scale * height, scale * width, 4 if channels == 4 else 3, **where)
