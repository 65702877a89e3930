"""Masks: fitting, feathering and softening."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perceptual_style.core.images.filters import gaussian_blur
from perceptual_style.core.images.masks import feathered, fit_mask, softened
from scipy.ndimage import gaussian_filter, minimum_filter


def test_gaussian_blur_equals_scipy(rng):
    image = torch.rand(2, 3, 31, 24, generator=rng)
    expected = gaussian_filter(image.double().numpy(), (0, 0, 2.5, 2.5), mode="nearest", truncate=8 / 2.5)
    torch.testing.assert_close(gaussian_blur(image, 2.5, 8), torch.from_numpy(expected).float())


@pytest.mark.parametrize("feather", [1, 2, 5, 16, 33])
def test_feathered_is_an_erosion_and_a_blur(feather, rng):
    mask = (torch.rand(1, 1, 50, 61, generator=rng) > 0.002).float()
    radius = int(np.ceil(feather / 2))
    eroded = minimum_filter(mask[0, 0].numpy(), 2 * radius + 1, mode="constant", cval=1)
    expected = gaussian_blur(torch.from_numpy(eroded)[None, None], feather / 4, radius)
    torch.testing.assert_close(feathered(mask, feather), expected)


@pytest.mark.parametrize("feather", [0, 3, 20])
def test_constant_masks_stay_constant(feather):
    for value in (0.0, 0.25, 1.0):
        mask = torch.full((1, 1, 20, 30), value)
        torch.testing.assert_close(feathered(mask, feather), mask)
        torch.testing.assert_close(softened(mask, feather), mask)


def test_straight_edge_fades_in_over_feather_pixels():
    mask = torch.zeros(1, 1, 8, 100)
    mask[..., 40:] = 1
    row = feathered(mask, 20)[0, 0, 4]
    assert (row[:40] == 0).all() and torch.allclose(row[60:], torch.ones(40)) and (row.diff() >= 0).all()
    assert 0.4 < row[49] < 0.6 and row[42] < 0.1
    row = softened(mask, 20)[0, 0, 4]
    assert (row[:30] == 0).all() and torch.allclose(row[50:], torch.ones(50)) and 0.4 < row[39] < 0.6


@pytest.mark.parametrize("feather", [0, 9])
def test_softened_masks_still_add_up_to_one(feather, rng):
    mask = torch.rand(1, 1, 30, 40, generator=rng).round()
    torch.testing.assert_close(softened(mask, feather) + softened(1 - mask, feather), torch.ones(1, 1, 30, 40))


def test_fit_mask_resizes_and_clamps_any_mask(rng):
    mask = torch.rand(2, 1, 12, 9, generator=rng)
    assert torch.equal(fit_mask(mask, 12, 9), mask)
    for size in ((30, 40), (5, 3), (1, 1)):
        fitted = fit_mask(mask, *size)
        assert fitted.shape == (2, 1, *size) and fitted.min() >= 0 and fitted.max() <= 1
    assert (fit_mask(torch.zeros(1, 1, 64, 64), 100, 37) == 0).all()
    assert torch.equal(fit_mask(torch.tensor([[[[-0.1, 1.1]]]]), 1, 2), torch.tensor([[[[0.0, 1.0]]]]))
