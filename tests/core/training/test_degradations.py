"""Damage as real photos have it: repeatable, of the right size, in place, and with every kind of fault."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from perceptual_style.core.images.resample import bicubic_resize, degrade
from perceptual_style.core.training import degradations
from perceptual_style.core.training.degradations import STAGES, blur_kernel, damaged, resized
from scipy.ndimage import gaussian_filter


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Soft color patches, (3, 96, 128) uint8."""
    patches = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(4))
    return bicubic_resize(patches, 16).clamp(0, 1)[0].mul(255).round().byte()


def only(monkeypatch, **numbers) -> None:
    """Leave a single kind of damage: all others are off, and sizes change in one step."""
    off = {"blur": 0.0, "gaussian": (0.0, 0.0), "poisson": (0.0, 0.0), "jpeg": 0.0}
    stage = dataclasses.replace(STAGES[1], **{**off, **numbers})
    monkeypatch.setattr(degradations, "STAGES", (dataclasses.replace(STAGES[0], **off), stage))
    monkeypatch.setattr(degradations, "ONCE", stage)
    monkeypatch.setattr(degradations, "_CLEAN", 0.0)
    monkeypatch.setattr(degradations, "_SHARPENED", 0.0)


def many(photo, factor: int, count: int = 24) -> torch.Tensor:
    return torch.stack([damaged(photo, factor, np.random.default_rng([1, n])) for n in range(count)])


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_damage_depends_only_on_the_generator(photo, factor):
    one, same, other = (damaged(photo, factor, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.dtype == torch.uint8 and one.shape == (3, 96 // factor, 128 // factor)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_some_crops_are_only_reduced(photo):
    clean = degrade(photo[None, :, :32, :32].float() / 255, 4).mul(255).round().byte()[0]
    share = sum(bool((low == clean).all()) for low in many(photo[:, :32, :32], 4, 100)) / 100
    assert 0.01 < share < 0.15, "a twentieth"


def test_more_than_half_of_the_crops_are_damaged_once(photo, monkeypatch):
    grey = torch.full_like(photo, 128)[:, :32, :32]
    only(monkeypatch)
    noisy = dataclasses.replace(degradations.STAGES[0], gaussian=(60.0, 60.0), poisson=(4.0, 4.0))
    monkeypatch.setattr(degradations, "STAGES", (noisy, degradations.STAGES[1]))
    monkeypatch.setattr(degradations, "_NOISY", 1.0)
    twice = sum(low.float().std() > 5 for low in many(grey, 4, 100)) / 100
    assert 0.25 < twice < 0.5


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_damaged_crops_stay_in_place(photo, factor):
    """On average over many, damage neither moves nor colors the picture."""
    mean = many(photo, factor, 60).float().mean(dim=0)
    clean = degrade(photo[None].float() / 255, factor)[0] * 255

    def distance(down: int, right: int) -> float:
        inner = (slice(None), slice(3, -3), slice(3, -3))
        return float((mean.roll((down, right), (1, 2)) - clean)[inner].square().mean())

    assert min((distance(y, x), y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))[1:] == (0, 0)
    assert (mean - clean).mean(dim=(1, 2)).abs().max() < 2.5


def test_noise_has_the_strength_of_the_stage(photo, monkeypatch):
    grey = torch.full_like(photo, 128)
    monkeypatch.setattr(degradations, "_NOISY", 1.0)
    only(monkeypatch, gaussian=(8.0, 8.0), poisson=(1.0, 1.0))
    found = [(low.float() - 128) for low in many(grey, 4)]
    for noise in found:  # what comes after may blur it
        assert 2 < noise.std() < 13 and abs(noise.mean()) < 2
    colored = [bool((noise[0] != noise[1]).any()) for noise in found]
    assert 0 < sum(colored) < len(colored), "some noise is grey"


def test_jpeg_keeps_flat_areas_and_makes_blocks(photo, monkeypatch):
    only(monkeypatch, jpeg=1.0, quality=(10, 10))
    monkeypatch.setattr(degradations, "_NOISY", 0.0)
    assert (many(torch.full_like(photo, 77), 4, 6).float() - 77).abs().max() <= 1
    coarse = many(photo, 1, 6).float()
    only(monkeypatch, jpeg=1.0, quality=(95, 95))
    fine = many(photo, 1, 6).float()
    assert (fine - photo).abs().mean() < (coarse - photo).abs().mean()


def edge_width(lows: torch.Tensor) -> float:
    """Return the mean deviation of vertical edges, in px: the spread of the slope along a row."""
    slope = lows.float().mean(dim=1)[:, 4:-4].diff(dim=-1).abs().mean(dim=1)
    x = torch.arange(slope.shape[-1], dtype=torch.float32)
    mean = (slope * x).sum(1, keepdim=True) / slope.sum(1, keepdim=True)
    return float(((slope * (x - mean) ** 2).sum(1) / slope.sum(1)).sqrt().mean())


@pytest.mark.parametrize("factor", [2, 4])
def test_second_blur_is_in_px_of_the_result(monkeypatch, factor):
    """Whatever the factor, photos are soft at their own size."""
    edge = torch.zeros(3, 24 * factor, 32 * factor, dtype=torch.uint8)
    edge[..., 16 * factor :] = 200
    monkeypatch.setattr(degradations, "_NOISY", 0.0)
    only(monkeypatch)
    sharp = edge_width(many(edge, factor, 60))
    only(monkeypatch, blur=1.0, sigma=(0.0, 1.8))
    soft = edge_width(many(edge, factor, 60))
    added = (soft**2 - sharp**2) ** 0.5  # widths of blurs add up as squares
    assert 0.7 < added < 1.4, "uniform from 0 to 1.8 px is 1.04 px, root mean square"


def test_gaussian_kernel_equals_scipy():
    picture = np.random.default_rng(0).random((41, 41))
    kernel = blur_kernel((2.0, 1.2)).double().numpy()  # the first axis is horizontal
    ours = sum(
        kernel[i, j] * np.roll(picture, (i - kernel.shape[0] // 2, j - kernel.shape[1] // 2), (0, 1))
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    expected = gaussian_filter(picture, (1.2, 2.0), mode="wrap", radius=(6, 6))
    np.testing.assert_allclose(ours, expected, atol=3e-4)


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_kernels_are_normalized_and_turn(shape):
    kernel, turned = blur_kernel((2.0, 0.7), 0.0, shape), blur_kernel((2.0, 0.7), np.pi / 2, shape)
    assert float(kernel.sum()) == pytest.approx(1) and kernel.min() >= 0
    torch.testing.assert_close(kernel.T, turned)
    assert not torch.allclose(kernel, turned)


@pytest.mark.parametrize("kind", degradations._RESIZES)
def test_every_way_to_resize_keeps_ramps_and_size(kind):
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    small = resized(ramp, 16, 16, kind)
    assert small.shape == (1, 3, 16, 16)
    expected = torch.linspace(0.2, 0.8, 64).view(16, 4).mean(dim=1).expand(16, 16)
    assert (small[0, 0] - expected)[:, 1:-1].abs().max() < 0.01
    assert resized(ramp, 64, 64, kind) is ramp
    assert resized(ramp, 3, 2, kind).shape == (1, 3, 8, 8), "JPEG and kernels need a few pixels"
