"""Colors under transparency: nobody sees them, but a network does, and carries them into what is seen.

A cut-out may hide black, white or the rest of the photo. Filters spread hidden colors across the edge, and statistics of
the whole image include them. So they are replaced by colors that can be seen, before anything is computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FAINT = 16  # alpha of 1 / _FAINT and more counts as visible; below that, the color of a pixel fades into the fill


def fill_transparent(pixels: Tensor, alpha: Tensor | None) -> Tensor:
    """Return images whose transparent pixels have the colors of visible pixels nearby.

    The result does not depend on colors where alpha is 0, and equals ``pixels`` where alpha is 1/16 or more. Colors are
    averaged with alpha as weight, over areas that grow with the distance to what is visible.

    Args:
        pixels: (N, 3, H, W) float RGB
        alpha: (N, 1, H, W) float in [0, 1], 0 is transparent; None if all is opaque

    Returns:
        (N, 3, H, W); ``pixels`` itself if nothing is transparent. Where an image has no visible pixel, it is black.
    """
    if alpha is None:
        return pixels
    weight = (alpha.to(pixels.device, torch.float32) * _FAINT).clamp(0, 1)
    if bool((weight == 1).all()):
        return pixels
    own = torch.where(weight > 0, pixels.float(), 0.0)
    return torch.where(weight == 1, pixels, _filled(own, weight).to(pixels.dtype))


def _filled(color: Tensor, weight: Tensor) -> Tensor:
    """Return colors where the weight is 1, and more and more of their surroundings where it is less."""
    if min(color.shape[-2:]) == 1 == max(color.shape[-2:]) or bool((weight == 1).all()):
        return color * weight
    share = F.avg_pool2d(weight, 2, ceil_mode=True)
    mean = F.avg_pool2d(color * weight, 2, ceil_mode=True) / share.clamp_min(1e-12)
    surroundings = _filled(mean, (4 * share).clamp_max(1))
    surroundings = F.interpolate(surroundings, color.shape[-2:], mode="bilinear", align_corners=False)
    return color * weight + surroundings * (1 - weight)
