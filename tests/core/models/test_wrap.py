"""Pictures whose edges meet: the style shows no seam, whatever the controls."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import style_model as model_of
from perceptual_style.core.errors import InputError
from perceptual_style.core.models.blend import blend_styles, style_regions

ARCHS = (
    "c3s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect",
    "c9s1-4,d8,d8,R8,u8,u4,c9s1-3 padding=reflect-start norm=batch",
)
AXES = {"x": (3,), "xy": (2, 3)}


def textures(height: int, width: int, count: int = 1) -> torch.Tensor:
    """Return smooth images that are periodic in both directions, each panned by 3 px more."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for step in range(count):
        waves = [
            torch.sin(2 * math.pi * (a * y / height + b * (x - 3 * step) / width))
            for a, b in ((1, 2), (3, -1), (-2, 3))
        ]
        frames.append(0.5 + 0.3 * torch.stack(waves))
    return torch.stack(frames).clamp(0, 1)


def steps(picture: torch.Tensor, axis: int) -> tuple[float, float]:
    """Return the mean difference between the two edges of an axis, and the largest one of neighbors inside."""
    lines = picture[0].movedim(axis - 1, 0)
    inside = (lines[1:] - lines[:-1]).abs().mean(dim=(1, 2))
    return float((lines[0] - lines[-1]).abs().mean()), float(inside.max())


@pytest.mark.parametrize("wrap", AXES)
@pytest.mark.parametrize("arch", ARCHS)
def test_rolled_photo_gives_rolled_picture(arch, wrap, rng):
    photo, model, axes = torch.rand(1, 3, 48, 40, generator=rng), model_of(arch), AXES[wrap]
    mask = torch.zeros(1, 1, 48, 40)
    mask[..., 5:20, :17] = 1
    for controls in (
        {},
        {"strength": 0.5},
        {"color": "keep"},
        {"color": "match", "strength": 0.7},
        {"mask": mask, "feather": 9},
    ):
        expected = model.stylize(photo, wrap=wrap, **controls).roll([8] * len(axes), axes)
        if "mask" in controls:
            controls = {**controls, "mask": mask.roll([8] * len(axes), axes)}
        result = model.stylize(photo.roll([8] * len(axes), axes), wrap=wrap, **controls)
        assert (result - expected).abs().max() < 1e-4, controls


def test_rolled_photo_gives_rolled_picture_of_two_styles(rng):
    photo, one, other = torch.rand(1, 3, 40, 48, generator=rng), model_of(ARCHS[0]), model_of(ARCHS[1], seed=1)
    mask = torch.zeros(1, 1, 40, 48)
    mask[..., 10:30] = 1
    blend = blend_styles(one, other, 0.4)
    assert (blend.stylize(photo.roll(8, 3), wrap="x") - blend.stylize(photo, wrap="x").roll(8, 3)).abs().max() < 1e-4
    results = [
        style_regions(one, mask.roll(shift, 3), other, feather=6)
        .stylize(photo.roll(shift, 3), wrap="x")
        .roll(-shift, 3)
        for shift in (0, 16)
    ]
    assert (results[0] - results[1]).abs().max() < 1e-4


@pytest.mark.parametrize("controls", [{}, {"stroke_size": 1.7}, {"stroke_size": 0.6}, {"strength": 0.6}])
@pytest.mark.parametrize("size", [(48, 40), (47, 53)])
def test_texture_has_no_seam(size, controls):
    photo, model = textures(*size), model_of(ARCHS[0])
    picture = model.stylize(photo, wrap="xy", **controls)
    assert picture.shape == photo.shape
    for axis in (2, 3):
        seam, inside = steps(picture, axis)
        assert seam <= 1.1 * inside, axis
        without, _ = steps(model.stylize(photo, **controls), axis)
        assert without > 1.1 * seam, "this texture would show no seam anyway"


def test_frames_of_a_panorama_have_no_seam():
    frames = textures(48, 60, count=4)
    pictures = model_of(ARCHS[0]).stylize(frames, wrap="x", temporal=1.0)
    for picture in pictures:
        seam, inside = steps(picture[None], 3)
        assert seam <= 1.05 * inside


def test_picture_may_be_smaller_than_the_network_asks_for(rng):
    model, photo = model_of(ARCHS[1]), torch.rand(1, 3, 8, 4, generator=rng)
    tiled = model.stylize(photo.repeat(1, 1, 3, 5), wrap="xy")  # statistics of a tiled image are the tile's
    assert (model.stylize(photo, wrap="xy").repeat(1, 1, 3, 5) - tiled).abs().max() < 1e-4


def test_unknown_wrap_is_rejected(rng):
    with pytest.raises(InputError, match="wrap is 'y'; expected one of none, x, xy"):
        model_of().stylize(torch.rand(1, 3, 8, 8, generator=rng), wrap="y")
