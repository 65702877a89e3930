"""Bundled upscalers: colors are kept, there is no grid, and the engine equals the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from perceptual_style.core.evaluation.mesh import MeshMeter
from perceptual_style.core.hub.manifest import names
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.resample import bicubic_resize, crop_to_multiple, degrade
from perceptual_style.core.images.tensors import quantize
from perceptual_style.core.losses.functional import mesh_loss, pixel_loss
from perceptual_style.core.models.upscale_model import load_upscaler, upscaler_for
from perceptual_style.core.training.degradations import damaged

PHOTOS = Path(__file__).parents[3] / "examples"
RESTORERS = [name for name in names("upscale") if name.startswith("restore")]
UPSCALERS = [name for name in names("upscale") if name not in RESTORERS]


@pytest.fixture(scope="module", params=UPSCALERS)
def model(request):
    return load_upscaler(request.param)


@pytest.fixture(scope="module")
def photo():
    return read_image(PHOTOS / "astronaut.jpg").pixels[:, :, :256, 96:352]


def test_every_factor_has_an_upscaler():
    for factor in (2, 4, 8):
        assert load_upscaler(upscaler_for(factor)).scale == factor
    assert [upscaler_for(factor) for factor in (2, 4, 8)] == ["perceptual_x2", "perceptual_x4", "pixel_x8"]


def test_flat_areas_keep_their_color(model):
    for color in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.8, 0.3, 0.1), (0.1, 0.4, 0.9)):
        image = torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, 24, 24)
        inside = model.upscale(image)[..., 8 * model.scale : -8 * model.scale, 8 * model.scale : -8 * model.scale]
        assert (inside.mean(dim=(2, 3)) - torch.tensor(color)).abs().max() < 1 / 255, color
        assert (inside - inside.mean(dim=(2, 3), keepdim=True)).abs().max() < 4 / 255, color


def test_result_has_no_grid(model, photo):
    """Pixels at each position of their block have the same mean; a grid would make them differ."""
    f = model.scale
    result = model.upscale(bicubic_resize(photo, 0.25).clamp(0, 1))
    bicubic = bicubic_resize(bicubic_resize(photo, 0.25), f)
    difference = (result - bicubic)[..., 8 * f : -8 * f, 8 * f : -8 * f]
    places = difference.unflatten(3, (-1, f)).unflatten(2, (-1, f)).mean(dim=(0, 2, 4))  # (3, f, f)
    assert (places - places.mean(dim=(1, 2), keepdim=True)).abs().max() < 1 / 255


def test_result_has_no_mesh(model, photo):
    """Texture has hardly more power at any frequency than the photo's own. A faint mesh of 2.5 px gives 0.01."""
    assert mesh_loss(model.upscale(degrade(photo, model.scale)), photo) < 2e-3


@pytest.mark.shared
@pytest.mark.parametrize("name", UPSCALERS)
def test_mesh_peak_is_low_at_the_default_fidelity(name, shared_data):
    """One photo is too few for this measure."""
    model, meter = load_upscaler(name), MeshMeter()
    for path in sorted((shared_data / "sr_test" / "BSD100").iterdir())[:5]:
        photo = crop_to_multiple(read_image(path).pixels[:, :3], model.scale)
        meter.add(quantize(model.upscale(degrade(photo, model.scale))), photo)
    assert meter.peak().ratio < 1.2


def test_mean_color_of_photo_is_kept(model, photo):
    small = degrade(crop_to_multiple(photo, model.scale), model.scale)
    assert (model.upscale(small).mean(dim=(2, 3)) - small.mean(dim=(2, 3))).abs().max() < 1 / 255


def test_pixel_upscalers_beat_bicubic_interpolation(model, photo):
    model = model if model.partner is None else model.blended(1.0)
    small = degrade(photo, model.scale)
    ours, theirs = model.upscale(small), bicubic_resize(small, model.scale)
    assert pixel_loss(ours, photo) < pixel_loss(theirs, photo)


def test_engine_equals_network(model, photo):
    small = photo[..., :37, :61]
    model = model.blended(0)
    with torch.no_grad():
        expected = model.network(small).clamp(0, 1)
    assert (model.upscale(small, precision="fp32") - expected).abs().max() < 1e-4
    assert (model.upscale(small) - expected).abs().max() < 2 / 255
    assert (model.upscale(small, precision="bf16") - expected).abs().max() < 4 / 255


@pytest.fixture(scope="module", params=RESTORERS)
def restorer(request):
    return load_upscaler(request.param)


def test_restorer_brings_damaged_photos_closer(restorer, photo):
    ours, theirs = 0.0, 0.0
    for seed in range(4):
        damage = np.random.default_rng(seed)
        small = damaged((photo[0] * 255).round().byte(), restorer.scale, damage)[None].float() / 255
        ours += float(pixel_loss(restorer.upscale(small), photo))
        theirs += float(pixel_loss(bicubic_resize(small, restorer.scale), photo))
    assert ours < 0.95 * theirs


def test_restorer_adds_no_color_to_black_and_white_photos(restorer, photo):
    grey = degrade(photo, max(restorer.scale, 2)).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    result = restorer.upscale(grey)
    assert (result - result.mean(dim=1, keepdim=True)).abs().mean() < 1 / 255


def test_restorer_without_denoise_keeps_everything(restorer, photo):
    small = photo[..., :40, :30]
    kept = restorer.upscale(small, denoise=0)
    expected = small if restorer.scale == 1 else load_upscaler(f"pixel_x{restorer.scale}").upscale(small)
    assert (kept - expected).abs().max() < 1e-5
