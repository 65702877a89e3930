"""Bicubic resizing like MATLAB's ``imresize``, and the low resolution images of super-resolution made with it.

Resizing is linear and separable: one small matrix for each axis, computed once in float64. A blur before it is another
matrix. The two are multiplied beforehand, so the blur costs nothing.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import autocast
from ..errors import InputError
from .bicubic import cubic
from .tensors import quantize

DEGRADATIONS = ("bicubic", "blur")
_BLUR_SIGMA = 1.0  # paper, section 4.2
_BLUR_RADIUS = 4  # SciPy's default: the Gaussian is cut at 4 sigma, where it has fallen to 0.03 %


def bicubic_resize(
    image: Tensor, scale: float | tuple[float, float] | None = None, size: tuple[int, int] | None = None
) -> Tensor:
    """Resize images like MATLAB's ``imresize(image, scale)`` or ``imresize(image, size)``.

    The kernel is Keys' cubic one with a = -0.5, widened for reduction (antialiasing). Edges are mirrored, with the edge
    pixel repeated.

    Args:
        image: (N, C, H, W) float of any range
        scale: one factor, or (vertical, horizontal)
        size: (H, W) of the result

    Returns:
        (N, C, ceil(H * scale), ceil(W * scale)) or (N, C, *size), with image's dtype. Values may exceed the image's range.

    Raises:
        InputError: not exactly one of scale and size is given, or it is not positive.
    """
    height, width = image.shape[-2:]
    if size is None and scale is not None:
        scales = scale if isinstance(scale, tuple) else (scale, scale)
        size = (math.ceil(height * float(scales[0])), math.ceil(width * float(scales[1])))
    elif size is not None and scale is None:
        scales = (size[0] / height, size[1] / width)
    else:
        raise InputError("give bicubic_resize either a scale or a size")
    if min(*size, *scales) <= 0:
        raise InputError(f"cannot resize {width}x{height} px by {scales} to {size[1]}x{size[0]} px")
    rows, columns = _resizing(height, size[0], float(scales[0])), _resizing(width, size[1], float(scales[1]))
    return _apply(image, rows, columns)


def crop_to_multiple(image: Tensor, factor: int) -> Tensor:
    """Crop the rows at the bottom and the columns at the right that exceed a multiple of ``factor``."""
    height, width = (side - side % factor for side in image.shape[-2:])
    return image[..., :height, :width]


def degrade(hr: Tensor, factor: int, kind: str = "bicubic") -> Tensor:
    """Return the low resolution images that an upscaler by ``factor`` has to invert.

    Args:
        hr: (N, C, H, W) in [0, 1], with H and W multiples of factor
        factor: by which the images are reduced
        kind: bicubic: bicubic reduction, as in the published test protocol | blur: the same after a Gaussian blur of
            sigma 1, as in the paper's training (section 4.2)

    Returns:
        (N, C, H / factor, W / factor) in [0, 1], rounded to 8 bits as in an image file.

    Raises:
        InputError: the kind is unknown, or the size is no multiple of factor (see `crop_to_multiple`).
    """
    if kind not in DEGRADATIONS:
        raise InputError(f"the degradation is {kind!r}; expected one of {', '.join(DEGRADATIONS)}")
    height, width = hr.shape[-2:]
    if factor < 1 or height % factor or width % factor or not height or not width:
        raise InputError(f"an image of {width}x{height} px cannot be reduced by {factor}; crop it to a multiple")
    rows, columns = (_reducing(side, factor, kind) for side in (height, width))
    return quantize(_apply(hr, rows, columns))


def _apply(image: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Compute rows @ image @ columns^T, in float32 at least. The axis that shrinks most comes first."""
    dtype = torch.promote_types(image.dtype, torch.float32)
    with autocast(image.device, None):  # which would compute in half precision
        down, across = (torch.from_numpy(matrix).to(image.device, dtype) for matrix in (rows, columns))
        out = image.to(dtype)
        if rows.shape[0] * columns.shape[1] <= rows.shape[1] * columns.shape[0]:
            out = (down @ out) @ across.T
        else:
            out = down @ (out @ across.T)
    return out.to(image.dtype)


@functools.lru_cache(maxsize=16)
def _resizing(length: int, new: int, scale: float) -> np.ndarray:
    """The matrix (new, length) that resizes one axis: MATLAB's ``contributions``."""
    stretch = max(1.0, 1.0 / scale)
    centers = (np.arange(new) + 0.5) / scale - 0.5
    taps = math.ceil(4 * stretch) + 2
    positions = np.floor(centers - 2 * stretch).astype(int)[:, None] + np.arange(taps)
    weights = cubic(torch.from_numpy((centers[:, None] - positions) / stretch)).numpy()
    return _gathered(positions, weights / weights.sum(axis=1, keepdims=True), length)


@functools.lru_cache(maxsize=16)
def _reducing(length: int, factor: int, kind: str) -> np.ndarray:
    """The matrix (length / factor, length) that degrades one axis."""
    matrix = _resizing(length, length // factor, 1 / factor)
    return matrix @ _blurring(length) if kind == "blur" else matrix


def _blurring(length: int) -> np.ndarray:
    """The matrix (length, length) that blurs one axis with a Gaussian."""
    offsets = np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _BLUR_SIGMA) ** 2)
    positions = np.arange(length)[:, None] + offsets
    return _gathered(positions, np.broadcast_to(weights / weights.sum(), positions.shape), length)


def _gathered(positions: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """The matrix whose row i sums weights[i, k] * x[positions[i, k]] over k, with x mirrored beyond its edges."""
    inside = positions % (2 * length)
    inside = np.where(inside < length, inside, 2 * length - 1 - inside)
    matrix = np.zeros((len(positions), length))
    np.add.at(matrix, (np.arange(len(positions))[:, None], inside), weights)
    return matrix
