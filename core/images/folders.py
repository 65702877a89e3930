"""Find the image files in folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

from ..errors import ImageError
from .failures import reason
from .pillow import is_known, read_suffixes, reads_heif

#: Suffixes of pictures and videos that are not read as images, or only with an optional package
OTHER_SUFFIXES = (
    ".jxl", ".jxr", ".exr", ".hdr", ".svg", ".xcf", ".kra", ".psb", ".pam", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
    ".orf", ".rw2", ".pef", ".srw", ".dds", ".ico", ".icns", ".pcx", ".sgi", ".xbm", ".xpm", ".eps", ".pdf", ".fits",
    ".avif", ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".ogv",
)  # fmt: skip
HEIF_SUFFIXES = (".heic", ".heif", ".hif")


def is_image_file(name: str) -> bool:
    """Return whether a file in a folder counts as an image, by its suffix."""
    suffix = PurePath(name).suffix.lower()
    return suffix in read_suffixes() or (suffix in HEIF_SUFFIXES and reads_heif())


def passed_over(paths: Iterable[str | Path]) -> list[Path]:
    """Return the pictures and videos in folders that `find_images` leaves out.

    They are in formats that are not read, or their names have no suffix.
    """
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    others = (*OTHER_SUFFIXES, *HEIF_SUFFIXES)
    found = (each for folder in folders for each in _walk(folder, lambda name: not is_image_file(name)))
    pictures = (each for each in found if each.suffix.lower() in others or (not each.suffix and _is_picture(each)))
    return sorted(pictures, key=natural_order)


def _is_picture(path: Path) -> bool:
    """Return whether the first bytes of a file are those of an image."""
    try:
        if not path.is_file():  # opening a pipe waits for whoever writes to it
            return False
        with path.open("rb") as file:
            return is_known(file.read(16))
    except OSError:
        return False


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return files as they are given, and for a folder all images in it and below it; each file once.

    The images of a folder are sorted as in `natural_order`. In folders only files count whose suffix says
    that they are images (`is_image_file`), and hidden names do not. Links to folders are followed, each folder once.

    A pattern such as ``photos/*.jpg``, which some shells leave alone, stands for the files that match it.

    Raises:
        ImageError: a path does not exist, or a folder has no images.
    """
    found: list[Path] = []
    for path in expanded([paths] if isinstance(paths, (str, Path)) else paths):
        if not path.exists():
            raise ImageError(f"{path} does not exist; expected an image file or a folder with images")
        inside = sorted(_walk(path, is_image_file), key=natural_order) if path.is_dir() else [path]
        if not inside:
            others = passed_over([path])
            more = f"; {others[0].name} is in an unsupported format" if others else ""
            raise ImageError(
                f"the folder {path} has no images; expected files like *.jpg or *.png in it or below it{more}"
            )
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


def _walk(folder: Path, counts: Callable[[str], bool]) -> Iterable[Path]:
    def fail(error: OSError) -> None:
        raise ImageError(f"cannot list the folder {error.filename}: {reason(error)}")

    seen: set[str] = set()  # a link may lead back to a folder above it
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files if name[0] != "." and counts(name))
