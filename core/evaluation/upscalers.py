"""Measuring upscalers on test sets, by the published protocol of super-resolution.

For a factor f: an image is cropped to a multiple of f, reduced bicubically (MATLAB's) and rounded to 8 bits, upscaled,
rounded to 8 bits, and compared with itself: PSNR and SSIM on Y (of grey files: on
their values) without a border of f pixels, the others on whole images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, InputError
from ..images.folders import find_images
from ..images.reading import open_image, read_image
from ..images.resample import bicubic_resize, crop_to_multiple, degrade
from ..images.tensors import quantize
from ..losses.loss_network import LossNetwork
from ..losses.metrics import Lpips, perceptual_distance, psnr, ssim
from ..progress import Progress, ProgressCallback

BICUBIC = "bicubic"
_SMALLEST_LEFT = 11  # px that SSIM's window needs inside of the border
_SMALLEST = 17  # px that the networks behind the measures need
_CROP = 96  # px of the high resolution image that a figure shows


class Upscaler(Protocol):
    """What is measured: ``upscale`` makes (N, 3, scale h, scale w) of (N, 3, h, w), both in [0, 1]."""

    @property
    def scale(self) -> int: ...

    def upscale(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Row:
    """Means of one method over one test set. measures: by name ("psnr", "ssim", ...); images: the same for each image."""

    factor: int
    method: str
    test_set: str
    measures: Mapping[str, float]
    images: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One image side by side: the whole (3, H, W), the crop's (left, top, side), and the crop by each method."""

    factor: int
    test_set: str
    image: str
    whole: Tensor
    box: tuple[int, int, int]
    crops: Mapping[str, Tensor]


def find_test_sets(folder: str | Path) -> dict[str, list[Path]]:
    """Images by test set: those of each folder in ``folder``, or of ``folder`` itself if it has images beside no folders.

    Raises ImageError when there is no such folder, or it has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder; expected one with a folder of images for each test set")
    sets: dict[str, list[Path]] = {}
    for path in find_images(folder):
        parts = path.relative_to(folder).parts
        sets.setdefault(parts[0] if len(parts) > 1 else folder.resolve().name, []).append(path)
    return sets


def evaluate_upscalers(
    test_sets: Mapping[str, Sequence[Path]],
    models: Mapping[str, Upscaler],
    factors: Sequence[int] = (4, 8),
    *,
    loss_network: LossNetwork | None = None,
    lpips: Lpips | None = None,
    examples: int = 0,
    device: torch.device | str = "cpu",
    progress: ProgressCallback | None = None,
) -> tuple[list[Row], list[Example]]:
    """Measure bicubic upscaling and each model whose scale is one of the factors.

    loss_network: for the perceptual distance, at relu2_2 of VGG-16; lpips: for LPIPS; neither is measured without
    examples: of each test set so many images, evenly spread, are kept side by side, where bicubic upscaling errs most
    progress: called after each image of each method

    Returns rows by factor, test set and method, and the examples. Before any work raises ImageError for images that cannot
    be read or are too small, InputError for a model of another scale.
    """
    _check(test_sets, models, factors)
    measures: dict[str, Callable[[Tensor, Tensor, int, bool], Tensor]] = {"psnr": psnr, "ssim": ssim}
    if loss_network is not None:
        loss_network.to(device)
        measures["perceptual distance"] = lambda x, y, *_: perceptual_distance(
            x.to(device), y.to(device), loss_network, "relu2_2"
        )
    if lpips is not None:
        measures[f"LPIPS ({lpips.variant})"] = lambda x, y, *_: lpips(x.to(device), y.to(device))
    methods = {
        factor: {BICUBIC: None} | {name: model for name, model in models.items() if model.scale == factor}
        for factor in factors
    }
    total = sum(len(files) for files in test_sets.values()) * sum(map(len, methods.values()))
    done, rows, kept = 0, [], []
    for factor in factors:
        for test_set, files in test_sets.items():
            shown = {files[(2 * i + 1) * len(files) // (2 * examples)] for i in range(examples)}
            found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in methods[factor]}
            for path in files:
                hr = crop_to_multiple(read_image(path).pixels, factor)
                lr, results, grey = degrade(hr, factor), {}, _facts(path)[2]
                for name, model in methods[factor].items():
                    results[name] = result = _upscaled(lr, name, model, factor, device)
                    with torch.no_grad():
                        values = {key: float(measure(result, hr, factor, grey)) for key, measure in measures.items()}
                    found[name][path.name] = values
                    done += 1
                    if progress is not None:
                        progress(Progress(done, total))
                if path in shown:
                    kept.append(_example(factor, test_set, path.name, hr, results))
            for name, images in found.items():
                means = {key: sum(each[key] for each in images.values()) / len(images) for key in measures}
                rows.append(Row(factor, name, test_set, means, images))
    return rows, kept


def _check(test_sets: Mapping[str, Sequence[Path]], models: Mapping[str, Upscaler], factors: Sequence[int]) -> None:
    for name, model in models.items():
        if model.scale not in factors:
            wanted = ", ".join(f"x{factor}" for factor in factors)
            raise InputError(
                f"{name} upscales x{model.scale}, and measured is {wanted}; add its factor, or leave it out"
            )
        if name == BICUBIC:
            raise InputError(f"a model cannot be named {BICUBIC}, as the method that all are measured against")
    for factor in factors:
        if factor < 2:
            raise InputError(f"the factor is {factor}; expected 2 or more, as 4 or 8")
    for path in (path for files in test_sets.values() for path in files):
        for factor in factors:
            least = max(_SMALLEST_LEFT + 2 * factor, _SMALLEST)
            least += -least % factor
            width, height, _ = _facts(path)
            if min(width, height) < least:
                raise ImageError(f"{path} is {width}x{height} px; measuring x{factor} needs {least} px on each side")


def _facts(path: Path) -> tuple[int, int, bool]:
    """Width, height and whether the file has a single channel."""
    try:
        with path.open("rb") as file:
            image = open_image(file)
            return *image.size, len(image.getbands()) == 1 and image.mode != "P"
    except (ImageError, OSError) as error:
        raise ImageError(f"cannot read {path}: {error}") from None


def _upscaled(lr: Tensor, name: str, model: Upscaler | None, factor: int, device: torch.device | str) -> Tensor:
    with torch.no_grad():
        result = bicubic_resize(lr, factor) if model is None else model.upscale(lr.to(device)).cpu().float()
    expected = (*lr.shape[:2], factor * lr.shape[2], factor * lr.shape[3])
    if tuple(result.shape) != expected:
        raise InputError(f"{name} made {tuple(result.shape)} of {tuple(lr.shape)}; expected {expected}")
    return quantize(result)


def _example(factor: int, test_set: str, image: str, hr: Tensor, results: Mapping[str, Tensor]) -> Example:
    side = min(_CROP, *hr.shape[-2:])
    errors = (results[BICUBIC] - hr).square().sum(dim=1, keepdim=True)
    place = int(F.avg_pool2d(errors, side, stride=1).argmax())
    top, left = divmod(place, hr.shape[-1] - side + 1)
    inside = (0, slice(None), slice(top, top + side), slice(left, left + side))
    crops = {name: result[inside].clone() for name, result in results.items()}
    return Example(factor, test_set, image, hr[0], (left, top, side), crops)
