"""Draw sheets of pictures: one photo in all styles, or a row for each photo with all styles side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..images.filters import fitted
from ..images.tensors import check_image
from ..models.stylizer import BaseStyle
from ..progress import Progress, ProgressCallback, part_of
from .panels import from_pillow, in_a_row, save_figure, to_pillow
from .yardstick import yardstick_photo

SMALLEST_SIDE, LARGEST_SIDE = 64, 2048  # px, of the pictures on a sheet
_SHAPE = 4 / 3  # width over height that a sheet should have

#: Paints a photo (1, 3, H, W) in a style, as `BaseStyle.stylize` does
Paint = Callable[[BaseStyle, Tensor, ProgressCallback | None], Tensor]


def style_sheet(
    photo: Tensor, styles: Sequence[tuple[str, BaseStyle]], *, side: int = 384, columns: int = 0,
    paint: Paint | None = None, progress: ProgressCallback | None = None,
) -> Tensor:  # fmt: skip
    """Return one photo in many styles, in rows of pictures with their names below. The photo itself comes first.

    Args:
        photo: (1, 3, H, W) RGB in [0, 1].
        styles: Names and styles, in the order of the pictures.
        side: Longest side of each picture, px. A smaller photo stays as it is.
        columns: Pictures in a row. 0 gives the sheet about the shape of a screen.
        paint: Function that paints the photo in a style, if not `BaseStyle.stylize`.
        progress: Progress of all pictures, with each one as a preview.

    Returns:
        (1, 3, H', W') in [0, 1], on the CPU. The sheet of equal photos and styles is equal.

    Raises:
        InputError: If there are no styles, or side or columns is out of range.
        ImageError: If the photo is wrong.
        NetworkError: If a network gives nan or infinite values.
    """
    check_image(photo)
    if not styles:
        raise InputError("there are no styles for the sheet; give at least one")
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise InputError(f"the size of the pictures is {side} px; expected {SMALLEST_SIDE} to {LARGEST_SIDE}")
    if columns < 0:
        raise InputError(f"columns is {columns}; expected 0 (automatic) or more")
    small = fitted(photo.detach().float(), side)
    panels: list[tuple[Image.Image, str, Sequence[str]]] = [(to_pillow(small[0].cpu()), "photo", ())]
    for number, (name, style) in enumerate(styles):
        step = _unfinished(part_of(progress, number, len(styles)))
        picture = style.stylize(small, progress=step) if paint is None else paint(style, small, step)
        panels.append((to_pillow(picture[0].float().cpu()), name, ()))
        if progress is not None:
            progress(Progress(number + 1, len(styles), preview=picture))
    height, width = small.shape[-2:]
    columns = columns or max(round(math.sqrt(_SHAPE * len(panels) * height / width)), 1)
    rows = [in_a_row(panels[first : first + columns]) for first in range(0, len(panels), columns)]
    return from_pillow(_stacked(rows))[None]


def _unfinished(progress: ProgressCallback | None) -> ProgressCallback | None:
    """Return a callback that leaves out the last report of a picture: another one with a preview follows."""
    if progress is None:
        return None
    return lambda state: progress(state) if state.done % state.total else None


def write_sheet(
    path: str | Path, models: Sequence[BaseStyle], photos: Sequence[Path], device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> Path:  # fmt: skip
    """Write a sheet of photos in all styles, at the size in which the yardstick measures them.

    Args:
        path: Image file to write.
        models: The styles, in the order of the columns.
        photos: Photo files, in the order of the rows.
        device: Device to compute on.
        progress: Called after each picture.

    Returns:
        The path.

    Raises:
        ImageError: If a photo cannot be read or the sheet cannot be written.
    """
    contents = [yardstick_photo(photo) for photo in photos]
    width = max(content.shape[-1] for content in contents)
    rows: list[Image.Image] = []
    for photo, content in zip(photos, contents, strict=True):
        panels: list[tuple[Image.Image, str, list[str]]] = [(_widened(content, width), photo.name, [])]
        for model in models:
            picture = model.stylize(content.to(device), precision="fp32").cpu()
            panels.append((_widened(picture, width), model.name, []))
            if progress is not None:
                progress(Progress(len(rows) * len(models) + len(panels) - 1, len(photos) * len(models)))
        rows.append(in_a_row(panels))
    save_figure(Path(path), _stacked(rows))
    return Path(path)


def _widened(picture: Tensor, width: int) -> Image.Image:
    """Return a picture (1, 3, H, W) in the middle of a white canvas of this width, so that columns are straight."""
    image = to_pillow(picture[0])
    canvas = Image.new("RGB", (width, image.height), "white")
    canvas.paste(image, ((width - image.width) // 2, 0))
    return canvas


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas
