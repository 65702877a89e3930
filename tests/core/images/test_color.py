"""Color transfer: histogram matching against scikit-image, kept colors, and matched palettes."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.errors import ImageError
from perceptual_style.core.images.color import keep_colors, luma, match_colors, match_palette
from perceptual_style.core.images.tensors import quantize
from skimage.exposure import match_histograms


def test_image_with_the_references_histogram_is_unchanged(rng):
    image = torch.rand(2, 3, 12, 15, generator=rng)
    assert torch.equal(match_colors(image, image), image)
    shuffled = image.flatten(2)[..., torch.randperm(180, generator=rng)].view(2, 3, 15, 12)
    assert torch.equal(match_colors(image, shuffled), image)
    enlarged = image.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(match_colors(enlarged, image), enlarged)


def test_match_colors_undoes_monotone_changes(rng):
    image = torch.rand(1, 3, 20, 20, generator=rng, dtype=torch.float64)
    changed = torch.stack([image[0, 0].sqrt(), 0.2 + 0.5 * image[0, 1], image[0, 2] ** 1.5])[None]
    torch.testing.assert_close(match_colors(changed, image), image, rtol=0, atol=2e-3)  # bins are wide near 0


def test_finely_graded_image_gets_the_mean_of_an_8_bit_reference(rng):
    reference = quantize(0.4 + 0.02 * torch.randn(1, 3, 30, 30, generator=rng))  # few levels
    matched = match_colors(torch.rand(1, 3, 120, 120, generator=rng), reference)
    torch.testing.assert_close(matched.mean((2, 3)), reference.mean((2, 3)), rtol=0, atol=1e-4)
    assert matched.unique().numel() > 10 * reference.unique().numel()  # no steps


def test_match_colors_equals_scikit_image_without_equal_values(rng):
    image = torch.rand(1, 3, 64, 48, generator=rng) ** 2  # hardly two equal values
    reference = torch.rand(1, 3, 60, 80, generator=rng) * 0.7 + 0.1
    arrays = (each[0].permute(1, 2, 0).numpy() for each in (image, reference))
    expected = torch.from_numpy(match_histograms(*arrays, channel_axis=-1)).permute(2, 0, 1)[None].float()
    gap = float(reference.flatten(2).sort().values.diff().max())  # largest gap between values of the reference
    torch.testing.assert_close(match_colors(image, reference), expected, rtol=0, atol=2 * gap)
    assert gap < 0.002


def test_match_colors_keeps_order_and_equal_values(rng):
    image, reference = torch.rand(1, 3, 25, 30, generator=rng), torch.rand(1, 3, 9, 7, generator=rng)
    image[..., :10] = quantize(image[..., :10] / 20)
    matched = match_colors(image, reference)
    for before, after in zip(image[0].flatten(1), matched[0].flatten(1), strict=True):
        order = before.argsort()
        assert (after[order].diff() >= -2 / 65535).all() and (after[order].diff()[before[order].diff() == 0] == 0).all()


def test_channels_and_images_are_matched_separately(rng):
    image, reference = torch.rand(2, 3, 8, 9, generator=rng), torch.rand(2, 3, 5, 4, generator=rng)
    matched = match_colors(image, reference)
    assert matched.dtype == image.dtype and matched.shape == image.shape
    for n in range(2):
        assert torch.equal(matched[n : n + 1], match_colors(image[n : n + 1], reference[n : n + 1]))
    assert torch.equal(match_colors(image, reference[:1])[1:], match_colors(image[1:], reference[:1]))


def test_single_color_reference_gives_that_color(rng):
    matched = match_colors(torch.rand(1, 3, 8, 8, generator=rng), torch.full((1, 3, 1, 1), 0.25))
    torch.testing.assert_close(matched, torch.full((1, 3, 8, 8), 0.25), rtol=0, atol=1 / 65535)


def test_match_colors_rejects_bad_input(rng):
    image = torch.rand(3, 3, 8, 8, generator=rng)
    with pytest.raises(ImageError, match="expected one reference or 3"):
        match_colors(image, image[:2])
    with pytest.raises(ImageError, match="reference: expected a float tensor"):
        match_colors(image, image * 255)


def test_keep_colors_combines_the_photos_chroma_and_the_images_luma(rng):
    photo = 0.35 + 0.3 * torch.rand(2, 3, 20, 20, generator=rng)
    image = photo.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 0.9 + 0.03
    kept = keep_colors(image, photo)
    torch.testing.assert_close(luma(kept), luma(image))
    torch.testing.assert_close(kept - luma(kept), photo - luma(photo))
    torch.testing.assert_close(keep_colors(photo, photo), photo)


def test_keep_colors_limits_luma_to_valid_colors(rng):
    photo, image = torch.rand(2, 1, 3, 20, 20, generator=rng)
    kept = keep_colors(image, photo)
    torch.testing.assert_close(kept - luma(kept), photo - luma(photo), atol=1e-6, rtol=0)
    assert kept.min() >= 0 and kept.max() <= 1
    changed = (luma(kept) - luma(image)).abs() > 1e-6  # only if one of the three channels is at its limit
    at_limit = (kept.amin(1, keepdim=True) < 1e-6) | (kept.amax(1, keepdim=True) > 1 - 1e-6)
    assert not (changed & ~at_limit).any() and changed.any()


def test_match_palette_gives_the_references_mean_and_covariance(rng):
    mixing = torch.tensor([[0.1, 0.02, 0], [0.05, 0.06, 0.01], [0, 0, 0.03]])
    image = 0.5 + 0.08 * torch.randn(1, 3, 60, 50, generator=rng).clamp(-3, 3)
    reference = 0.5 + torch.einsum("dc,nchw->ndhw", mixing, torch.randn(1, 3, 40, 40, generator=rng).clamp(-2, 2))
    matched = match_palette(image, reference)
    torch.testing.assert_close(matched.mean((2, 3)), reference.mean((2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(*(torch.cov(each[0].flatten(1)) for each in (matched, reference)), atol=1e-4, rtol=0)
    torch.testing.assert_close(match_palette(image, image), image, atol=1e-4, rtol=0)


def test_match_palette_with_few_colors(rng):
    grey = torch.rand(1, 1, 30, 30, generator=rng).expand(1, 3, 30, 30) * 0.5 + 0.2
    flat = torch.full((1, 3, 9, 9), 0.3)
    colored = torch.rand(1, 3, 30, 30, generator=rng)
    matched = match_palette(colored, grey)
    assert (matched.amax(1) - matched.amin(1)).mean() < 0.02
    torch.testing.assert_close(match_palette(colored, flat).mean(), flat.mean(), atol=1e-3, rtol=0)
    assert torch.isfinite(match_palette(flat, colored)).all()
