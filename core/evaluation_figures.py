"""Pictures of what upscalers make, side by side, as the paper's figures 8 and 9."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .errors import ImageError
from .evaluate import Example, Row
from .images import save_image

_PANEL = 288  # px; a crop is enlarged by a whole number that fits
_GAP, _MARGIN, _LINE = 12, 16, 22
_INK, _GREY, _RED = (20, 20, 20), (110, 110, 110), (225, 30, 30)


def write_figures(examples: Sequence[Example], rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write one PNG for each example into ``folder``, as x4_Set5_img_003.png; returns their paths. Raises ImageError."""
    paths = []
    for example in examples:
        path = Path(folder) / f"x{example.factor}_{example.test_set}_{Path(example.image).stem}.png"
        if path in paths:
            raise ImageError(f"two images of {example.test_set} would both be shown in {path}; rename one of them")
        save_figure(path, figure(example, rows))
        paths.append(path)
    return paths


def save_figure(path: Path, picture: Image.Image) -> None:
    """Write a picture as our images are written, completely or not at all. Raises ImageError."""
    save_image(path, torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255)


def figure(example: Example, rows: Sequence[Row]) -> Image.Image:
    """The whole image with the crop's frame, then the crop: as it is in truth, and by each method.

    Below each method are PSNR and SSIM of this image, and the means of its test set from ``rows``.
    """
    left, top, side = example.box
    here = (slice(None), slice(top, top + side), slice(left, left + side))
    panels = [(_framed(example), example.image, [])]
    panels.append(
        (_enlarged(example.whole[here]), "ground truth", ["this image, PSNR / SSIM", f"{example.test_set} mean"])
    )
    of_method = {row.method: row for row in rows if (row.factor, row.test_set) == (example.factor, example.test_set)}
    for name, crop in example.crops.items():
        row = of_method[name]
        values = [f"{each['psnr']:.2f} / {each['ssim']:.4f}" for each in (row.images[example.image], row.measures)]
        panels.append((_enlarged(crop), f"{name} x{example.factor}", values))

    return in_a_row(panels)


def in_a_row(panels: Sequence[tuple[Image.Image, str, Sequence[str]]]) -> Image.Image:
    """Pictures side by side, below each its title and up to two more lines."""
    width = 2 * _MARGIN + sum(panel.width for panel, _, _ in panels) + _GAP * (len(panels) - 1)
    height = max(panel.height for panel, _, _ in panels)
    canvas = Image.new("RGB", (width, _MARGIN + height + 8 + 3 * _LINE + _MARGIN // 2), "white")
    draw, font, x = ImageDraw.Draw(canvas), ImageFont.load_default(16), _MARGIN
    for panel, title, lines in panels:
        canvas.paste(panel, (x, _MARGIN))
        y = _MARGIN + height + 8
        for text, ink in ((title, _INK), *((line, _GREY) for line in lines)):
            draw.text((x + panel.width / 2, y), _fitting(text, panel.width, font), ink, font, anchor="ma")
            y += _LINE
        x += panel.width + _GAP
    return canvas


def _enlarged(crop: Tensor) -> Image.Image:
    """Pixels as squares, so that nothing is seen that is not there."""
    image = to_pillow(crop)
    times = max(1, _PANEL // max(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _framed(example: Example) -> Image.Image:
    """The whole image as high as the crops, with the crop's frame."""
    image = to_pillow(example.whole)
    left, top, side = example.box
    scale = side * max(1, _PANEL // side) / image.height
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    corners = [round(each * scale) for each in (left, top, left + side, top + side)]
    ImageDraw.Draw(image).rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], outline=_RED, width=2)
    return image


def to_pillow(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], of 8 bits."""
    return Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).numpy())


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """``text``, its end cut off where it is too long."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
