"""The host's images and core's: IMAGE is [B, H, W, C] with C = 1, 3 or 4, core has (N, 3, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ImageError
from ..core.images.masks import enlarge_alpha, enlarge_mask, fit_mask
from .host import HostedModel, intermediate, progress_callback


def process(image: Tensor, hosted: HostedModel, compute: Callable[..., Tensor], **options: Any) -> Tensor:
    """An IMAGE [B, H, W, C] through ``compute``, a method of the hosted model, frame by frame.

    options: of the model's working_bytes
    Returns [B, scale H, scale W, 3], or 4 with alpha, which is enlarged as much. Raises ImageError.
    """
    check(image)
    batch, height, width, channels = image.shape
    scale = hosted.model.spec.scale
    device = hosted.load(height, width, **options)
    progress = progress_callback(batch)
    result = torch.empty(batch, scale * height, scale * width, 4 if channels == 4 else 3, **intermediate())
    for frame, out in zip(image, result, strict=True):
        out[..., :3] = compute(to_core(frame, device), progress=progress)[0].movedim(0, -1)
        if channels == 4:
            alpha = frame[..., 3]
            out[..., 3] = alpha if scale == 1 else enlarge_alpha(alpha[None, None].float(), scale)[0, 0]
    return result


def enlarge_masks(mask: Tensor, height: int, width: int, scale: int) -> Tensor:
    """A MASK [B, H, W] or [H, W] of images of height x width, of any size itself -> [B, scale height, scale width].

    Raises ImageError.
    """
    masks = mask_to_core(mask)
    result = torch.empty(len(masks), scale * height, scale * width, **intermediate())
    for frame, out in zip(masks, result, strict=True):
        # LoadImage gives 64 x 64 where there is no alpha
        out.copy_(enlarge_mask(fit_mask(frame[None], height, width), scale)[0, 0])
    return result


def mask_to_core(mask: Tensor) -> Tensor:
    """A MASK [B, H, W] or [H, W] -> (B, 1, H, W) float32 in [0, 1]. Raises ImageError."""
    if mask.ndim < 2 or 0 in mask.shape:
        raise ImageError(f"expected a MASK of [batch, height, width], got {list(mask.shape)}")
    return mask.reshape(-1, 1, *mask.shape[-2:]).float().clamp(0, 1)


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
