"""Find the image files in folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from ..errors import ImageError
from .failures import reason

#: Suffixes of the files that count as images in a folder
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2",
    ".ppm", ".pgm", ".pnm", ".tga", ".qoi",
)  # fmt: skip


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return files as they are given, and for a folder all images in it and below it; each file once.

    The images of a folder are sorted as in `natural_order`. In folders only IMAGE_SUFFIXES count, and hidden names do not.
    Links to folders are followed, each folder once.

    A pattern such as ``photos/*.jpg``, which some shells leave alone, stands for the files that match it.

    Raises:
        ImageError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    for path in expanded([paths] if isinstance(paths, (str, Path)) else paths):
        if not path.exists():
            raise ImageError(f"{path} does not exist; expected an image file or a folder with images")
        inside = sorted(_walk(path), key=natural_order) if path.is_dir() else [path]
        if not inside:
            raise ImageError(f"the folder {path} has no images; expected files like *.jpg or *.png in it or below it")
        found += inside
    return list(dict.fromkeys(found))


def expanded(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield paths, with those that match in place of a pattern. Raises ImageError if nothing matches."""
    for path in paths:
        if not glob.has_magic(str(path)) or Path(path).exists():
            yield Path(path)
        elif found := glob.glob(str(path), recursive=True):
            yield from sorted(map(Path, found), key=natural_order)
        else:
            raise ImageError(
                f"{path} matches no file; expected image files, a folder, or a pattern such as photos/*.jpg"
            )


def natural_order(path: PurePath) -> tuple[list[list[str | int]], str]:
    """Return a key that sorts paths by their parts, with numbers in them as numbers: frame2 comes before frame10."""
    parts = [re.split(r"(\d+)", part) for part in path.parts]
    return [[int(each) if i % 2 else each for i, each in enumerate(part)] for part in parts], str(path)


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
