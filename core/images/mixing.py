"""Two pictures of the same thing blended into one: a photo and its painting, or the paintings of two styles.

A plain average of two textures that have nothing to do with each other has less contrast than either and looks like a
haze. Here the local contrast is kept between that of the two. Blending inside of the network was looked at as well: with
its residual blocks faded the colors change before the strokes, with its norms faded there is no picture at all, and no
amount of either gives the photo.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .filters import gaussian_blur
from .tensors import row_bands

_SIGMA, _RADIUS = 4.0, 12  # px; contrast is local: about the size of a stroke
_MOST = 2.0  # by which contrast is raised, where two opposite edges cancel out
_LEAST = 1e-3  # contrast that counts as none


def mix(first: Tensor, second: Tensor, amount: float) -> Tensor:
    """Blend images (N, 3, H, W) float32 in [0, 1]; amount 0 gives the first, 1 the second, exactly.

    The local mean is the blend of the two means, and so is the local contrast. Works on bands of rows.
    """
    if amount in (0, 1):
        return second if amount else first
    result, height = torch.empty_like(first), first.shape[2]
    for rows in row_bands(height, first.shape[3], least=8 * _RADIUS):
        low, high = max(rows.start - 2 * _RADIUS, 0), min(rows.stop + 2 * _RADIUS, height)
        band = _mixed(first[:, :, low:high], second[:, :, low:high], amount)
        result[:, :, rows] = band[:, :, rows.start - low : rows.stop - low]
    return result


def _mixed(first: Tensor, second: Tensor, amount: float) -> Tensor:
    plain = first.lerp(second, amount)
    means = [gaussian_blur(each, _SIGMA, _RADIUS) for each in (first, second)]
    mean = means[0].lerp(means[1], amount)
    there = _contrast(plain - mean)
    wanted = _contrast(first - means[0]).lerp(_contrast(second - means[1]), amount)
    gain = (wanted / there.clamp_min(_LEAST)).clamp(1, _MOST)
    return torch.addcmul(mean, gain, plain - mean).clamp_(0, 1)


def _contrast(detail: Tensor) -> Tensor:
    """Root mean square around each pixel, one value for all channels: (N, 1, H, W)."""
    return gaussian_blur(detail.square().mean(dim=1, keepdim=True), _SIGMA, _RADIUS).sqrt()
