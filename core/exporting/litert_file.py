"""Models as LiteRT files, for apps on Android and other devices: for pictures of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import atomic_write
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..optional import need
from .comparison import Run, check
from .litert_graph import LiteRTGraph
from .model_graph import add_model, facts_of

PROGRAM = "LiteRT"


def write(model: BaseStyle | UpscaleModel, target: Path, layout: str, half: bool, size: tuple[int, int]) -> float:
    """Write a model as a LiteRT file and return its largest difference from the model.

    Args:
        model: The model.
        target: The file.
        layout: float-nhwc | uint8-nhwc.
        half: Whether the weights are stored as float16.
        size: Width and height of the pictures.

    Raises:
        InputError: If the model has regions, or if the package ai-edge-litert is missing.
        CheckpointError: If the file does not compute what the model computes.
        OSError: If the file cannot be written.
    """
    built = build(model, layout=layout, half=half, size=size)
    with atomic_write(target) as temporary:
        temporary.write_bytes(built)
        return check(model, runner(temporary, layout), PROGRAM, layout, half, size)


def runner(path: Path, layout: str) -> Run:
    """Return what runs a file in LiteRT's interpreter. It does so without XNNPACK, which prints that it is there."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path), num_threads=torch.get_num_threads(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    return lambda picture: _run(interpreter, picture, layout)


def _run(interpreter: Any, picture: Tensor, layout: str) -> Tensor:
    values = picture.permute(0, 2, 3, 1)
    if layout == "uint8-nhwc":
        values = values.mul(255).round().byte()
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values.contiguous().numpy())
    interpreter.invoke()
    result = torch.from_numpy(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return result.permute(0, 3, 1, 2) / 255 if layout == "uint8-nhwc" else result.permute(0, 3, 1, 2)


def build(
    model: BaseStyle | UpscaleModel,
    *,
    layout: str = "float-nhwc",
    half: bool = False,
    size: tuple[int, int] = (512, 512),
) -> bytes:
    """Return the content of a model's LiteRT file; arguments and errors as in `write`."""
    need("ai_edge_litert", "litert", f"{model.name} becomes a LiteRT file")
    from ai_edge_litert import schema_py_generated as schema

    graph, kind = LiteRTGraph(schema, half), np.uint8 if layout == "uint8-nhwc" else np.float32
    image = values = graph.tensor((1, size[1], size[0], 3), kind, "image")
    if layout == "uint8-nhwc":
        values = graph.binary("mul", graph.cast(image, np.float32), 1 / 255)
    result = add_model(graph, model, values)
    if layout == "uint8-nhwc":
        scaled = graph.binary("mul", result, 255.0)
        result = graph.cast(graph.add("ROUND", [scaled], graph.shape(scaled)), np.uint8)
    facts = facts_of(model)
    return graph.file(image, result, facts.get("title", model.name), facts | {"layout": layout})
