"""Bicubic enlargement by a whole factor: one fixed convolution of the small image, equal for a part and the whole."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arithmetic import autocast

BICUBIC_REACH = 2  # pixels of the small image on each side that an enlarged pixel depends on


def cubic(distance: Tensor) -> Tensor:
    """Evaluate Keys' cubic kernel with a = -0.5, as in MATLAB's imresize."""
    x = distance.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def enlarge(image: Tensor, factor: int, first: int = 0, stop: int | None = None) -> Tensor:
    """Enlarge images by bicubic interpolation; edges are replicated.

    Args:
        image: (N, C, H, W) float
        factor: of the enlargement
        first: first row of the image whose enlargement is returned; rows around it are used too
        stop: the row after the last one (default: all rows)

    Returns:
        (N, C, factor (stop - first), factor W)
    """
    height, channels, reach = image.shape[2], image.shape[1], BICUBIC_REACH
    stop = height if stop is None else stop
    low, high = max(first - reach, 0), min(stop + reach, height)
    edges = (reach, reach, reach - (first - low), reach - (high - stop))
    padded = F.pad(image[:, :, low:high], edges, mode="replicate")
    weight = _weights_on(padded.device, padded.dtype, factor, channels)
    with autocast(image.device, None):  # it would round the image to half precision
        return F.pixel_shuffle(F.conv2d(padded, weight), factor)


@lru_cache(maxsize=16)
def _weights_on(device: torch.device, dtype: torch.dtype, factor: int, channels: int) -> Tensor:
    """Return the weights on a device: copying them anew would make the host wait for it."""
    with torch.inference_mode(False):  # a tensor of inference mode could not be used outside
        return enlargement_weights(factor, channels).to(device, dtype)


def enlargement_weights(factor: int, channels: int) -> Tensor:
    """Return the weights of `enlarge`, a convolution before a pixel shuffle, (C * factor^2, C, 5, 5).

    Output pixel a of input pixel m lies at m + (a + 1/2) / factor - 1/2.
    """
    offsets = (torch.arange(factor, dtype=torch.float64, device="cpu") + 0.5) / factor - 0.5
    taps = cubic(offsets[:, None] - torch.arange(-BICUBIC_REACH, BICUBIC_REACH + 1, device="cpu"))  # (factor, 5)
    kernels = torch.einsum("ai,bj->abij", taps, taps).flatten(0, 1)  # (factor^2, 5, 5)
    weight = torch.zeros(channels, factor**2, channels, *kernels.shape[1:], dtype=torch.float64, device="cpu")
    for channel in range(channels):
        weight[channel, :, channel] = kernels
    return weight.flatten(0, 1).float()
