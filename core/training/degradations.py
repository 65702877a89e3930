"""Low resolution crops that look like real photos: blurred, noisy, sharpened, saved as JPEG, and reduced, once or twice.

The order follows Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833, section 3): blur, resize, noise, JPEG, and all of it again.
The ranges are narrower, for networks that are small and must leave good photos alone. More than half of the crops are damaged
only once, at their own size, as most photos are, and some are only reduced.
Everything depends on the given generator, so that a resumed run is exact.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..images.filters import sharpened
from ..images.resample import degrade

Range = tuple[float, float]
_LARGEST_RADIUS = 14  # px of a blur kernel
_SMALLEST_SIDE = 8  # px to which an image is reduced on the way


@dataclass(frozen=True)
class Stage:
    """Ranges of one round of damage. Shares are of the crops, 0 to 1.

    Attributes:
        blur: share that is blurred.
        sigma: deviations of the blur along its two axes. In the first stage px of the photo, for a factor of 4; the upper
            end is less for smaller factors. In the second stage px of the result: many photos are soft at their own size.
        gaussian: deviation of Gaussian noise, 255ths.
        poisson: strength of Poisson noise; 1 is the noise of a sensor that counts 255 photons in white.
        jpeg: share that is saved as JPEG.
        quality: quality of the JPEG file.
    """

    blur: float
    sigma: Range
    gaussian: Range
    poisson: Range
    jpeg: float
    quality: Range


#: Changed numbers need a new name of the degradation: a run is identified by the name.
STAGES = (
    Stage(blur=0.9, sigma=(0.2, 2.4), gaussian=(0, 14), poisson=(0.05, 2.0), jpeg=0.7, quality=(35, 95)),
    Stage(blur=0.6, sigma=(0.2, 1.2), gaussian=(0, 10), poisson=(0.05, 1.5), jpeg=0.85, quality=(30, 95)),
)
#: The damage of a photo that was reduced, and saved once.
ONCE = Stage(blur=0.75, sigma=(0.2, 1.3), gaussian=(0, 16), poisson=(0.05, 2.0), jpeg=0.9, quality=(25, 95))
_CLEAN = 0.05  # share that is only reduced bicubically: good photos must stay good
_DAMAGED_ONCE = 0.6
_BICUBIC = 0.4  # share of the crops damaged once that are reduced bicubically in any case
_NOISY = 0.8  # share with noise, in each stage
_GREY = 0.4  # share of the noise that is equal in all channels
_ANISOTROPIC, _GENERALIZED = 0.35, 0.2  # shares of the kernels
_SHARPENED = 0.2  # share that is sharpened, as cameras and phones do
_RESIZES = ("area", "bilinear", "bicubic", "aliased")


def damaged(photo: Tensor, factor: int, random: np.random.Generator) -> Tensor:
    """Return a crop of a photo as a camera and one or two websites would have left it.

    Args:
        photo: (3, H, W) uint8, with H and W multiples of factor.
        factor: HR side over LR side; 1 only damages.
        random: generator of everything.

    Returns:
        (3, H / factor, W / factor) uint8.
    """
    image = photo[None].float() / 255
    if random.random() < _CLEAN:
        return _bytes(degrade(image, factor))
    height, width = (side // factor for side in photo.shape[-2:])
    if random.random() < _DAMAGED_ONCE:
        kind = "bicubic" if random.random() < _BICUBIC else _kind(random)
        image = degrade(image, factor) if kind == "bicubic" else resized(image, height, width, kind)
        image = _noisy(_blurred(image, ONCE, 1.0, random), ONCE, random)
        return _bytes(_compressed(_sharpened(image, random), ONCE, random))
    first, second = STAGES
    # The first size lies between those of the photo and of the result, the second near the result's.
    between = factor ** -random.uniform(0, 1) * random.uniform(0.7, 1.2)
    image = _blurred(image, first, min(factor, 4) / 4, random)
    scale = factor * between
    image = resized(image, round(height * scale), round(width * scale), _kind(random))
    image = _compressed(_noisy(image, first, random), first, random)
    image = _blurred(image, second, scale, random)
    near = random.uniform(0.6, 1.2)
    image = _noisy(resized(image, round(height * near), round(width * near), _kind(random)), second, random)
    last: list[Callable[[Tensor], Tensor]] = [
        lambda x: _sharpened(resized(x, height, width, _kind(random)), random),
        lambda x: _compressed(x, second, random),
    ]
    for step in last if random.random() < 0.5 else reversed(last):
        image = step(image)
    return _bytes(image)


def _bytes(image: Tensor) -> Tensor:
    return image[0].clamp(0, 1).mul(255).round().byte()


def _kind(random: np.random.Generator) -> str:
    return _RESIZES[int(random.integers(len(_RESIZES)))]


def resized(image: Tensor, height: int, width: int, kind: str) -> Tensor:
    """Resize (N, C, H, W) as programs do: by area, bilinear or bicubic (antialiased), or bilinear with aliasing."""
    size = (max(height, _SMALLEST_SIDE), max(width, _SMALLEST_SIDE))
    if image.shape[-2:] == size:
        return image
    if kind == "area":
        return F.interpolate(image, size, mode="area")
    mode = "bicubic" if kind == "bicubic" else "bilinear"
    return F.interpolate(image, size, mode=mode, antialias=kind != "aliased").clamp(0, 1)


def blur_kernel(sigma: Range, angle: float = 0.0, shape: float = 1.0) -> Tensor:
    """Return the kernel of a generalized Gaussian blur, (k, k), whose sum is 1.

    Args:
        sigma: deviations along the kernel's axes, px.
        angle: angle of the first axis, radians.
        shape: 1 for a Gaussian; below 1 it is more pointed, above 1 flatter (Real-ESRGAN's equation 3).
    """
    radius = min(_LARGEST_RADIUS, math.ceil(3 * max(sigma)))
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")] * 2, indexing="ij")
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-0.5 * ((along / sigma[0]).square() + (across / sigma[1]).square()) ** shape)
    return (kernel / kernel.sum()).float()


def _blurred(image: Tensor, stage: Stage, unit: float, random: np.random.Generator) -> Tensor:
    """Return the image after the blur of a stage, whose upper end is in ``unit`` px."""
    if random.random() >= stage.blur:
        return image
    low, high = stage.sigma
    one, other = random.uniform(low, low + (high - low) * unit, 2)
    kernel = blur_kernel(
        (one, other if random.random() < _ANISOTROPIC else one),
        random.uniform(0, math.pi),
        random.uniform(0.5, 3) if random.random() < _GENERALIZED else 1.0,
    )
    radius = kernel.shape[-1] // 2
    padded = F.pad(image, (radius,) * 4, mode="replicate").transpose(0, 1)
    return F.conv2d(padded, kernel[None, None]).transpose(0, 1)


def _noisy(image: Tensor, stage: Stage, random: np.random.Generator) -> Tensor:
    if random.random() >= _NOISY:
        return image
    grey = random.random() < _GREY
    like = image.mean(dim=1, keepdim=True) if grey else image
    if random.random() < 0.5:
        noise = random.standard_normal(like.shape, np.float32) * np.float32(random.uniform(*stage.gaussian) / 255)
    else:
        counts = like.clamp(0, 1).mul(255).double().numpy()
        noise = ((random.poisson(counts) - counts) / 255 * random.uniform(*stage.poisson)).astype(np.float32)
    return (image + torch.from_numpy(noise)).clamp(0, 1)


def _sharpened(image: Tensor, random: np.random.Generator) -> Tensor:
    """Return the image after an unsharp mask, with its halos, or unchanged."""
    share, sigma, amount = random.random(), random.uniform(0.6, 1.5), random.uniform(0.3, 1.2)
    if share >= _SHARPENED:
        return image
    return sharpened(image, amount, sigma)


def _compressed(image: Tensor, stage: Stage, random: np.random.Generator) -> Tensor:
    share, quality, halved = random.random(), round(random.uniform(*stage.quality)), random.random() < 0.7
    if share >= stage.jpeg:
        return image
    file = io.BytesIO()
    pixels = Image.fromarray(_bytes(image).permute(1, 2, 0).numpy())
    # most cameras save colors at half the size
    pixels.save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255
