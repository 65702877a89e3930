"""Global settings of torch around a call change nothing: default dtype and device, autocast, deterministic algorithms."""

from __future__ import annotations

import contextlib

import pytest
import torch
from image_files import noise, save
from perceptual_style.core.images.bicubic import _weights_on
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.blend import blend_styles, style_regions
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.models.upscale_model import load_upscaler


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def results(image: torch.Tensor, file) -> dict[str, torch.Tensor]:
    """Return the results of many calls, models loaded anew."""
    style, other, upscaler = load_style("wave"), load_style("udnie"), load_upscaler("perceptual_x2")
    _weights_on.cache_clear()
    options = {"strength": 0.5, "stroke_size": 1.5, "color": "match", "mask": image[:, :1], "feather": 4}
    return {
        "read": read_image(file).filled,
        "auto": style.stylize(image),
        "fp32": style.stylize(image, precision="fp32"),
        "bf16": style.stylize(image, precision="bf16"),
        "controls": style.stylize(image, **options),
        "video": style.stylize(torch.cat([image, image.roll(2, 3)]), temporal=1.0, color="keep"),
        "blend": blend_styles(style, other, 0.4).stylize(image),
        "regions": style_regions(style, image[:, :1], other, feather=3).stylize(image),
        "upscale": upscaler.upscale(image, match_colors=True),
        "fidelity": upscaler.upscale(image, fidelity=0.3),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    file = save(tmp_path_factory.mktemp("image") / "a.png", noise(20, 30, 4))
    image = torch.rand(1, 3, 45, 52, generator=torch.Generator().manual_seed(1))
    return image, file, results(image, file)


@pytest.mark.parametrize(
    "setting",
    [
        default_dtype,
        deterministic,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.inference_mode,
    ],
    ids=["float64", "deterministic", "device", "autocast", "inference"],
)
def test_global_settings_change_nothing(setting, expected):
    image, file, wanted = expected
    with setting():
        found = results(image, file)
    for name, result in wanted.items():
        assert found[name].device.type == "cpu" and found[name].dtype == result.dtype, name
        assert torch.equal(found[name], result), name
