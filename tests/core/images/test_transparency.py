"""Colors under transparency are replaced by visible ones, and then do not change any result."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.images.color import luma
from perceptual_style.core.images.masks import enlarge_alpha
from perceptual_style.core.images.reading import ImageFile
from perceptual_style.core.images.transparency import fill_transparent
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.models.upscale_model import load_upscaler

COLOR = torch.tensor([1.0, 0.94, 0.78]).view(1, 3, 1, 1)


def disc(side: int = 48, soft: float = 0.0) -> torch.Tensor:
    """Return alpha of a disc, with an edge that is ``soft`` px wide."""
    axis = torch.arange(side) - (side - 1) / 2
    inside = side / 3 - (axis.square()[:, None] + axis.square()).sqrt()
    alpha = (inside / soft + 0.5).clamp(0, 1) if soft else (inside > 0).float()
    return (alpha * 255).round().div(255)[None, None]


def hiding(hidden: float, alpha: torch.Tensor, visible: torch.Tensor = COLOR) -> torch.Tensor:
    return torch.where(alpha > 0, visible, torch.full_like(visible, hidden))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (33, 50), (64, 64)])
def test_hidden_colors_have_no_effect(size):
    alpha = (torch.rand(2, 1, *size) > 0.6).float() * torch.rand(2, 1, *size)
    visible = torch.rand(2, 3, *size)
    results = [fill_transparent(hiding(hidden, alpha, visible), alpha) for hidden in (0.0, 1.0, 0.3)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    seen = (alpha >= 1 / 16).expand(2, 3, *size)
    assert torch.equal(results[0][seen], visible[seen])
    assert results[0].min() >= 0 and results[0].max() <= 1


def test_opaque_images_are_returned_unchanged():
    image = torch.rand(1, 3, 9, 8)
    assert fill_transparent(image, None) is image
    assert fill_transparent(image, torch.full((1, 1, 9, 8), 0.5)) is image
    assert ImageFile(image).filled is image


def test_single_color_fills_the_image():
    for soft in (0.0, 6.0):
        alpha = disc(soft=soft)
        filled = fill_transparent(hiding(0.0, alpha), alpha)
        torch.testing.assert_close(filled, COLOR.expand_as(filled), atol=1e-5, rtol=0)


def test_fill_has_the_colors_of_the_nearest_edge():
    image, alpha = torch.zeros(1, 3, 32, 64), torch.zeros(1, 1, 32, 64)
    image[..., :8], image[..., 56:] = 0.2, 0.9
    alpha[..., :8] = alpha[..., 56:] = 1
    filled = fill_transparent(image, alpha)
    assert abs(filled[0, 0, 16, 10] - 0.2) < 0.05 and abs(filled[0, 0, 16, 53] - 0.9) < 0.05
    assert 0.4 < filled[0, 0, 16, 32] < 0.7


def test_invisible_image_is_black():
    assert not fill_transparent(torch.rand(1, 3, 20, 31), torch.zeros(1, 1, 20, 31)).any()


@pytest.mark.parametrize("name", ["perceptual_x4", "pixel_x2"])
@pytest.mark.parametrize("soft", [0.0, 6.0])
def test_enlarged_icon_has_no_dark_outline(name, soft):
    model, alpha = load_upscaler(name), disc(soft=soft)
    results = []
    for hidden in (0.0, 1.0):
        icon = ImageFile(hiding(hidden, alpha), alpha)
        results.append(model.upscale(icon.filled))
    large = enlarge_alpha(alpha, model.scale)
    edge = (large > 0.2) & (large < 0.8)
    assert torch.equal(*results)
    assert float((luma(results[0]) - luma(COLOR)).abs()[edge].max()) < 0.05


def test_portrait_does_not_depend_on_hidden_color():
    model, alpha = load_style("udnie"), disc(96, 4.0)
    photo = torch.rand(1, 3, 24, 24).repeat_interleave(4, 2).repeat_interleave(4, 3)
    results = [model.stylize(ImageFile(hiding(hidden, alpha, photo), alpha).filled) for hidden in (0.0, 0.5, 1.0)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
