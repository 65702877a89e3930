"""Blend two pictures of the same thing: a photo and its painting, or the paintings of two styles.

A plain average of two unrelated textures has less contrast than either and looks hazy. Here the local contrast lies
between the contrasts of the two. Blending inside the network was tried as well. With its residual blocks faded the colors
change before the strokes. With its norms faded there is no picture at all. No amount of either gives the photo.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .filters import gaussian_blur
from .tensors import row_bands
from .wrapping import surround, trim

SIGMA, RADIUS = 4.0, 12  # px; contrast is local: about the size of a stroke
MOST_GAIN = 2.0  # limit on the factor that raises contrast, for places where two opposite edges cancel out
LEAST_CONTRAST = 1e-3  # contrast that counts as none


def mix(first: Tensor, second: Tensor, amount: float, wrap: str = "none") -> Tensor:
    """Blend images; the local mean and the local contrast are the blends of the two images'.

    Args:
        first: (N, 3, H, W) float32 in [0, 1]
        second: the same
        amount: from 0, which returns the first image itself, to 1, which returns the second
        wrap: edges of the images that meet, one of `wrapping.WRAPS`

    Returns:
        (N, 3, H, W) float32 in [0, 1], computed in bands of rows
    """
    if amount in (0, 1):
        return second if amount else first
    if wrap != "none":
        first, second = (surround(each, wrap, 2 * RADIUS) for each in (first, second))
        return trim(mix(first, second, amount), wrap, 2 * RADIUS)
    result, height = torch.empty_like(first), first.shape[2]
    for rows in row_bands(height, first.shape[3], least=8 * RADIUS):
        low, high = max(rows.start - 2 * RADIUS, 0), min(rows.stop + 2 * RADIUS, height)
        band = _mixed(first[:, :, low:high], second[:, :, low:high], amount)
        result[:, :, rows] = band[:, :, rows.start - low : rows.stop - low]
    return result


def _mixed(first: Tensor, second: Tensor, amount: float) -> Tensor:
    plain = first.lerp(second, amount)
    means = [gaussian_blur(each, SIGMA, RADIUS) for each in (first, second)]
    mean = means[0].lerp(means[1], amount)
    found = _contrast(plain - mean)
    wanted = _contrast(first - means[0]).lerp(_contrast(second - means[1]), amount)
    gain = (wanted / found.clamp_min(LEAST_CONTRAST)).clamp(1, MOST_GAIN)
    return torch.addcmul(mean, gain, plain - mean).clamp_(0, 1)


def _contrast(detail: Tensor) -> Tensor:
    """Root mean square around each pixel over all channels: (N, 1, H, W)."""
    return gaussian_blur(detail.square().mean(dim=1, keepdim=True), SIGMA, RADIUS).sqrt()
