"""Compose pictures side by side, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images.writing import save_image

_GAP, _MARGIN, _LINE = 12, 16, 22  # px
_INK, _GREY = (20, 20, 20), (110, 110, 110)


def save_figure(path: Path, picture: Image.Image) -> None:
    """Write a picture, completely or not at all. Raises ImageError."""
    save_image(path, from_pillow(picture))


def in_a_row(panels: Sequence[tuple[Image.Image, str, Sequence[str]]]) -> Image.Image:
    """Return pictures side by side, each with a title and more lines of text below it."""
    width = 2 * _MARGIN + sum(panel.width for panel, _, _ in panels) + _GAP * (len(panels) - 1)
    height = max(panel.height for panel, _, _ in panels)
    text_height = _LINE * max(1 + len(lines) for _, _, lines in panels)
    canvas = Image.new("RGB", (width, _MARGIN + height + 8 + text_height + _MARGIN // 2), "white")
    draw, font, x = ImageDraw.Draw(canvas), ImageFont.load_default(16), _MARGIN
    for panel, title, lines in panels:
        canvas.paste(panel, (x, _MARGIN))
        y = _MARGIN + height + 8
        for text, ink in ((title, _INK), *((line, _GREY) for line in lines)):
            draw.text((x + panel.width / 2, y), _fitting(text, panel.width, font), ink, font, anchor="ma")
            y += _LINE
        x += panel.width + _GAP
    return canvas


def from_pillow(picture: Image.Image) -> Tensor:
    """Convert an RGB image to (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def to_pillow(pixels: Tensor) -> Image.Image:
    """Convert (3, H, W) in [0, 1] to an image of 8 bits."""
    return Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).numpy())


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text that is too long for ``width`` px."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
