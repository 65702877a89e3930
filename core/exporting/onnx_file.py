"""Models as ONNX files: for pictures of any size, RGB in, RGB out, nothing else to know."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..files import atomic_write
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..optional import need
from .comparison import Run, check
from .model_graph import add_model, facts_of

if TYPE_CHECKING:
    import onnx

PROGRAM = "ONNX Runtime"

_SIDES: dict[str, tuple[int | str, ...]] = {
    "float-nchw": ("N", 3, "height", "width"),
    "uint8-nhwc": ("N", "height", "width", 3),
}


def write(
    model: BaseStyle | UpscaleModel, target: Path, layout: str, half: bool, size: tuple[int, int] | None = None
) -> float | None:
    """Write a model as an ONNX file and return its largest difference from the model.

    Args:
        model: The model.
        target: The file.
        layout: float-nchw | uint8-nhwc.
        half: Whether the networks compute in float16.
        size: None, as the file takes pictures of any size.

    Returns:
        The difference, or None if ONNX Runtime is not installed.

    Raises:
        InputError: If the model has regions, or if the package onnx is missing.
        CheckpointError: If the file does not compute what the model computes.
        OSError: If the file cannot be written.
    """
    built = build(model, layout=layout, half=half)
    with atomic_write(target) as temporary:
        temporary.write_bytes(built.SerializeToString())
        run = runner(temporary, layout)
        return None if run is None else check(model, run, PROGRAM, layout, half)


def why_not_compared() -> str:
    """Return why `write` could not compare."""
    return 'not compared: ONNX Runtime is not installed (pip install "perceptual-style[onnx]")'


def runner(path: Path, layout: str) -> Run | None:
    """Return what runs a file in ONNX Runtime, or None if that is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda picture: _run(session, picture, layout)


def _run(session: Any, picture: Tensor, layout: str) -> Tensor:
    values = picture.numpy()
    if layout == "uint8-nhwc":
        values = picture.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    result = torch.from_numpy(session.run(None, {"image": values})[0])
    return result.permute(0, 3, 1, 2).float() / 255 if layout == "uint8-nhwc" else result


def build(model: BaseStyle | UpscaleModel, *, layout: str = "float-nchw", half: bool = False) -> onnx.ModelProto:
    """Return a model as an ONNX model (operator set 17); arguments and errors as in `write`."""
    need("onnx", "onnx", f"{model.name} becomes an ONNX file")
    from onnx import TensorProto, helper

    from .onnx_graph import OnnxGraph

    graph = OnnxGraph(half)
    image = "image"
    if layout == "uint8-nhwc":
        image = graph.add("Transpose", graph.cast(image, TensorProto.FLOAT), perm=[0, 3, 1, 2])
        with graph.float32():
            image = graph.binary("mul", image, 1 / 255)
    result = add_model(graph, model, image)
    if layout == "uint8-nhwc":
        with graph.float32():
            result = graph.add("Round", graph.binary("mul", result, 255.0))
        result = graph.add("Transpose", graph.cast(result, TensorProto.UINT8), perm=[0, 2, 3, 1])
    number = TensorProto.UINT8 if layout == "uint8-nhwc" else TensorProto.FLOAT
    factor, sides = model.spec.scale, _SIDES[layout]
    return graph.model(
        helper.make_tensor_value_info("image", number, sides),
        helper.make_tensor_value_info("result", number, [_scaled(side, factor) for side in sides]),
        result,
        facts_of(model) | {"layout": layout},
    )


def _scaled(side: int | str, factor: int) -> int | str:
    """Return the name of a side of the result."""
    return f"{factor} * {side}" if factor > 1 and side in ("height", "width") else side
