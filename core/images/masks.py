"""Masks: (N, 1, H, W) in [0, 1], 1 where something is done; brought to an image's size, with soft edges."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .bicubic import enlarge
from .filters import gaussian_blur

MOST_FEATHER = 500


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (N, 1, h, w) of any size as (N, 1, height, width) float32, clamped to [0, 1]."""
    mask = mask.float().clamp(0, 1)
    if mask.shape[-2:] != (height, width):
        mask = F.interpolate(mask, (height, width), mode="bilinear", antialias=True)
    return mask


def feathered(mask: Tensor, feather: float) -> Tensor:
    """Fade a mask (N, 1, H, W) in over ``feather`` px inside of its edges, along a Gaussian's integral.

    What is 0 stays exactly 0, so that a protected area is protected with any feather. The edges of the image are no edges
    of the mask.
    """
    radius = math.ceil(feather / 2)
    if not radius:
        return mask
    reached, eroded = 0, F.pad(-mask, (radius,) * 4, value=-math.inf)
    while reached < radius:  # a minimum over 2 r + 1 px from ever wider ones over three
        step = min(2 * reached + 1, radius - reached)
        eroded = F.max_pool2d(eroded, 3, 1, dilation=step)
        reached += step
    return gaussian_blur(-eroded, feather / 4, radius).clamp_(0, 1)


def softened(mask: Tensor, feather: float) -> Tensor:
    """The same with the transition half inside and half outside of the edge: masks that add up to 1 still do."""
    return gaussian_blur(mask, feather / 4, math.ceil(feather / 2)).clamp_(0, 1) if feather else mask


def check_feather(feather: float) -> None:
    """Raise InputError unless it is a number of pixels."""
    if not 0 <= feather <= MOST_FEATHER:
        raise InputError(f"feather is {feather}; expected a number of pixels from 0 to {MOST_FEATHER}")


def enlarge_mask(mask: Tensor, scale: int) -> Tensor:
    """Enlarge a mask (N, 1, H, W) in [0, 1] to (N, 1, scale H, scale W) by bicubic interpolation, clamped; same dtype.

    What is 0 everywhere stays exactly 0.
    """
    return enlarge(mask.float(), scale).clamp_(0, 1).to(mask.dtype)


def enlarge_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Enlarge alpha (N, 1, H, W) as `enlarge_mask` does, so that opaque images stay exactly opaque."""
    return 1 - enlarge_mask(1 - alpha, scale)
