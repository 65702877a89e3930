"""The two filters that control and video are made of: a Gaussian blur, and resizing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(image: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Blur (N, C, H, W) float with a Gaussian of ``sigma`` px, cut off at ``radius`` px (None: 3 sigma); edges replicated."""
    radius = math.ceil(3 * sigma) if radius is None else radius
    if not radius:
        return image
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    taps = (taps / taps.sum()).to(image)
    planes = image.flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), taps.view(1, 1, -1, 1))
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    return planes.view(image.shape)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize (N, C, H, W) float by bicubic interpolation, antialiased where it becomes smaller; values may overshoot."""
    if image.shape[-2:] == (height, width):
        return image
    try:
        return F.interpolate(image, (height, width), mode="bicubic", antialias=True)
    except NotImplementedError:  # not every backend has it
        return F.interpolate(image.cpu(), (height, width), mode="bicubic", antialias=True).to(image.device)
