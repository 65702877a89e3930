"""Two styles combined: blended, or each in its region."""

from __future__ import annotations

import pytest
import torch
from helpers import style_model as model_of
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.images.mixing import mix
from perceptual_style.core.models.blend import BlendedStyle, RegionStyle, blend_styles, related, style_regions
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.network.pixels import PixelConvention

ARCH, OTHER = "c3s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect", "c3s1-4,R4,c3s1-3 padding=zero output=linear norm=none"
CPU = torch.device("cpu")


def descendant(model: StyleModel, change: float = 0.05) -> StyleModel:
    """Return a model as if trained from this one, with slightly different weights."""
    child = model_of(str(model.spec), name="child")
    for ours, theirs in zip(child.network.parameters(), model.network.parameters(), strict=True):
        ours.copy_(theirs + change * theirs.std(correction=0) * torch.randn_like(theirs))
    return child


@pytest.fixture
def photo(rng):
    return torch.rand(2, 3, 24, 31, generator=rng)


@pytest.fixture
def styles():
    return model_of(seed=1, name="one"), model_of(OTHER, seed=2, name="two")


def halves(width: int = 31, height: int = 24) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


def test_amount_0_and_1_return_the_styles_themselves(styles):
    first, second = styles
    assert blend_styles(first, second, 0) is first and blend_styles(first, second, 1) is second


@pytest.mark.parametrize("amount", [0.25, 0.5])
def test_unrelated_networks_blend_their_paintings(amount, styles, photo):
    first, second = styles
    for other in (second, model_of(seed=3)):  # another architecture; the same one, but unrelated
        blend = blend_styles(first, other, amount)
        assert isinstance(blend, BlendedStyle) and blend.spec.scale == 1 and blend.name == f"one + {other.name}"
        expected = mix(first.stylize(photo), other.stylize(photo), amount)
        torch.testing.assert_close(blend.stylize(photo), expected)


def test_related_networks_blend_their_weights(photo):
    first = model_of(seed=1, name="one", facts={"license": "MIT", "title": "One"})
    second = descendant(first)
    assert related(first, second) and not related(first, model_of(seed=5))
    blend = blend_styles(first, second, 0.25)
    assert isinstance(blend, StyleModel) and blend.facts == {} and blend.name == "one + child"
    for name, weight in blend.network.state_dict().items():
        expected = 0.75 * first.network.state_dict()[name] + 0.25 * second.network.state_dict()[name]
        torch.testing.assert_close(weight, expected)
    assert (blend.stylize(photo) - first.stylize(photo)).abs().max() > 1e-3
    bgr = StyleModel(second.network, "bgr", pixels=PixelConvention("bgr"))
    assert isinstance(blend_styles(first, bgr, 0.25), BlendedStyle)


def test_blend_accepts_all_controls_and_can_be_blended_again(styles, photo):
    third = model_of("c3s1-3 padding=reflect output=sigmoid", seed=4)
    blend = blend_styles(blend_styles(*styles, 0.5), third, 0.5)
    assert len(blend.networks) == 3 and len(blend_styles(blend, styles[0], 0.5).networks) == 3
    options = {"strength": 0.5, "stroke_size": 2, "color": "keep", "temporal": 1, "mask": halves()}
    result = blend.stylize(photo, **options)
    assert torch.equal(result, blend.stylize(photo, **options)) and torch.equal(result[..., 15:], photo[..., 15:])


def test_blend_needs_memory_of_one_network_and_a_painting(styles):
    each = [style.working_bytes(64, 96, CPU) for style in styles]
    blend = blend_styles(*styles, 0.5).working_bytes(64, 96, CPU)
    assert max(each) <= blend <= max(each) + 12 * 64 * 96
    assert style_regions(styles[0], halves(), styles[1]).working_bytes(64, 96, CPU) == blend
    with pytest.raises(InputError, match="needs .* of memory"):
        blend_styles(*styles, 0.5).stylize(torch.zeros(1, 3, 64, 96), memory=1000)


def test_progress_covers_both_styles(styles, photo):
    seen = []
    blend_styles(*styles, 0.5).stylize(photo, progress=seen.append)
    shares = [one.done / one.total for one in seen]
    assert shares == sorted(shares) and shares[-1] == 1


def test_each_style_paints_its_region(styles, photo):
    mask = halves()
    one, two = (style.stylize(photo) for style in styles)
    for second in (None, 1 - mask):
        result = style_regions(styles[0], mask, styles[1], second).stylize(photo)
        assert torch.equal(result, torch.where(mask > 0, one, two))


def test_seam_shows_no_photo(styles, photo):
    """The shares of both styles add up to one, so the photo does not show through."""
    mask = halves()
    result = style_regions(styles[0], mask, styles[1], 1 - mask, feather=8).stylize(photo)
    one, two = (style.stylize(photo) for style in styles)
    torch.testing.assert_close(result[..., :11], one[..., :11])
    torch.testing.assert_close(result[..., 19:], two[..., 19:])
    low, high = torch.minimum(one, two) - 1e-5, torch.maximum(one, two) + 1e-5
    assert ((low <= result) & (result <= high)).all()
    # the same style on both sides has no seam
    same = style_regions(styles[0], mask, styles[0], 1 - mask, feather=8)
    torch.testing.assert_close(same.stylize(photo), one)
    assert len(same.networks) == 1


def test_photo_is_unchanged_between_regions(styles, photo):
    left, right = torch.zeros(1, 1, 24, 31), torch.zeros(1, 1, 24, 31)
    left[..., :10], right[..., 20:] = 1, 1
    for temporal in (0, 1):
        result = style_regions(styles[0], left, styles[1], right, feather=4).stylize(photo, temporal=temporal)
        assert torch.equal(result[..., 12:18], photo[..., 12:18])
        assert (result[..., :8] - photo[..., :8]).abs().max() > 0.05 < (result[..., 22:] - photo[..., 22:]).abs().max()


def test_overlapping_masks_share_pixels(styles, photo):
    everywhere = torch.ones(1, 1, 3, 3)  # of any size
    result = style_regions(styles[0], everywhere, styles[1], everywhere).stylize(photo)
    torch.testing.assert_close(result, (styles[0].stylize(photo) + styles[1].stylize(photo)) / 2)


def test_regions_can_be_nested_and_blended(styles, photo):
    third = model_of("c3s1-3 padding=reflect output=sigmoid", seed=4)
    left, middle = torch.zeros(1, 1, 24, 31), torch.zeros(1, 1, 24, 31)
    left[..., :10], middle[..., 10:20] = 1, 1
    two = style_regions(styles[0], left, styles[1], middle)
    result = style_regions(two, (left + middle).clamp(0, 1), third).stylize(photo)
    one, other, last = (style.stylize(photo) for style in (*styles, third))
    expected = torch.cat([one[..., :10], other[..., 10:20], last[..., 20:]], dim=-1)
    torch.testing.assert_close(result, expected)
    expected = mix(torch.cat([one[..., :10], other[..., 10:20], photo[..., 20:]], dim=-1), last, 0.5)
    torch.testing.assert_close(blend_styles(two, third, 0.5).stylize(photo), expected)
    assert torch.equal(blend_styles(two, two, 0.5).stylize(photo)[..., 20:], photo[..., 20:])


def test_each_photo_uses_its_own_masks(styles, photo):
    masks = torch.cat([halves(), 1 - halves()])
    together = style_regions(styles[0], masks, styles[1]).stylize(photo)
    for i in range(2):
        alone = style_regions(styles[0], masks[i : i + 1], styles[1]).stylize(photo[i : i + 1])
        assert torch.equal(together[i], alone[0])


def test_network_without_region_does_not_run(styles, photo):
    calls = []
    styles[1].network.to = lambda *_: calls.append(1) or styles[1].network
    regions = style_regions(styles[0], torch.ones(1, 1, 4, 4), styles[1])
    assert torch.equal(regions.stylize(photo), styles[0].stylize(photo)) and calls == []


@pytest.mark.parametrize("amount", [-0.1, 1.5, float("nan")])
def test_wrong_amount_is_rejected(amount, styles):
    with pytest.raises(InputError, match="expected a number from 0 .the first style. to 1"):
        blend_styles(*styles, amount)


def test_wrong_masks_and_feather_are_rejected(styles):
    with pytest.raises(InputError, match="feather is -3"):
        style_regions(styles[0], halves(), styles[1], feather=-3)
    with pytest.raises(ImageError, match="first mask: expected a float tensor"):
        style_regions(styles[0], halves()[0], styles[1])
    with pytest.raises(ImageError, match="second mask: expected"):
        style_regions(styles[0], halves(), styles[1], halves() * 9)
    assert isinstance(style_regions(styles[0], halves(), styles[1]), RegionStyle)
