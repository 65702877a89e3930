"""Compare an exported file with its model, in ONNX Runtime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel

_SIDES = (117, 146)  # of the picture: no multiples of any stride, and small enough for an x8 upscaler


def compare(model: BaseStyle | UpscaleModel, path: Path, layout: str) -> float | None:
    """Return the largest difference between a file's result and the model's, for values in [0, 1].

    Args:
        model: The model, which computes in fp32.
        path: The ONNX file.
        layout: The file's layout, see `export`.

    Returns:
        The difference, or None if ONNX Runtime is not installed.
    """
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    picture = _picture(max(network.spec.smallest_side for network in model.networks))
    return float((run(session, picture, layout) - _expected(model, picture)).abs().max())


def tolerance(layout: str, half: bool) -> float:
    """Return the largest difference that is allowed: 1/255, or 4/255 in float16; rounding to bytes adds half of one."""
    return ((4 if half else 1) + (0.5 if layout == "uint8-nhwc" else 0)) / 255


def run(session: Any, picture: Tensor, layout: str) -> Tensor:
    """Return what a session of ONNX Runtime makes of (N, 3, H, W) in [0, 1], in the same form."""
    values = picture.numpy()
    if layout == "uint8-nhwc":
        values = picture.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    result = torch.from_numpy(session.run(None, {"image": values})[0])
    return result.permute(0, 3, 1, 2).float() / 255 if layout == "uint8-nhwc" else result


def _expected(model: BaseStyle | UpscaleModel, picture: Tensor) -> Tensor:
    if isinstance(model, UpscaleModel):
        return model.upscale(picture, precision="fp32")
    return model.stylize(picture, precision="fp32")


def _picture(least: int) -> Tensor:
    """Return a picture of clouds and fine grain, (1, 3, H, W) in 8 bits, always the same."""
    height, width = (max(side, least) for side in _SIDES)
    random = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, height, width)
    for side in (3, 9, 27, 81):
        grain = torch.rand(1, 3, side, side, generator=random) - 0.5
        picture += F.interpolate(grain, (height, width), mode="bilinear", align_corners=False) / side**0.5
    return picture.add(0.5).clamp(0, 1).mul(255).round() / 255
