"""Filters for images: a Gaussian blur, an unsharp mask, and resizing."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(image: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Blur (N, C, H, W) float with a Gaussian; edges are replicated.

    Args:
        image: (N, C, H, W) float
        sigma: standard deviation in px
        radius: px at which the Gaussian is cut off (default: 3 sigma)

    Returns:
        An image of the same shape; the image itself if the radius is 0.
    """
    radius = math.ceil(3 * sigma) if radius is None else radius
    if not radius:
        return image
    taps = gaussian_taps(sigma, radius)
    for axis, edges in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        # Sum shifted images: a convolution of single channels takes seven times as long, and far more memory.
        padded, side = F.pad(image, edges, mode="replicate"), image.shape[axis]
        image = padded.narrow(axis, radius, side) * taps[0]
        for offset in range(1, radius + 1):
            for first in (radius - offset, radius + offset):
                image.add_(padded.narrow(axis, first, side), alpha=taps[offset])
    return image


def sharpened(image: Tensor, amount: float, sigma: float) -> Tensor:
    """Return (N, C, H, W) in [0, 1] after an unsharp mask: ``amount`` times what a blur with ``sigma`` px removes is added."""
    return (image + amount * (image - gaussian_blur(image, sigma))).clamp(0, 1)


def gaussian_taps(sigma: float, radius: int) -> list[float]:
    """Return the weights of the pixels at distance 0 to ``radius``. Over both directions, they add up to 1."""
    taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(radius + 1)]
    return [tap / (2 * sum(taps) - taps[0]) for tap in taps]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize (N, C, H, W) float by bicubic interpolation, antialiased for reduction. Values may overshoot."""
    if image.shape[-2:] == (height, width):
        return image
    try:
        return F.interpolate(image, (height, width), mode="bicubic", antialias=True)
    except NotImplementedError:  # not every backend has it
        return F.interpolate(image.cpu(), (height, width), mode="bicubic", antialias=True).to(image.device)


def fitted(image: Tensor, longest: int) -> Tensor:
    """Return images (N, C, H, W) with the longest side reduced to ``longest`` px, keeping the aspect ratio.

    Smaller images are returned unchanged.
    """
    height, width = image.shape[-2:]
    if (side := max(height, width)) <= longest:
        return image
    return resize(image, max(1, round(height * longest / side)), max(1, round(width * longest / side))).clamp(0, 1)
