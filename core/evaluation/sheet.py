"""Draw a sheet of pictures: a row for each photo, with the pictures of all styles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..models.stylizer import BaseStyle
from ..progress import Progress, ProgressCallback
from .panels import in_a_row, save_figure, to_pillow
from .yardstick import yardstick_photo


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
