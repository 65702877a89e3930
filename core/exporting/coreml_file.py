"""Models as Core ML packages, for apps on iOS and macOS. They are built without tracing, and run on macOS only."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files import atomic_folder
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..optional import need
from .comparison import Run, check
from .coreml_graph import CoreMLGraph
from .model_graph import LARGEST_SIDE, add_model, facts_of, smallest_side

PROGRAM = "Core ML"

_USUAL = 512  # px; Core ML wants a side to show
_PARTS = {"Manifest.json", "Data"}  # of a package


def write(
    model: BaseStyle | UpscaleModel, target: Path, layout: str, half: bool, size: tuple[int, int] | None = None
) -> float | None:
    """Write a model as a Core ML package, which is a folder, and return its largest difference from the model.

    Args:
        model: The model.
        target: The folder. An older package there is replaced.
        layout: float-nchw | image.
        half: Whether the networks compute in float16.
        size: Width and height of the pictures. If it is None, both are free, up to 8192 px.

    Returns:
        The difference, or None where Core ML does not run.

    Raises:
        InputError: If something else is at ``target``, if the model has regions, or if the package coremltools is missing.
        CheckpointError: If the file does not compute what the model computes.
        OSError: If the file cannot be written.
    """
    if target.exists() and not _is_package(target):
        raise InputError(f"{target} exists and is not a Core ML package; choose another name")
    built = build(model, layout=layout, half=half, size=size)
    with atomic_folder(target) as temporary:
        with _quiet():
            built.save(str(temporary))
        run = runner(temporary, layout)
        return None if run is None else check(model, run, PROGRAM, layout, half, size)


def why_not_compared() -> str:
    """Return why `write` could not compare."""
    return "not verified here: Core ML runs on macOS only"


def runner(path: Path, layout: str) -> Run | None:
    """Return what runs a package in Core ML, or None on other systems."""
    if sys.platform != "darwin":
        return None
    coreml = _coremltools("the model")
    with _quiet():
        program = coreml.models.MLModel(str(path), compute_units=coreml.ComputeUnit.CPU_ONLY)
    return lambda picture: _run(program, picture, layout)


def _run(program: Any, picture: Tensor, layout: str) -> Tensor:
    try:
        if layout == "float-nchw":
            return torch.from_numpy(np.asarray(program.predict({"image": picture.numpy()})["result"], np.float32))
        from PIL import Image

        pixels = picture[0].mul(255).round().byte().permute(1, 2, 0).numpy()
        result = program.predict({"image": Image.fromarray(pixels)})["result"].convert("RGB")
    except Exception as error:  # coremltools raises this one
        raise RuntimeError(str(error)) from error
    return torch.from_numpy(np.array(result)).permute(2, 0, 1)[None] / 255


def build(
    model: BaseStyle | UpscaleModel,
    *,
    layout: str = "float-nchw",
    half: bool = False,
    size: tuple[int, int] | None = None,
) -> Any:
    """Return a model as an MLModel of coremltools, for iOS 15 and macOS 12; arguments and errors as in `write`."""
    coreml = _coremltools(model.name)
    from coremltools.converters.mil import Builder

    least = smallest_side(model)
    sides: list[Any] = [*size[::-1]] if size else [
        coreml.RangeDim(least, LARGEST_SIDE, default=max(_USUAL, least)) for _ in range(2)
    ]  # fmt: skip
    symbols = [side if isinstance(side, int) else side.symbol for side in sides]

    with _quiet():

        @Builder.program(input_specs=[Builder.TensorSpec((1, 3, *symbols))], opset_version=coreml.target.iOS15)
        def program(image: Any) -> Any:
            graph = CoreMLGraph(Builder, half)
            result = add_model(graph, model, image)
            if layout == "image":  # bytes go in as numbers from 0 to 1, and come out of numbers from 0 to 255
                result = Builder.round(x=Builder.mul(x=result, y=np.float32(255)))
            return Builder.identity(x=result, name="result")

        shape = (1, 3, *sides)
        kinds = [coreml.TensorType("image", shape)], [coreml.TensorType("result")]
        if layout == "image":
            colors = coreml.colorlayout.RGB
            kinds = (
                [coreml.ImageType("image", shape, scale=1 / 255, color_layout=colors)],
                [coreml.ImageType("result", color_layout=colors)],
            )
            program.functions["main"].set_output_types(kinds[1])
        built = coreml.convert(
            program, inputs=kinds[0], convert_to="mlprogram", minimum_deployment_target=coreml.target.iOS15,
            compute_precision=coreml.precision.FLOAT32, skip_model_load=True,
        )  # fmt: skip
    return _described(built, facts_of(model) | {"layout": layout})


def _described(built: Any, facts: dict[str, str]) -> Any:
    """Fill in what Xcode shows, and all facts by their names."""
    built.short_description = facts.get("title", facts["name"])
    built.author, built.license, built.version = facts.get("credit", ""), facts["license"], facts["version"]
    built.user_defined_metadata.update(facts)
    return built


def _coremltools(name: str) -> ModuleType:
    with _quiet():
        return need("coremltools", "coreml", f"{name} becomes a Core ML file")


def _is_package(folder: Path) -> bool:
    return folder.is_dir() and {each.name for each in folder.iterdir()} == _PARTS


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars and warnings of coremltools to itself in the ``with`` block; it has no option for that."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
