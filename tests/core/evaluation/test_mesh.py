"""The mesh measure: 1 for equal pictures, a peak where a mesh was added, and low values for smooth results."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.evaluation.mesh import BAND, SIDE, MeshMeter, mesh_peak
from perceptual_style.core.images.filters import gaussian_blur
from perceptual_style.core.images.tensors import quantize


@pytest.fixture
def texture(rng):
    """A picture with texture whose power falls with frequency, as in photos, (1, 3, 2 SIDE, 3 SIDE)."""
    noise = torch.randn(1, 1, 2 * SIDE, 3 * SIDE, generator=rng)
    coarse, fine = gaussian_blur(noise, 1.5), gaussian_blur(noise.flip(-1), 0.6)
    return quantize((0.5 + 0.5 * coarse + 0.06 * fine).clamp(0, 1)).expand(1, 3, -1, -1)


def mesh_of(picture: torch.Tensor, frequency: float, amplitude: float) -> torch.Tensor:
    """Return a mesh of waves in three directions of the same frequency (cycles per pixel), as a honeycomb has."""
    height, width = picture.shape[-2:]
    y, x = torch.arange(height)[:, None].double(), torch.arange(width).double()
    angles = (0.3 + turn * math.pi / 3 for turn in range(3))
    waves = (torch.cos(2 * math.pi * frequency * (y * math.sin(a) + x * math.cos(a))) for a in angles)
    return amplitude * sum(waves).float()


def test_equal_pictures_give_one(texture):
    assert mesh_peak(texture, texture).ratio == 1


@pytest.mark.parametrize("frequency", [0.18, 0.27, 0.34, 0.45])
def test_added_mesh_raises_peak_at_its_frequency(texture, frequency):
    faint, strong = (
        mesh_peak((texture + mesh_of(texture, frequency, amplitude)).clamp(0, 1), texture) for amplitude in (0.01, 0.03)
    )
    assert 1 < faint.ratio < strong.ratio and strong.ratio > 1.5
    assert strong.frequency == pytest.approx(frequency, abs=2 / SIDE), "5 frequencies are averaged"


def test_waves_coarser_than_the_band_hardly_count(texture):
    assert mesh_peak(texture + mesh_of(texture, BAND[0] / 2, 0.02), texture).ratio < 1.2


def test_smooth_results_stay_below_one(texture):
    assert mesh_peak(gaussian_blur(texture, 1.0), texture).ratio < 0.7


def test_peak_matches_a_spectrum_computed_with_numpy(texture):
    changed = quantize((texture + mesh_of(texture, 0.3, 0.02)).clamp(0, 1))
    meter = MeshMeter()
    meter.add(changed, texture)
    window = np.outer(*[np.hanning(SIDE)] * 2)
    crops = []
    for image in (changed, texture):
        y = np.round(16 + image[0].permute(1, 2, 0).double().numpy() @ np.array([65.481, 128.553, 24.966]))
        pieces = [y[i : i + SIDE, j : j + SIDE] for i in (0, SIDE) for j in (0, SIDE, 2 * SIDE)]
        spectra = [np.abs(np.fft.fft2((each - each.mean()) * window)) ** 2 / (window**2).sum() for each in pieces]
        crops.append(np.log(np.array(spectra) + 1 / 12))
    axis = np.fft.fftfreq(SIDE)
    band = (np.hypot(axis[:, None], axis) >= BAND[0]) & (np.hypot(axis[:, None], axis) <= BAND[1])
    chosen = np.argsort([-each[band].mean() for each in crops[1]])[:5]  # three quarters of six, rounded up
    mean = (crops[0] - crops[1])[chosen].mean(axis=0)
    ratios = np.exp(sum(np.roll(mean, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)) / 25)
    assert meter.crops == 5
    np.testing.assert_allclose(meter.spectrum().numpy(), ratios, rtol=1e-6)
    assert meter.peak().ratio == pytest.approx(ratios[band].max())


def test_pictures_are_averaged_and_small_ones_skipped(texture):
    meter = MeshMeter()
    meter.add(texture[..., : SIDE - 1], texture[..., : SIDE - 1])
    assert meter.crops == 0 and math.isnan(meter.peak().ratio)
    for picture in (texture, texture + mesh_of(texture, 0.3, 0.03)):
        meter.add(picture.clamp(0, 1), texture)
    alone = mesh_peak((texture + mesh_of(texture, 0.3, 0.03)).clamp(0, 1), texture)
    assert meter.peak().ratio == pytest.approx(alone.ratio**0.5), "the mean of logarithms"


def test_pictures_of_different_sizes_are_rejected(texture):
    with pytest.raises(InputError, match="two equal shapes"):
        mesh_peak(texture, texture[..., 1:])
