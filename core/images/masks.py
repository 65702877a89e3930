"""Masks, (N, 1, H, W) in [0, 1] and 1 where the effect applies: fit them to an image and soften their edges."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .bicubic import enlarge
from .filters import gaussian_blur
from .wrapping import surround, trim

MOST_FEATHER = 500  # px


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Resize a mask (N, 1, h, w) of any size to (N, 1, height, width) float32, clamped to [0, 1]."""
    mask = mask.float().clamp(0, 1)
    if mask.shape[-2:] != (height, width):
        mask = F.interpolate(mask, (height, width), mode="bilinear", antialias=True)
    return mask


def feathered(mask: Tensor, feather: float, wrap: str = "none") -> Tensor:
    """Fade a mask (N, 1, H, W) in over ``feather`` px inside its edges, along a Gaussian's integral.

    Zeros stay exactly 0, so that any feather leaves a protected area protected. The edges of the image are not edges of
    the mask; those that ``wrap`` names meet (`wrapping.WRAPS`).
    """
    radius = math.ceil(feather / 2)
    if not radius:
        return mask
    if wrap != "none":
        return trim(feathered(surround(mask, wrap, 2 * radius), feather), wrap, 2 * radius)
    reached, eroded = 0, F.pad(-mask, (radius,) * 4, value=-math.inf)
    while reached < radius:  # builds a minimum over 2 r + 1 px from minima over three px, ever further apart
        step = min(2 * reached + 1, radius - reached)
        eroded = F.max_pool2d(eroded, 3, 1, dilation=step)
        reached += step
    return gaussian_blur(-eroded, feather / 4, radius).clamp_(0, 1)


def softened(mask: Tensor, feather: float, wrap: str = "none") -> Tensor:
    """Soften a mask half inside and half outside its edges, so that masks that add up to 1 still do.

    Like `feathered`, the transition is ``feather`` px wide, along a Gaussian's integral, and edges that ``wrap`` names meet.
    """
    radius = math.ceil(feather / 2)
    if not radius:
        return mask
    return trim(gaussian_blur(surround(mask, wrap, radius), feather / 4, radius), wrap, radius).clamp(0, 1)


def check_feather(feather: float) -> None:
    """Raise InputError unless ``feather`` is a number of pixels from 0 to MOST_FEATHER."""
    if not 0 <= feather <= MOST_FEATHER:
        raise InputError(f"feather is {feather}; expected a number of pixels from 0 to {MOST_FEATHER}")


def enlarge_mask(mask: Tensor, scale: int) -> Tensor:
    """Enlarge a mask (N, 1, H, W) in [0, 1] to (N, 1, scale H, scale W) by bicubic interpolation, clamped; same dtype.

    A mask that is 0 everywhere stays exactly 0.
    """
    return enlarge(mask.float(), scale).clamp_(0, 1).to(mask.dtype)


def enlarge_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Enlarge alpha (N, 1, H, W) as `enlarge_mask` does, so that opaque images stay exactly opaque."""
    return 1 - enlarge_mask(1 - alpha, scale)
