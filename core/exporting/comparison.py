"""Compare an exported file with its model, in the program that runs such files."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError, first_line
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from .model_graph import smallest_side

#: What a program makes of a picture (1, 3, H, W) in [0, 1], in the same form
Run = Callable[[Tensor], Tensor]

#: Layouts whose results are rounded to bytes
BYTES = ("uint8-nhwc", "image")

_SIDES = (117, 146)  # of the picture: no multiples of any stride, and small enough for an x8 upscaler


def check(
    model: BaseStyle | UpscaleModel,
    run: Run,
    program: str,
    layout: str,
    half: bool,
    size: tuple[int, int] | None = None,
) -> float:
    """Return the largest difference between a file's result and the model's, for values in [0, 1].

    Args:
        model: The model, which computes in fp32.
        run: Runs the file.
        program: Name of the program that runs it.
        layout: The file's layout, see `export`.
        half: Whether the file computes in float16.
        size: Width and height of the pictures that the file takes. If it is None, it takes pictures of any size.

    Raises:
        CheckpointError: If they differ by more than `tolerance`, or if the program cannot run the file.
    """

    def reported(picture: Tensor) -> Tensor:
        try:
            return run(picture)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{program} cannot run the exported file: {first_line(error)}") from None

    difference = compare(model, reported, size)
    if not difference <= tolerance(layout, half):
        raise CheckpointError(
            f"the exported file differs from {model.name} by {255 * difference:.2f}/255 in {program}, expected at most "
            f"{255 * tolerance(layout, half):.0f}/255" + ("; export without half" if half else "; please report this")
        )
    return difference


def compare(model: BaseStyle | UpscaleModel, run: Run, size: tuple[int, int] | None = None) -> float:
    """Return the largest difference between a file's result and the model's; arguments as in `check`."""
    least = smallest_side(model)
    height, width = (size[1], size[0]) if size else (max(side, least) for side in _SIDES)
    picture = _picture(height, width)
    return float((run(picture) - _expected(model, picture)).abs().max())


def tolerance(layout: str, half: bool) -> float:
    """Return the largest difference that is allowed: 1/255, or 4/255 in float16; rounding to bytes adds half of one."""
    return ((4 if half else 1) + (0.5 if layout in BYTES else 0)) / 255


def _expected(model: BaseStyle | UpscaleModel, picture: Tensor) -> Tensor:
    if isinstance(model, UpscaleModel):
        return model.upscale(picture, precision="fp32")
    return model.stylize(picture, precision="fp32")


def _picture(height: int, width: int) -> Tensor:
    """Return a picture of clouds and fine grain, (1, 3, H, W) in 8 bits, always the same."""
    random = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, height, width)
    for side in (3, 9, 27, 81):
        grain = torch.rand(1, 3, side, side, generator=random) - 0.5
        picture += F.interpolate(grain, (height, width), mode="bilinear", align_corners=False) / side**0.5
    return picture.add(0.5).clamp(0, 1).mul(255).round() / 255
