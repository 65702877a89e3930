"""Exported networks in ONNX Runtime, compared with this package's pictures at three sizes."""

from __future__ import annotations

import pytest
import torch
from foreign_containers import write_torch7
from foreign_files import make
from helpers import picture_of
from perceptual_style.core import blend_styles, export, load_style, load_upscaler
from perceptual_style.core.hub.manifest import entries
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.image_model import ImageModel

pytest.importorskip("onnxruntime")
from onnx_files import OnnxModel  # noqa: E402

pytestmark = pytest.mark.slow

SIZES = [(384, 512), (333, 511), (1024, 1024)]
STYLES = [entry.id for entry in entries("style") if entry.is_bundled]


def largest_difference(model: ImageModel, path, photo: torch.Tensor) -> float:
    exported = OnnxModel(export(model, path).path)
    worst = 0.0
    for size in SIZES:
        image = torch.nn.functional.interpolate(photo, size, mode="bilinear", antialias=True)
        worst = max(worst, (exported(image) - picture_of(model, image)).abs().max().item())
    return worst


@pytest.fixture(scope="module")
def photo(root) -> torch.Tensor:
    return read_image(root / "examples" / "astronaut.jpg").pixels


@pytest.mark.parametrize("name", STYLES)
def test_bundled_style(name, photo, tmp_path):
    assert largest_difference(load_style(name), tmp_path / "style.onnx", photo) < 1 / 255


@pytest.mark.parametrize("name", ["pixel_x2", "perceptual_x4"])
def test_upscaler(name, photo, tmp_path):
    assert largest_difference(load_upscaler(name), tmp_path / "upscaler.onnx", photo) < 1 / 255


def test_blend_of_styles(photo, tmp_path):
    blend = blend_styles(load_style("wave"), load_style("the_scream"), 0.4)
    assert largest_difference(blend, tmp_path / "blend.onnx", photo) < 1 / 255


def test_style_of_pytorch_examples(photo, tmp_path):
    torch.save(make("pytorch/examples"), tmp_path / "style.pth")
    assert largest_difference(load_style(tmp_path / "style.pth"), tmp_path / "style.onnx", photo) < 1 / 255


def test_style_of_torch7(photo, tmp_path):
    write_torch7(tmp_path / "style.t7")
    assert largest_difference(load_style(tmp_path / "style.t7"), tmp_path / "style.onnx", photo) < 1 / 255
