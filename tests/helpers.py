"""What several test files make, run or compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from perceptual_style.core import optional
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import PerceptualStyleError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.transparency import fill_transparent
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.models.upscale_model import UpscaleModel
from perceptual_style.core.network.pixels import OURS, PixelConvention
from perceptual_style.core.network.transform_net import TransformNet, build_network
from PIL import Image
from safetensors.torch import load_file

TINY = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh"
SMALL = "c3s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect"


def frozen(arch: str) -> TransformNet:
    """Return an untrained network, ready for inference."""
    return build_network(arch).eval().requires_grad_(False)


def style_model(arch: str = SMALL, *, seed: int = 0, name: str = "test", **options) -> StyleModel:
    """Return a style model with an untrained network."""
    torch.manual_seed(seed)
    return StyleModel(frozen(arch), name, **options)


def save_style(path: Path, arch: str = TINY, **facts) -> Path:
    """Write a file with an untrained style network; return its path."""
    save_network(path, build_network(arch), {"task": "style", "name": path.stem, **facts})
    return path


def model_of(network: TransformNet, pixels: PixelConvention = OURS, name: str = "test") -> StyleModel | UpscaleModel:
    """Return a network as the model that its scale makes it."""
    return (UpscaleModel if network.spec.scale > 1 else StyleModel)(network, name, {}, pixels)


def picture_of(model: StyleModel | UpscaleModel, image: torch.Tensor) -> torch.Tensor:
    """Return what a model makes of an image, in fp32."""
    return (model.upscale if isinstance(model, UpscaleModel) else model.stylize)(image, precision="fp32")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save_noise(path: Path, width: int = 24, height: int = 17, mode: str = "RGB") -> Path:
    """Write a photo of noise, which depends on its size alone; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    Image.fromarray(noise(*shape, seed=width * height)).save(path)
    return path


def difference(path: Path, expected: torch.Tensor) -> float:
    """Return the largest difference between an image file and an image."""
    return float((read_image(path).pixels - expected).abs().max())


def autocasts_on_the_cpu() -> bool:
    """Whether autocast is on for the CPU. torch 2.3 has another name for the question."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:
        return torch.is_autocast_cpu_enabled()


def same_tensors(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], tolerance: float = 0) -> bool:
    """Whether both have the same names, and values that are equal or closer than the tolerance."""
    if ours.keys() != theirs.keys():
        return False
    if not tolerance:
        return all(torch.equal(ours[key], theirs[key]) for key in ours)
    return all((ours[key] - theirs[key]).abs().max() < tolerance for key in ours)


def same_file(path: Path, tensors: Mapping[str, torch.Tensor], tolerance: float = 0) -> bool:
    """Whether a file holds exactly these tensors, or values closer than the tolerance."""
    return same_tensors(load_file(path), tensors, tolerance)


def refusal(error: type[PerceptualStyleError], call: Callable, *arguments, **options) -> str:
    """Return the message, which must be a single line, of the error that a call raises."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hide_optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let optional packages look as if they were not installed."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(optional, "importlib", SimpleNamespace(import_module=missing))


def pixels_of(image: torch.Tensor) -> torch.Tensor:
    """Convert an IMAGE [B, H, W, 1, 3 or 4] to what core gets: (B, 3, H, W), without colors that alpha hides."""
    pixels = image[..., :3].movedim(-1, 1).expand(-1, 3, -1, -1)
    return fill_transparent(pixels, image[..., 3:].movedim(-1, 1) if image.shape[-1] == 4 else None)
