"""Transfer the colors of one image to another: all of them, their mean and covariance, or only the chroma."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import autocast
from ..errors import ImageError
from .reading import ImageFile
from .tensors import check_image, row_bands

_LUMA = (0.299, 0.587, 0.114)  # BT.601, as in JPEG files
_BINS = 1 << 16  # 8 and 16 bit files keep their values


def luma(image: Tensor) -> Tensor:
    """Return Y of YCbCr, (N, 1, H, W), for (N, 3, H, W) float. It has the image's own range and is not rounded."""
    red, green, blue = image.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def mask_of(image: ImageFile) -> Tensor:
    """Return the mask, (1, 1, H, W), that an image file holds: its alpha if parts of it are transparent, else its luma."""
    alpha = image.alpha
    if alpha is not None and bool((alpha != alpha[..., :1, :1]).any()):
        return alpha
    return luma(image.pixels)


def keep_colors(image: Tensor, photo: Tensor) -> Tensor:
    """Return the photo's colors with the image's brightness.

    Cb and Cr are exactly the photo's. Y is the image's as far as such a color exists. The photo's differences from its own
    Y are its chroma, and they leave a range for Y; a color as strong as pure red has only one Y.

    Args:
        image: (N, 3, H, W) float32 in [0, 1]
        photo: the same

    Returns:
        (N, 3, H, W) float32 in [0, 1]
    """
    result = torch.empty_like(photo)
    for rows in row_bands(*photo.shape[-2:]):
        part = photo[:, :, rows]
        chroma = part - luma(part)
        light = torch.maximum(luma(image[:, :, rows]), -chroma.amin(dim=1, keepdim=True))
        light = torch.minimum(light, 1 - chroma.amax(dim=1, keepdim=True))
        result[:, :, rows] = (chroma + light).clamp_(0, 1)
    return result


def match_palette(image: Tensor, reference: Tensor) -> Tensor:
    """Give an image the mean and the covariance of the reference's colors.

    This is the linear map that moves colors least (Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear colour
    mapping"): T = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 for the covariances A and B. `match_colors` works channel by channel.
    It fits histograms better, but makes colors that neither picture has.

    Args:
        image: (N, 3, H, W) float32 in [0, 1]
        reference: (N, 3, h, w) float32 in [0, 1]

    Returns:
        (N, 3, H, W) float32, clamped to [0, 1]
    """
    result = torch.empty_like(image)
    for target, one, other in zip(result, image, reference, strict=True):
        (mean, covariance), (wanted_mean, wanted) = _moments(one), _moments(other)
        root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
        matrix = (inverse @ _power(root @ wanted @ root, 0.5) @ inverse).to(image)
        shift = (wanted_mean - matrix.cpu().double() @ mean).to(image)
        for rows in row_bands(*image.shape[-2:]):
            band = one[:, rows].flatten(1)
            with autocast(image.device, None):  # which would round to half precision
                colors = torch.addmm(shift[:, None], matrix, band)
            target[:, rows] = colors.view_as(target[:, rows]).clamp_(0, 1)
    return result


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (3) and covariance (3, 3) of the colors of (3, H, W), float64 on the CPU."""
    count = image[0].numel()
    total, products = (torch.zeros(size, dtype=torch.float64, device="cpu") for size in ((3,), (3, 3)))
    for rows in row_bands(*image.shape[-2:]):
        band = image[:, rows].flatten(1).cpu().double()
        total += band.sum(dim=1)
        products += band @ band.T
    mean = total / count
    return mean, products / count - mean[:, None] * mean


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric matrix whose eigenvalues are negative only by rounding; they count as 1e-6 at least."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(1e-6) ** exponent) @ vectors.T


def match_colors(image: Tensor, reference: Tensor) -> Tensor:
    """Give an image the reference's distribution of values, channel by channel (histogram matching).

    This is the paper's last step of super-resolution, section 4.2. Its networks have no path from the input's colors to
    the output's, so the output is matched to the low resolution input.

    Args:
        image: (N, 3, H, W) in [0, 1]
        reference: (N or 1, 3, h, w) in [0, 1], of any size

    Returns:
        (N, 3, H, W) in [0, 1] with image's dtype and device. The function that maps the values is monotone and continuous
        to 1/65,535. It is the identity if the histograms agree.

    Raises:
        ImageError: the input is no image, or there is neither one reference nor one for each image.
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
    """Shift each value as its bin is shifted, so that a value whose bin stays keeps all its bits."""
    bins = _bins(plane)
    levels, quantiles = _quantiles(bins)
    target_levels, target_quantiles = _quantiles(_bins(target))
    shifts = np.zeros(_BINS)
    shifts[levels] = (np.interp(quantiles, target_quantiles, target_levels) - levels) / (_BINS - 1)
    return (plane.clamp(0, 1) + torch.from_numpy(shifts).to(plane)[bins]).clamp_(0, 1)


def _bins(plane: Tensor) -> Tensor:
    return (plane.float().clamp(0, 1) * (_BINS - 1)).round_().int()


def _quantiles(bins: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The bins that are not empty, and for each the share of pixels below it plus half its own.

    With all of its own instead, a finely graded image would become darker than an 8 bit reference.
    """
    counts = torch.bincount(bins.flatten(), minlength=_BINS).cpu().numpy()
    levels = counts.nonzero()[0]
    below = np.cumsum(counts[levels]) - counts[levels] / 2
    return levels, below / bins.numel()
