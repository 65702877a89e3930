"""Real files of other projects, with the pictures that their own programs made of a photo."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from float64 import in_float64
from perceptual_style.core.checkpoints.dialects import load_foreign
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.loading import open_network
from perceptual_style.core.models.style_model import StyleModel, load_style
from perceptual_style.core.network.transform_net import forward_any_size

pytestmark = pytest.mark.shared
ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("PERCEPTUAL_STYLE_SHARED", ROOT.parent / "shared")) / "data" / "checkpoints"
_OTHER = (".npz", ".png", ".md")


def _files() -> list[Path]:
    found = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and path.suffix not in _OTHER]
    return [path for path in found if not path.name.startswith("Variable")]


def _goldens(path: Path) -> list[Path]:
    named = path.parent if path.name == "manifest.json" else path
    return sorted(named.parent.glob(f"golden_{named.name.split('.')[0]}*.npz"))


GOLDENS = [(path, golden) for path in _files() for golden in _goldens(path)]
REJECTED = [path for path in _files() if "refuse" in path.parts]


@pytest.fixture(autouse=True)
def _shared_folder():
    if not FOLDER.is_dir():
        pytest.skip(f"needs the shared data folder ({FOLDER}), which does not exist")


@pytest.mark.parametrize("path, golden", GOLDENS, ids=lambda path: path.name)
def test_picture_matches_original_program(path, golden, tmp_path):
    network, pixels, facts = load_foreign(path)
    odd = "odd" in golden.name
    name = "64" if facts["task"] == "upscale" else "_odd250x187" if odd else "256"
    image = read_image(FOLDER / f"input_astronaut{name}.png").pixels
    expected = torch.from_numpy(np.load(golden)["rgb_times_256"].astype(np.float32) / 256).movedim(-1, 0)
    height, width = (side * network.spec.scale for side in image.shape[-2:])
    with torch.no_grad():  # in float64: the fp32 forward rounds differently on every CPU, 0.088 off for mosaic.model
        output = forward_any_size(in_float64(network), pixels.to_network(image).double())
    output = pixels.from_network(output).clamp(0, 1)[0]
    tolerance = 0.1 if path.suffix == ".t7" else 0.05
    assert float((output * 255 - expected[:, :height, :width]).abs().max()) <= tolerance
    if facts["task"] == "style":
        stylized = load_style(path).stylize(image, precision="fp32")
        assert float((stylized[0] * 255 - expected[:, :height, :width]).abs().max()) <= tolerance
        save_network(tmp_path / "new.safetensors", network, facts, pixels=pixels)
        assert torch.equal(load_style(tmp_path / "new.safetensors").stylize(image, precision="fp32"), stylized)
        half = tmp_path / "half.safetensors"
        save_network(half, network, facts, pixels=pixels, half=True)
        opened, convention, _ = open_network(half)
        assert isinstance(
            StyleModel(opened, "half", pixels=convention).stylize(image[..., :64, :64], precision="fp32"), torch.Tensor
        )


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.name)
def test_unsupported_file_is_rejected(path):
    with pytest.raises(CheckpointError) as caught:
        load_style(path)
    reason = {
        "candy_http301.t7": "web page ('301 Moved Permanently')", "starry_night_lfs_pointer.pth": "Git LFS pointer",
    }.get(path.name, "unknown architecture")  # fmt: skip
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_every_shared_file_is_tested():
    if FOLDER.is_dir():
        assert len({path for path, _ in GOLDENS}) + len(REJECTED) == len(_files())
