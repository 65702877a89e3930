"""Loss networks with random weights, complete but narrow, so that tests are fast."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

VGG16_WIDTHS = (8, 8, 12, 12, 16, 16, 16, 20, 20, 20, 20, 20, 20)
VGG16_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def small_vgg16(path: Path, width: int = 4, seed: int = 5) -> Path:
    """Write a vgg16_small, the loss network of the recipe standard, and return its path."""
    generator, tensors, channels = torch.Generator().manual_seed(seed), {}, 3

    def add(key: str, out: int, into: int, side: int) -> None:
        spread = (2 / (into * side**2)) ** 0.5
        tensors[f"{key}.weight"] = spread * torch.randn(out, into, side, side, generator=generator)

    for block, count in enumerate((2, 2, 3, 3), start=1):
        for i in range(1, count + 1):
            key, wide = f"conv{block}_{i}", 2 * width
            if channels == 3:
                add(key, wide, channels, 3)
            else:
                add(f"{key}.reduce", width, channels, 1)
                add(f"{key}.core", width, width, 3)
                add(key := f"{key}.expand", wide, width, 1)
            tensors[f"{key}.bias"] = 0.1 * torch.randn(wide, generator=generator)
            channels = wide
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def vgg16(deepest: int = 28) -> dict[str, torch.Tensor]:
    """Return weights in VGG-16's layout with fewer channels. As in the real file, the classifier is the largest part."""
    random, before, tensors = torch.Generator().manual_seed(1), 3, {}
    for index, width in zip(VGG16_INDICES, VGG16_WIDTHS, strict=True):
        if index <= deepest:
            tensors[f"features.{index}.weight"] = torch.randn(width, before, 3, 3, generator=random) / before
            tensors[f"features.{index}.bias"] = torch.randn(width, generator=random)
        before = width
    tensors["pre_logits.fc1.weight"] = torch.zeros(400, 2000)
    tensors["head.fc.bias"] = torch.zeros(10)
    return tensors
