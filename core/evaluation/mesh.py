"""A measure of the meshes that upscalers weave into texture: power spectra of result and original.

A mesh that covers brick, fur or foliage hardly changes PSNR, and feature distances reward it. But it repeats, so it shows as a
peak in the ratio of power spectra. The logarithm of the power is averaged over textured crops of many pictures: what differs from
crop to crop averages out, and what the upscaler adds everywhere remains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..losses.functional import windowed
from ..losses.metrics import y_channel

SIDE = 128  # px of the crops: in smaller ones, the spectrum is too coarse to show a mesh
BAND = (0.14, 0.48)  # cycles per pixel: coarser is content, and finer hardly visible
_SMOOTHING = 5  # frequencies along each axis that are averaged
_SHARE = 0.75  # of a picture's crops, those with the most texture: flat ones hold noise
_ROUNDING = 1 / 12  # power of rounding to whole numbers, a floor: in black areas both pictures have none


@dataclass(frozen=True)
class Peak:
    """The largest ratio of the power of results to the power of the originals.

    Attributes:
        ratio: 1 if both have the same power. Upscalers that add no detail stay below 1. nan if there were no crops.
        frequency: Where it is, cycles per pixel.
    """

    ratio: float
    frequency: float


@dataclass
class MeshMeter:
    """The mean logarithm of the ratio of power spectra, over the textured crops of all pictures added so far.

    Attributes:
        total: Sum over crops, (SIDE, SIDE) float64 in the order of `torch.fft.fft2`.
        crops: Number of crops.
    """

    total: Tensor = field(default_factory=lambda: torch.zeros(SIDE, SIDE, dtype=torch.float64, device="cpu"))
    crops: int = 0

    def add(self, result: Tensor, original: Tensor) -> None:
        """Add a picture, the result beside its original, (1, 3, H, W) in [0, 1]. Pictures below 128 px have no crops.

        Raises:
            InputError: The sizes differ.
        """
        if result.shape != original.shape:
            raise InputError(
                f"expected two equal shapes to compare, got {tuple(result.shape)}, {tuple(original.shape)}"
            )
        ours, theirs = (_log_power(y_channel(image)) for image in (result, original))
        textured = theirs[:, _in_band()].mean(dim=1).argsort(descending=True, stable=True)
        chosen = textured[: math.ceil(_SHARE * len(textured))]
        self.total += (ours[chosen] - theirs[chosen]).sum(dim=0)
        self.crops += len(chosen)

    def spectrum(self) -> Tensor:
        """Return the ratio of power at each frequency, smoothed, (SIDE, SIDE); nan if there were no crops."""
        mean, edge = self.total / (self.crops or math.nan), _SMOOTHING // 2
        around = F.pad(mean[None, None], (edge,) * 4, mode="circular")  # spectra are periodic
        return F.avg_pool2d(around, _SMOOTHING, stride=1)[0, 0].exp()

    def peak(self) -> Peak:
        """Return the largest ratio in BAND."""
        ratios = self.spectrum().where(_in_band(), 0.0)
        place = int(ratios.argmax())
        return Peak(float(ratios.flatten()[place]), float(_frequencies().flatten()[place]))


def mesh_peak(result: Tensor, original: Tensor) -> Peak:
    """Return the peak for a single picture, (1, 3, H, W) in [0, 1], and its original; see `MeshMeter`."""
    meter = MeshMeter()
    meter.add(result, original)
    return meter.peak()


def _log_power(y: Tensor) -> Tensor:
    """Return the logarithm of the power spectra of a picture's crops, (crops, SIDE, SIDE), from Y (1, 1, H, W)."""
    crops = y[0, 0].unfold(0, SIDE, SIDE).unfold(1, SIDE, SIDE).flatten(0, 1) if min(y.shape[-2:]) >= SIDE else None
    if crops is None:
        return y.new_empty(0, SIDE, SIDE)
    return (torch.fft.fft2(windowed(crops)).abs().square() + _ROUNDING).log()


def _frequencies() -> Tensor:
    axis = torch.fft.fftfreq(SIDE, dtype=torch.float64, device="cpu")
    return (axis[:, None].square() + axis.square()).sqrt()


def _in_band() -> Tensor:
    frequencies = _frequencies()
    return (frequencies >= BAND[0]) & (frequencies <= BAND[1])
