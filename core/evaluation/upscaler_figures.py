"""Draw the results of upscalers side by side, as in the paper's figures 8 and 9."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import ImageError
from .panels import in_a_row, save_figure, to_pillow
from .upscalers import Example, Row

_PANEL = 288  # px; crops are enlarged by the largest whole number that fits
_RED = (225, 30, 30)


def write_figures(examples: Sequence[Example], rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write one PNG per example into ``folder``, such as x4_Set5_img_003.png, and return their paths.

    Raises ImageError.
    """
    paths = []
    for example in examples:
        path = Path(folder) / f"x{example.factor}_{example.test_set}_{Path(example.image).stem}.png"
        if path in paths:
            raise ImageError(f"two images of {example.test_set} would both be shown in {path}; rename one of them")
        save_figure(path, figure(example, rows))
        paths.append(path)
    return paths


def figure(example: Example, rows: Sequence[Row]) -> Image.Image:
    """Draw the whole image with a frame around the crop, then the original crop and the crop by each method.

    Below each method are PSNR and SSIM of this image, and the means of its test set from ``rows``.
    """
    left, top, side = example.box
    here = (slice(None), slice(top, top + side), slice(left, left + side))
    panels: list[tuple[Image.Image, str, list[str]]] = [(_framed(example), example.image, [])]
    panels.append(
        (_enlarged(example.whole[here]), "ground truth", ["this image, PSNR / SSIM", f"{example.test_set} mean"])
    )
    of_method = {row.method: row for row in rows if (row.factor, row.test_set) == (example.factor, example.test_set)}
    for name, crop in example.crops.items():
        row = of_method[name]
        values = [f"{each['psnr']:.2f} / {each['ssim']:.4f}" for each in (row.images[example.image], row.measures)]
        panels.append((_enlarged(crop), f"{name} x{example.factor}", values))
    return in_a_row(panels)


def _enlarged(crop: Tensor) -> Image.Image:
    """Enlarge pixels to squares, so that the figure adds no smoothness."""
    image = to_pillow(crop)
    times = max(1, _PANEL // max(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _framed(example: Example) -> Image.Image:
    """Draw the whole image as high as the crops, with a frame around the crop."""
    image = to_pillow(example.whole)
    left, top, side = example.box
    scale = side * max(1, _PANEL // side) / image.height
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    corners = [round(each * scale) for each in (left, top, left + side, top + side)]
    ImageDraw.Draw(image).rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], outline=_RED, width=2)
    return image
