"""Read photos from, and write results to, local paths and buckets, which are given as URIs like ``s3://bucket/photos``.

pyarrow's file systems read and write URIs, as in Ray Data: S3, Google Cloud, Azure, HDFS, Hugging Face (hf://). No
result is ever left half-written, on disks or in buckets.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from urllib.request import url2pathname

from ..errors import ImageError, InputError, first_line
from ..files import is_same_file
from ..images.folders import (
    HEIF_SUFFIXES,
    OTHER_SUFFIXES,
    expanded,
    find_images,
    is_image_file,
    natural_order,
    passed_over,
)
from ..images.reading import ImageFile, open_file
from ..images.writing import (
    check_format,
    check_target,
    encode_images,
    holds_frames,
    is_image_name,
    save_images,
    writable_name,
)
from ..optional import need


@dataclass(frozen=True)
class Job:
    """One photo to process.

    Attributes:
        source: Path or URI of the photo.
        target: Path or URI for its result.
        new: Whether the target did not exist when the job was planned.
    """

    source: str
    target: str
    new: bool = True


def plan_jobs(sources: Sequence[str], output: str, kept: Sequence[str] = ()) -> list[Job]:
    """Return the jobs for photos and folders of photos. A photo in a folder keeps its path below that folder.

    Args:
        sources: Paths or URIs of photos and folders.
        output: A folder or, for a single photo, a file or a folder. It is a file if it has a suffix and is no folder.
        kept: Further files that are read and must not be replaced, such as a mask.

    Raises:
        InputError: If a photo would be replaced, if two would get the same target, or if the output is a file and
            must be a folder.
        ImageError: If a photo does not exist, or a folder has none.
    """
    sources = [each for source in sources for each in _expanded(_plain(source))]
    output = _plain(output)
    single = len(sources) == 1 and not _is_folder(sources[0])
    if single and _suffix(output) and not _is_folder(output):
        pairs = [(sources[0], output)]
    elif _suffix(output) and not is_uri(output) and Path(output).is_file():
        raise InputError(f"{output} is a file; for more than one photo, or for a folder, the output must be a folder")
    else:
        pairs = [(photo, _join(output, writable_name(below))) for source in sources for photo, below in _photos(source)]
        if not single and is_image_name(_split(output)[0]) and not _is_folder(output):
            raise InputError(
                f"{output} is the name of one image; for more than one photo, or for a folder, give a folder as the output"
            )
    photos = {_identity(photo) for photo in (*kept, *(photo for photo, _ in pairs))}
    targets: dict[str, str] = {}
    for photo, target in pairs:
        if _identity(target) in photos or _same_file(photo, target):
            raise InputError(f"{target} is read and would be replaced; choose another output")
        if targets.setdefault(target, photo) != photo:
            raise InputError(f"{photo} and {targets[target]} would both go to {target}; process them separately")
    there = _existing(targets)
    return [Job(photo, target, target not in there) for target, photo in targets.items()]


@contextlib.contextmanager
def open_photo(place: str) -> Iterator[BinaryIO]:
    """Open the file of a photo; from a bucket, read all of it first. Raises ImageError."""
    if not is_uri(place):
        with open_file(place) as file:
            yield file
        return
    with _explained(f"cannot read {place}"):
        system, path = _resolve(place)
        with system.open_input_stream(path, compression=None) as stream:
            content = stream.read()
    yield io.BytesIO(content)


def check_result(place: str, height: int, width: int) -> None:
    """Raise ImageError before long work if `write_photo` could not write a result of this size."""
    if not is_uri(place):
        check_target(place)
    check_format(_split(place)[0], height, width)


def takes_frames(place: str) -> bool:
    """Return whether the format of a place holds several frames or pages."""
    return holds_frames(_split(place)[0])


def write_photo(place: str, images: Iterable[ImageFile]) -> str | None:
    """Write an image, or frames, to a path or a URI. Return a warning as `save_image` does. Raises ImageError."""
    if not is_uri(place):
        return save_images(place, images)
    content, warning = encode_images(_split(place)[0], images)
    with _explained(f"cannot write {place}"):
        system, path = _resolve(place)
        # Buckets show an object only once it is complete; HDFS would show half a file.
        final, path = path, f"{path}.part" if system.type_name == "hdfs" else path
        with system.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        if path != final:
            system.move(path, final)
    return warning


def is_uri(place: str) -> bool:
    """Return whether a place is a URI rather than a path."""
    return "://" in place


def is_there(place: str) -> bool:
    """Return whether a file or object exists at a place."""
    return place in _existing([place])


def _photos(place: str) -> Iterable[tuple[str, str]]:
    """Yield the photos at or below a place, each with its path below it, with slashes."""
    if not is_uri(place):
        for photo in find_images([place]):
            name = photo.relative_to(place) if Path(place).is_dir() else Path(photo.name)
            yield str(photo), name.as_posix()
        return
    if not _is_folder(place):
        yield place, PurePosixPath(_split(place)[0]).name
        return
    kept = [each for each in _below(place) if is_image_file(each.name)]
    if not kept:
        raise ImageError(f"{place} has no images; expected files like *.jpg or *.png in it or in its subfolders")
    for each in kept:
        yield _join(place, each.as_posix()), each.as_posix()


def _below(place: str) -> list[PurePosixPath]:
    """Return the files below a folder of a bucket, but for hidden ones."""
    system, path = _resolve(place)
    with _explained(f"cannot list {place}"):
        found = system.get_file_info(_arrow(place).FileSelector(path, recursive=True))
    below = (PurePosixPath(each.path).relative_to(path) for each in found if each.is_file)
    return sorted((each for each in below if not any(part[0] == "." for part in each.parts)), key=natural_order)


def left_out(sources: Sequence[str]) -> list[PurePath]:
    """Return the pictures and videos in folders that `plan_jobs` leaves out, because they are not read."""
    found: list[PurePath] = []
    for place in (each for source in sources for each in _expanded(_plain(source))):
        if not is_uri(place):
            found += passed_over([place])
        elif _is_folder(place):
            others = (*OTHER_SUFFIXES, *HEIF_SUFFIXES)
            found += [each for each in _below(place) if each.suffix.lower() in others and not is_image_file(each.name)]
    return found


def _existing(places: Iterable[str]) -> set[str]:
    """Return the places where a file or object exists."""
    places = list(places)
    found = {place for place in places if not is_uri(place) and os.path.exists(place)}
    uris = [place for place in places if is_uri(place)]
    if uris:
        system, _ = _resolve(uris[0])  # all are below one output
        with _explained(f"cannot access {uris[0]}"):
            infos = system.get_file_info([_resolve(uri)[1] for uri in uris])
        found |= {uri for uri, info in zip(uris, infos, strict=True) if info.is_file}
    return found


def _is_folder(place: str) -> bool:
    if not is_uri(place):
        return Path(place).is_dir()
    system, path = _resolve(place)
    with _explained(f"cannot access {place}"):
        return system.get_file_info(path).type == _arrow(place).FileType.Directory


def _resolve(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it. Raises InputError."""
    path, options = _split(uri)
    folder, _, name = path.rpartition("/")
    if folder.endswith(":/"):  # a bucket
        return _open(uri)
    system, above = _open(folder + options)
    return system, f"{above}/{unquote(name)}"


@lru_cache(maxsize=64)
def _open(uri: str) -> tuple[Any, str]:
    """Resolve a URI once: an S3 file system searches for credentials, which takes time."""
    filesystem = _arrow(uri).FileSystem
    try:
        return filesystem.from_uri(uri.replace(" ", "%20"))
    except Exception as error:
        raise InputError(f"{uri}: {_line(error)}; expected a path, or a URI such as s3://bucket/photos") from None


def _arrow(uri: str) -> ModuleType:
    return need("pyarrow.fs", "ray", f"{uri} is a URI")


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each file system has its own errors
        raise ImageError(f"{what}: {_line(error)}") from None


def _line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return first_line(error)


def _split(uri: str) -> tuple[str, str]:
    """Return a URI without its options, and the options with their question mark."""
    path, mark, options = uri.partition("?") if is_uri(uri) else (uri, "", "")
    return path, mark + options


def _suffix(place: str) -> str:
    return PurePosixPath(_split(place)[0]).suffix if is_uri(place) else Path(place).suffix


def _join(place: str, below: str) -> str:
    if not is_uri(place):
        return str(Path(place, below))
    path, options = _split(place)
    return f"{path.rstrip('/')}/{quote(below)}{options}"


def _plain(place: str) -> str:
    """Return a path as Python writes it, also for file:// on this machine, and any other URI unchanged."""
    if place.startswith("file:///"):
        place = url2pathname(place.removeprefix("file://"))
    return place if is_uri(place) else str(Path(place))


def _expanded(place: str) -> list[str]:
    return [place] if is_uri(place) else [str(path) for path in expanded([place])]


def _identity(place: str) -> str:
    return place if is_uri(place) else str(Path(place).resolve())


def _same_file(photo: str, target: str) -> bool:
    if is_uri(photo) or is_uri(target):
        return photo == target
    return is_same_file(target, photo)
