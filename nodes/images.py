"""Conversion between the host's images and core's.

An IMAGE is [B, H, W, C] with C = 1, 3 or 4. Core's images are (N, 3, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ImageError
from ..core.images.masks import enlarge_alpha, enlarge_mask, fit_mask
from ..core.images.tensors import check_type, finite_range
from ..core.images.transparency import fill_transparent
from ..core.models.finite import checked_later
from ..core.models.transfers import flow
from .host import HostedModel, image_options, progress_callback


def process(
    image: Tensor, hosted: HostedModel[Any], compute: Callable[..., Tensor], *, scale: int = 1, **options: Any
) -> Tensor:
    """Run an IMAGE through a hosted model, frame by frame, with the host's progress.

    Args:
        image: IMAGE [B, H, W, C] in [0, 1], after `check`.
        hosted: The model, which is brought to its device.
        compute: A function that takes (1, 3, H, W) and ``progress``, and returns (1, 3, scale H, scale W).
        scale: Side of the result over side of the image.
        **options: Further arguments of the model's ``working_bytes``.

    Returns:
        IMAGE [B, scale H, scale W, 3], or with 4 channels if the image has alpha. Alpha is enlarged by the same scale.
    """
    batch, height, width, channels = image.shape
    device = hosted.load(height, width, **options)
    progress = progress_callback(batch)
    result = torch.empty(batch, scale * height, scale * width, 4 if channels == 4 else 3, **image_options())

    def computed(frame: Tensor) -> Tensor:
        return compute(to_core(frame, device), progress=progress)[0].movedim(0, -1)

    # A host that keeps images on the GPU needs no copies.
    results = flow(image, computed, device) if result.device.type == "cpu" else map(computed, image)
    with checked_later():
        for frame, out, pixels in zip(image, result, results, strict=True):
            out[..., :3] = pixels
            if channels != 4:
                continue
            alpha = frame[..., 3]
            out[..., 3] = alpha if scale == 1 else enlarge_alpha(alpha[None, None].float(), scale)[0, 0]
    return result


def enlarge_masks(mask: Tensor, height: int, width: int, scale: int) -> Tensor:
    """Enlarge the masks of images.

    Args:
        mask: MASK [B, H, W] or [H, W] of any size.
        height: Height of the images in px.
        width: Width of the images in px.
        scale: Side of the result over side of the images.

    Returns:
        MASK [B, scale height, scale width].

    Raises:
        ImageError: If ``mask`` is not a MASK.
    """
    masks = mask_to_core(mask)
    result = torch.empty(len(masks), scale * height, scale * width, **image_options())
    for frame, out in zip(masks, result, strict=True):
        # LoadImage gives 64 x 64 for an image without alpha
        out.copy_(enlarge_mask(fit_mask(frame[None], height, width), scale)[0, 0])
    return result


def mask_to_core(mask: Tensor) -> Tensor:
    """Convert a MASK [B, H, W] or [H, W] to (B, 1, H, W) float32 in [0, 1]. Raise ImageError for anything else.

    A MASK of bools is accepted, too.
    """
    wanted = "expected a MASK of [batch, height, width]"
    mask = mask.float() if isinstance(mask, Tensor) and mask.dtype == torch.bool else mask
    check_type(mask, wanted)
    if mask.ndim < 2 or 0 in mask.shape:
        raise ImageError(f"{wanted}, got {list(mask.shape)}")
    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    finite_range(mask, "mask")
    return mask.float().clamp(0, 1)


def to_core(frame: Tensor, device: torch.device) -> Tensor:
    """Convert one frame [H, W, C] to (1, 3, H, W) float32 in [0, 1] on a device. Grey is repeated.

    Alpha is dropped, and colors that it hides are replaced by visible ones.
    Values slightly outside of [0, 1], which decoders and sharpening produce, are clamped.
    """
    rgb = frame[..., :3].to(device=device, dtype=torch.float32)
    pixels = rgb.movedim(-1, 0)[None].clamp(0, 1).expand(1, 3, -1, -1)
    return fill_transparent(pixels, frame[None, None, ..., 3]) if frame.shape[-1] == 4 else pixels


def check(image: Tensor) -> None:
    """Raise ImageError unless ``image`` is an IMAGE of finite values. Values outside of [0, 1] are clamped later."""
    wanted = "expected an IMAGE of [batch, height, width, 1, 3 or 4 channels]"
    check_type(image, wanted)
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ImageError(f"{wanted}, got {list(image.shape)}")
    finite_range(image)
