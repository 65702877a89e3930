"""Bicubic resizing and degradation against MATLAB's formula, Pillow and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.images.resample import bicubic_resize, crop_to_multiple, degrade
from perceptual_style.core.images.tensors import quantize
from PIL import Image
from scipy.ndimage import gaussian_filter


def imresize(line: np.ndarray, new: int, scale: float) -> np.ndarray:
    """Resize one line as MATLAB's imresize does, sample by sample, counting from 1 as in its source."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    shrink = min(scale, 1.0)
    mirrored = [*range(len(line)), *reversed(range(len(line)))]
    out = np.zeros(new)
    for k in range(1, new + 1):
        u = k / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - 2 / shrink)
        places = range(left, left + math.ceil(4 / shrink) + 2)
        weights = [shrink * cubic(shrink * (u - place)) for place in places]
        values = [line[mirrored[(place - 1) % len(mirrored)]] for place in places]
        out[k - 1] = np.dot(weights, values) / sum(weights)
    return out


@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1 / 3, 0.37, 1.0, 1.5, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("length", [1, 5, 24, 41])
def test_resize_follows_matlabs_formula(length, scale, rng):
    image = torch.rand(1, 1, length, 1, generator=rng, dtype=torch.float64)
    result = bicubic_resize(image, (scale, 1.0))
    expected = imresize(image.flatten().numpy(), math.ceil(length * scale), scale)
    assert result.shape == (1, 1, math.ceil(length * scale), 1)
    np.testing.assert_allclose(result.flatten().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("size", "new"), [((96, 128), (24, 32)), ((24, 31), (96, 124)), ((60, 60), (45, 20))])
def test_resize_equals_pillow_away_from_edges(size, new, rng):
    image = torch.rand(1, 1, *size, generator=rng)
    result = bicubic_resize(image, size=new)[0, 0].numpy()
    pillow = Image.fromarray(image[0, 0].numpy()).resize(new[::-1], Image.Resampling.BICUBIC)
    edges = [2 + math.ceil(2 * max(1, after / before)) for before, after in zip(size, new, strict=True)]
    inside = tuple(slice(edge, -edge) for edge in edges)
    np.testing.assert_allclose(result[inside], np.asarray(pillow)[inside], atol=1e-5)


def test_size_and_scale_agree_and_axes_are_independent(rng):
    image = torch.rand(2, 3, 24, 36, generator=rng)
    torch.testing.assert_close(bicubic_resize(image, 0.25), bicubic_resize(image, size=(6, 9)))
    assert torch.equal(bicubic_resize(image, 1.0), image)
    turned = bicubic_resize(image.mT, (0.5, 2.0)).mT
    torch.testing.assert_close(turned, bicubic_resize(image, (2.0, 0.5)))


def test_resize_keeps_constants_and_ramps():
    torch.testing.assert_close(bicubic_resize(torch.full((1, 3, 20, 28), 0.3), 0.25), torch.full((1, 3, 5, 7), 0.3))
    ramp = torch.arange(20, dtype=torch.float64).expand(1, 1, 20, 20)
    inner = bicubic_resize(ramp, 4.0)[0, 0, 40, 12:-12]
    torch.testing.assert_close(inner.diff(), torch.full_like(inner[1:], 0.25))


def test_half_precision_is_resized_in_float32(rng):
    image = torch.rand(1, 3, 16, 16, generator=rng).half()
    assert torch.equal(bicubic_resize(image, 4.0), bicubic_resize(image.float(), 4.0).half())


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_degrade_is_bicubic_reduction_rounded_to_8_bits(factor, rng):
    hr = torch.rand(3, 3, 48, 72, generator=rng).round()  # black and white: overshoots
    lr = degrade(hr, factor)
    assert lr.shape == (3, 3, 48 // factor, 72 // factor)
    assert torch.equal(lr, quantize(bicubic_resize(hr, 1 / factor))) and torch.equal(lr, quantize(lr))
    assert lr.min() >= 0 and lr.max() <= 1


@pytest.mark.parametrize("factor", [4, 8])
def test_degrade_blurs_like_scipy_before_reduction(factor, rng):
    hr = torch.rand(1, 3, 48, 64, generator=rng, dtype=torch.float64)
    blurred = torch.from_numpy(gaussian_filter(hr.numpy(), (0, 0, 1.0, 1.0), mode="reflect"))
    difference = degrade(hr, factor, "blur") - bicubic_resize(blurred, 1 / factor).clamp(0, 1)
    assert difference.abs().max() <= 0.5 / 255 + 1e-9
    assert degrade(hr, factor, "blur").var() < degrade(hr, factor).var()


def test_degrade_treats_each_image_of_a_batch_separately(rng):
    hr = torch.rand(4, 3, 32, 32, generator=rng)
    for kind in ("bicubic", "blur"):
        assert torch.equal(degrade(hr, 4, kind), torch.cat([degrade(image[None], 4, kind) for image in hr]))


def test_crop_to_multiple_keeps_the_top_left(rng):
    image = torch.rand(1, 3, 23, 33, generator=rng)
    assert torch.equal(crop_to_multiple(image, 8), image[..., :16, :32])


def test_resize_and_degrade_reject_bad_arguments(rng):
    image = torch.rand(1, 3, 18, 24, generator=rng)
    with pytest.raises(InputError, match="24x18 px cannot be reduced by 4; crop it"):
        degrade(image, 4)
    with pytest.raises(InputError, match="'jpeg'; expected one of bicubic, blur"):
        degrade(image, 2, "jpeg")
    with pytest.raises(InputError, match="either a scale or a size"):
        bicubic_resize(image)
    with pytest.raises(InputError, match="either a scale or a size"):
        bicubic_resize(image, 2.0, (3, 3))
    for bad in ({"scale": -1.0}, {"scale": 0.0}, {"size": (0, 4)}):
        with pytest.raises(InputError, match="cannot resize 24x18 px"):
            bicubic_resize(image, **bad)
