"""Colors of one image given to another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .errors import ImageError
from .images import check_image


def match_colors(image: Tensor, reference: Tensor) -> Tensor:
    """Histogram matching, channel by channel: the image with the reference's distribution of values.

    The paper's last step of super-resolution, section 4.2: its networks have no path from the input's colors to the
    output's, so the output is matched to the low resolution input.

    image: (N, 3, H, W), reference: (N or 1, 3, h, w), both in [0, 1], of any sizes
    Returns (N, 3, H, W) in [0, 1] with image's dtype and device. Values are mapped by a monotone, continuous function,
    which is the identity when the histograms agree. Raises ImageError for bad input.
    """
    check_image(image)
    check_image(reference, name="reference")
    targets = reference.expand(len(image), -1, -1, -1) if len(reference) == 1 else reference
    if len(targets) != len(image):
        raise ImageError(f"expected one reference or {len(image)}, one for each image, got {len(targets)}")
    pixels, wanted = (each.detach().cpu().double().clamp(0, 1).numpy() for each in (image, targets))
    matched = [
        np.stack([_matched(plane, target) for plane, target in zip(*planes, strict=True)])
        for planes in zip(pixels, wanted, strict=True)
    ]
    return torch.from_numpy(np.stack(matched)).to(image)


def _matched(plane: np.ndarray, target: np.ndarray) -> np.ndarray:
    _, place, quantiles = _quantiles(plane)
    values, _, target_quantiles = _quantiles(target)
    return np.interp(quantiles, target_quantiles, values)[place].reshape(plane.shape)


def _quantiles(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different values, where each pixel's is among them, and the share of pixels below each value's middle one.

    With the share up to the last one instead, a finely graded image would become darker than a reference of 8 bits.
    """
    values, place, counts = np.unique(plane, return_inverse=True, return_counts=True)
    return values, place.reshape(-1), (2 * np.cumsum(counts) - counts) / (2 * plane.size)
