"""Find the image files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ImageError
from .failures import reason

#: Suffixes of the files that count as images in a folder
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2",
    ".ppm", ".pgm", ".pnm", ".tga", ".qoi",
)  # fmt: skip


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return files as they are given, and for a folder all images in it and below it, sorted; each file once.

    In folders only IMAGE_SUFFIXES count, and hidden names do not. Links to folders are followed, each folder once.

    Raises:
        ImageError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if not path.exists():
            raise ImageError(f"{path} does not exist; expected an image file or a folder with images")
        inside = sorted(_walk(path)) if path.is_dir() else [path]
        if not inside:
            raise ImageError(f"the folder {path} has no images; expected files like *.jpg or *.png in it or below it")
        found += inside
    return list(dict.fromkeys(found))


def _walk(folder: Path) -> Iterable[Path]:
    def fail(error: OSError) -> None:
        raise ImageError(f"cannot list the folder {error.filename}: {reason(error)}")

    seen: set[str] = set()  # a link may lead back to a folder above it
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES))
