"""Colors of one image given to another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .errors import ImageError
from .images import check_image

_BINS = 1 << 16  # 8 and 16 bit files keep their values


def match_colors(image: Tensor, reference: Tensor) -> Tensor:
    """Histogram matching, channel by channel: the image with the reference's distribution of values.

    The paper's last step of super-resolution, section 4.2: its networks have no path from the input's colors to the
    output's, so the output is matched to the low resolution input.

    image: (N, 3, H, W), reference: (N or 1, 3, h, w), both in [0, 1], of any sizes
    Returns (N, 3, H, W) in [0, 1] with image's dtype and device. Values are mapped by a function that is
    monotone and continuous to 1/65,535, and the identity when the histograms agree. Raises ImageError for bad input.
    """
    check_image(image)
    check_image(reference, name="reference")
    targets = reference.expand(len(image), -1, -1, -1) if len(reference) == 1 else reference
    if len(targets) != len(image):
        raise ImageError(f"expected one reference or {len(image)}, one for each image, got {len(targets)}")
    result = torch.empty_like(image, memory_format=torch.contiguous_format)
    for planes in zip(result.flatten(0, 1), image.flatten(0, 1), targets.flatten(0, 1), strict=True):
        target, plane, wanted = planes
        target.copy_(_matched(plane, wanted))
    return result


def _matched(plane: Tensor, target: Tensor) -> Tensor:
    """Values are moved by what their bin is moved by: where nothing is to be done, bits stay."""
    bins = _bins(plane)
    levels, quantiles = _quantiles(bins)
    target_levels, target_quantiles = _quantiles(_bins(target))
    shifts = np.zeros(_BINS)
    shifts[levels] = (np.interp(quantiles, target_quantiles, target_levels) - levels) / (_BINS - 1)
    return (plane.clamp(0, 1) + torch.from_numpy(shifts).to(plane)[bins]).clamp_(0, 1)


def _bins(plane: Tensor) -> Tensor:
    return (plane.double().clamp(0, 1) * (_BINS - 1)).round_().int()


def _quantiles(bins: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The bins that are not empty, and the share of pixels below the middle one of each.

    With the share up to the last one instead, a finely graded image would become darker than a reference of 8 bits.
    """
    counts = torch.bincount(bins.flatten(), minlength=_BINS).cpu().numpy()
    levels = counts.nonzero()[0]
    below = np.cumsum(counts[levels]) - counts[levels] / 2
    return levels, below / bins.numel()
