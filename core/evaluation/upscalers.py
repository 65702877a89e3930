"""Measure upscalers on test sets, by the published protocol of super-resolution.

For a factor f, an image is cropped to a multiple of f, reduced bicubically (as in MATLAB) and rounded to 8 bits. It is
then upscaled, rounded to 8 bits, and compared with the original. PSNR and SSIM are computed on Y (for grey files on
their values), without a border of f pixels. The other measures are computed on whole images. The mesh peak (mesh.py) is
measured on all images of a test set together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, InputError
from ..images.folders import find_images
from ..images.pillow import open_image
from ..images.reading import open_file, read_image
from ..images.resample import bicubic_resize, crop_to_multiple, degrade
from ..images.tensors import quantize
from ..losses.loss_network import LossNetwork
from ..losses.metrics import Lpips, StructureTexture, perceptual_distance, psnr, ssim
from ..progress import Progress, ProgressCallback
from .mesh import MeshMeter

BICUBIC = "bicubic"
MESH_PEAK = "mesh peak"
_SMALLEST_LEFT = 11  # px that SSIM's window needs inside the border
_SMALLEST = 17  # px that the measures' networks need
_CROP = 96  # side in px of the crop that a figure shows, in the high resolution image


class Upscaler(Protocol):
    """Anything that can be measured, such as UpscaleModel."""

    @property
    def scale(self) -> int:
        """Side of the result relative to the image's."""

    def upscale(self, image: Tensor) -> Tensor:
        """Enlarge (N, 3, h, w) to (N, 3, scale h, scale w), both in [0, 1]."""


@dataclass(frozen=True)
class Row:
    """Results of one method on one test set.

    Attributes:
        factor: The factor.
        method: Name of the method.
        test_set: Name of the test set.
        measures: Means by name of the measure ("psnr", "ssim", ...), and the mesh peak.
        images: The same measures for each image, by file name, except for the mesh peak.
    """

    factor: int
    method: str
    test_set: str
    measures: Mapping[str, float]
    images: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One image for a figure.

    Attributes:
        factor: The factor.
        test_set: Name of the test set.
        image: File name.
        whole: The whole image, (3, H, W).
        box: Left, top and side of the crop.
        crops: The crop of each method's result, by method.
    """

    factor: int
    test_set: str
    image: str
    whole: Tensor
    box: tuple[int, int, int]
    crops: Mapping[str, Tensor]


def find_test_sets(folder: str | Path) -> dict[str, list[Path]]:
    """Return image files by test set. Each subfolder of a folder is a test set, and so are images directly in it.

    Raises ImageError if there is no such folder, or it has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; expected one with a subfolder of images for each test set")
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
    structure_texture: StructureTexture | None = None,
    examples: int = 0,
    device: torch.device | str = "cpu",
    progress: ProgressCallback | None = None,
) -> tuple[list[Row], list[Example]]:
    """Measure bicubic upscaling, and each model for its factor.

    Args:
        test_sets: Image files by test set, see `find_test_sets`.
        models: Upscalers by name.
        factors: Factors to measure.
        loss_network: Loss network for the perceptual distance at relu2_2 of VGG-16. If None, it is not measured.
        lpips: Network for LPIPS. If None, LPIPS is not measured.
        structure_texture: Network for a distance like DISTS. If None, it is not measured.
        examples: Number of images per test set, evenly spread, to return as examples. Each shows the crop where bicubic
            upscaling has its largest errors.
        device: Device of models and loss networks.
        progress: Called after each image of each method.

    Returns:
        Rows by factor, test set and method, and the examples.

    Raises:
        ImageError: If an image cannot be read or is too small (before any work).
        InputError: If a factor is below 2 or a model has another scale or a reserved name (before any work), or if a
            result has the wrong size.
    """
    _check(test_sets, models, factors)
    measures = _measures(loss_network, lpips, structure_texture, device)
    methods: dict[int, dict[str, Upscaler | None]] = {
        factor: {BICUBIC: None} | {name: model for name, model in models.items() if model.scale == factor}
        for factor in factors
    }
    total = sum(len(files) for files in test_sets.values()) * sum(map(len, methods.values()))
    done = count(1)

    def report() -> None:
        if progress is not None:
            progress(Progress(next(done), total))

    rows, kept = [], []
    for factor in factors:
        for test_set, files in test_sets.items():
            shown = {files[(2 * i + 1) * len(files) // (2 * examples)] for i in range(examples)}
            found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in methods[factor]}
            meshes = {name: MeshMeter() for name in methods[factor]}
            for path in files:
                hr, results = crop_to_multiple(read_image(path).filled, factor), {}
                for name, result, values in _measured(path, hr, factor, methods[factor], measures, device):
                    results[name], found[name][path.name] = result, values
                    meshes[name].add(result, hr)
                    report()
                if path in shown:
                    kept.append(_example(factor, test_set, path.name, hr, results))
            for name, images in found.items():
                means = {key: sum(each[key] for each in images.values()) / len(images) for key in measures}
                means[MESH_PEAK] = meshes[name].peak().ratio
                rows.append(Row(factor, name, test_set, means, images))
    return rows, kept


def _check(test_sets: Mapping[str, Sequence[Path]], models: Mapping[str, Upscaler], factors: Sequence[int]) -> None:
    for name, model in models.items():
        if model.scale not in factors:
            wanted = ", ".join(f"x{factor}" for factor in factors)
            raise InputError(
                f"{name} upscales x{model.scale}, but the factors to measure are {wanted}; add its factor, or omit it"
            )
        if name == BICUBIC:
            raise InputError(f"a model cannot be named {BICUBIC}, which is the name of the method to compare with")
    for factor in factors:
        if factor < 2:
            raise InputError(f"the factor is {factor}; expected 2 or more, such as 4 or 8")
    for path in (path for files in test_sets.values() for path in files):
        for factor in factors:
            least = max(_SMALLEST_LEFT + 2 * factor, _SMALLEST)
            least += -least % factor
            width, height, _ = _inspect(path)
            if min(width, height) < least:
                raise ImageError(f"{path} is {width}x{height} px; measuring x{factor} needs {least} px on each side")


def _inspect(path: Path) -> tuple[int, int, bool]:
    """Return width, height and whether the file has a single channel."""
    with open_file(path) as file:
        try:
            image = open_image(file)
        except (ImageError, OSError) as error:
            raise ImageError(f"cannot read {path}: {error}") from None
        return *image.size, len(image.getbands()) == 1 and image.mode != "P"


def _measures(
    loss_network: LossNetwork | None, lpips: Lpips | None, structure_texture: StructureTexture | None,
    device: torch.device | str,
) -> dict[str, Callable[[Tensor, Tensor, int, bool], Tensor]]:  # fmt: skip
    """Return measures by name: functions of result, original, border in px, and whether the file is grey."""
    measures: dict[str, Callable[[Tensor, Tensor, int, bool], Tensor]] = {"psnr": psnr, "ssim": ssim}
    if loss_network is not None:
        loss_network.to(device)
        measures["perceptual distance"] = lambda x, y, *_: perceptual_distance(
            x.to(device), y.to(device), loss_network, "relu2_2"
        )
    if lpips is not None:
        measures[f"LPIPS ({lpips.variant})"] = lambda x, y, *_: lpips(x.to(device), y.to(device))
    if structure_texture is not None:
        name = f"structure and texture ({structure_texture.network.name})"
        measures[name] = lambda x, y, *_: structure_texture(x.to(device), y.to(device))
    return measures


def _measured(
    path: Path, hr: Tensor, factor: int, methods: Mapping[str, Upscaler | None],
    measures: Mapping[str, Callable[[Tensor, Tensor, int, bool], Tensor]], device: torch.device | str,
) -> Iterator[tuple[str, Tensor, dict[str, float]]]:  # fmt: skip
    """Yield each method's name, its result for an image, and the result's measures by name."""
    lr, grey = degrade(hr, factor), _inspect(path)[2]
    for name, model in methods.items():
        result = _upscaled(lr, name, model, factor, device)
        with torch.no_grad():
            values = {key: float(measure(result, hr, factor, grey)) for key, measure in measures.items()}
        yield name, result, values


def _upscaled(lr: Tensor, name: str, model: Upscaler | None, factor: int, device: torch.device | str) -> Tensor:
    with torch.no_grad():
        result = bicubic_resize(lr, factor) if model is None else model.upscale(lr.to(device)).cpu().float()
    expected = (*lr.shape[:2], factor * lr.shape[2], factor * lr.shape[3])
    if tuple(result.shape) != expected:
        raise InputError(f"{name} returned {tuple(result.shape)} for {tuple(lr.shape)}; expected {expected}")
    return quantize(result)


def _example(factor: int, test_set: str, image: str, hr: Tensor, results: Mapping[str, Tensor]) -> Example:
    side = min(_CROP, *hr.shape[-2:])
    errors = (results[BICUBIC] - hr).square().sum(dim=1, keepdim=True)
    place = int(F.avg_pool2d(errors, side, stride=1).argmax())
    top, left = divmod(place, hr.shape[-1] - side + 1)
    inside = (0, slice(None), slice(top, top + side), slice(left, left + side))
    crops = {name: result[inside].clone() for name, result in results.items()}
    return Example(factor, test_set, image, hr[0], (left, top, side), crops)
