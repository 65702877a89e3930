"""Where photos come from and results go: paths, and buckets by their URIs, such as ``s3://bucket/photos``.

URIs are read and written by pyarrow's file systems (S3, Google Cloud, Azure, HDFS, what Hugging Face's hf:// names): those
of Ray Data. A result is there as a whole or not at all, on disks and in buckets.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from urllib.request import url2pathname

from ..errors import ImageError, InputError, first_line
from ..images.folders import IMAGE_SUFFIXES, find_images
from ..images.reading import ImageFile, open_file
from ..images.writing import encode_image, save_image
from ..optional import need


@dataclass(frozen=True)
class Job:
    """One photo: where it is and where its result goes, paths or URIs.

    new: whether nothing was there when the job was made
    """

    source: str
    target: str
    new: bool = True


def plan_jobs(sources: Sequence[str], output: str) -> list[Job]:
    """What is to be done for photos and folders of photos. A photo in a folder keeps its path below that folder.

    output: for one photo a file (if it has a suffix and is no folder) or a folder, else a folder

    Raises InputError when a photo would be replaced, or two would get the same target.
    """
    sources, output = [_plain(source) for source in sources], _plain(output)
    single = len(sources) == 1 and not _is_folder(sources[0])
    if single and _suffix(output) and not _is_folder(output):
        pairs = [(sources[0], output)]
    elif _suffix(output) and not is_uri(output) and Path(output).is_file():
        raise InputError(f"{output} is a file; with more than one photo, or a folder, give a folder as the output")
    else:
        pairs = [(photo, _join(output, below)) for source in sources for photo, below in _photos(source)]
    photos = {_identity(photo) for photo, _ in pairs}
    targets: dict[str, str] = {}
    for photo, target in pairs:
        if _identity(target) in photos or _same_file(photo, target):
            raise InputError(f"{target} is one of the photos itself and would be replaced; choose another output")
        if targets.setdefault(target, photo) != photo:
            raise InputError(f"{photo} and {targets[target]} would both be written to {target}; give them separately")
    there = _existing(targets)
    return [Job(photo, target, target not in there) for target, photo in targets.items()]


@contextlib.contextmanager
def open_photo(place: str) -> Iterator[BinaryIO]:
    """A photo's file, from a bucket as a whole. Raises ImageError."""
    if not is_uri(place):
        with open_file(place) as file:
            yield file
        return
    with _explained(f"cannot read {place}"):
        system, path = _resolve(place)
        with system.open_input_stream(path, compression=None) as stream:
            content = stream.read()
    yield io.BytesIO(content)


def write_photo(place: str, image: ImageFile) -> str | None:
    """As `save_image`, to a path or a URI. Raises ImageError."""
    parts = image.pixels, image.alpha, image.icc_profile, image.exif
    if not is_uri(place):
        return save_image(place, *parts)
    content, warning = encode_image(_split(place)[0], *parts)
    with _explained(f"cannot write {place}"):
        system, path = _resolve(place)
        # An object appears in a bucket once all of it is there; HDFS would show half a file.
        final, path = path, f"{path}.part" if system.type_name == "hdfs" else path
        with system.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        if path != final:
            system.move(path, final)
    return warning


def is_uri(place: str) -> bool:
    return "://" in place


def is_there(place: str) -> bool:
    """Whether a file or object is at a place."""
    return place in _existing([place])


def _photos(place: str) -> Iterable[tuple[str, str]]:
    """Photos at or below a place, and their paths below it, with slashes."""
    if not is_uri(place):
        for photo in find_images([place]):
            below = photo.relative_to(place) if Path(place).is_dir() else Path(photo.name)
            yield str(photo), below.as_posix()
        return
    if not _is_folder(place):
        yield place, PurePosixPath(_split(place)[0]).name
        return
    system, path = _resolve(place)
    with _explained(f"cannot list {place}"):
        found = system.get_file_info(_arrow(place).FileSelector(path, recursive=True))
    below = sorted(PurePosixPath(each.path).relative_to(path) for each in found if each.is_file)
    kept = [
        each for each in below if each.suffix.lower() in IMAGE_SUFFIXES and not any(p[0] == "." for p in each.parts)
    ]
    if not kept:
        raise ImageError(f"{place} has no images; expected files like *.jpg or *.png in it or below it")
    for each in kept:
        yield _join(place, each.as_posix()), each.as_posix()


def _existing(places: Iterable[str]) -> set[str]:
    """Those places where a file or object is."""
    places = list(places)
    found = {place for place in places if not is_uri(place) and os.path.exists(place)}
    uris = [place for place in places if is_uri(place)]
    if uris:
        system, _ = _resolve(uris[0])  # all are below one output
        with _explained(f"cannot look into {uris[0]}"):
            infos = system.get_file_info([_resolve(uri)[1] for uri in uris])
        found |= {uri for uri, info in zip(uris, infos, strict=True) if info.is_file}
    return found


def _is_folder(place: str) -> bool:
    if not is_uri(place):
        return Path(place).is_dir()
    system, path = _resolve(place)
    with _explained(f"cannot look into {place}"):
        return system.get_file_info(path).type == _arrow(place).FileType.Directory


def _resolve(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and its path there. Raises InputError."""
    path, options = _split(uri)
    folder, _, name = path.rpartition("/")
    if folder.endswith(":/"):  # a bucket
        return _open(uri)
    system, above = _open(folder + options)
    return system, f"{above}/{unquote(name)}"


@lru_cache(maxsize=64)
def _open(uri: str) -> tuple[Any, str]:
    """`_resolve`, remembered: a file system of S3 looks for credentials, which takes time."""
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
    except Exception as error:  # each file system has errors of its own
        raise ImageError(f"{what}: {_line(error)}") from None


def _line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return first_line(error)


def _split(uri: str) -> tuple[str, str]:
    """A URI without its options, and them with their question mark."""
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
    """A path as Python writes it, also for file:// of this machine; a URI as it is."""
    if place.startswith("file:///"):
        place = url2pathname(place.removeprefix("file://"))
    return place if is_uri(place) else str(Path(place))


def _identity(place: str) -> str:
    return place if is_uri(place) else str(Path(place).resolve())


def _same_file(photo: str, target: str) -> bool:
    if is_uri(photo) or is_uri(target):
        return photo == target
    return Path(target).exists() and Path(target).samefile(photo)
