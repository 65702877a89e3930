"""Write files so that a reader sees the old content or the new, never half of it. Remember what was read until a file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from errno import EACCES, EISDIR, ENOTDIR
from functools import lru_cache, wraps
from pathlib import Path
from platform import node
from typing import TypeVar

import psutil

Found = TypeVar("Found")

# the name of a temporary file: computer, process, random digits, and the end of the target's name
_TEMPORARY_NAME = re.compile(
    r"\.perceptual-style-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.(?P<name>.+)", re.DOTALL
)
_KEPT_OF_NAME = 48  # characters of the target's name: a file name may have 255 bytes in all
_ABANDONED = 24 * 3600.0  # seconds without a change after which any temporary file counts as a leftover


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary file next to ``path``, with the same suffix, that becomes ``path`` at the end.

    On success the file is flushed to the disk and moved over ``path`` in one step. On any exception it is removed, and an
    existing ``path`` stays as it was. Missing parent folders are created, permissions of an existing ``path`` are kept,
    and symbolic links are followed.

    >>> with atomic_write("out.bin") as temporary:
    ...     temporary.write_bytes(content)

    Raises:
        OSError: the file cannot be written.
    """
    target = check_writable(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(target.parent)) from None
    temporary = _create_temporary(target)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            temporary.chmod(mode)  # writers such as safetensors' make the file private
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to ``path``, with the same suffix, that becomes ``path`` at the end.

    On any exception it is removed, and an existing ``path`` stays as it was. An existing folder is moved aside before the new
    one takes its place, as systems cannot replace a folder in one step, and is then deleted: check before that it may be.
    Missing parent folders are created.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, aside = _temporary_path(target), _temporary_path(target)
    temporary.mkdir()
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        for each in (temporary, *temporary.rglob("*")):  # copies of temporary files are private
            each.chmod(mode if each.is_dir() else mode & 0o666)
        if target.exists():
            os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except BaseException:
            if aside.exists():
                os.rename(aside, target)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    _sync_folder(target.parent)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read one block at a time. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_writable(path: str | Path) -> Path:
    """Check before long work that `atomic_write` will be able to write ``path``.

    Returns:
        The file itself, with links followed.

    Raises:
        OSError: it could not be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    nearest = next(each for each in (target, *target.parents) if each.exists())
    if nearest != target and not nearest.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(nearest))
    if not os.access(nearest, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))
    return target


def remove_leftovers(path: str | Path) -> list[Path]:
    """Remove temporary files that killed processes left behind.

    A file of a process that still runs on this computer, or of another computer (on a shared disk), is kept until it has
    not changed for a day. This function never raises.

    Args:
        path: the target of `atomic_write`, or a folder for all targets in it

    Returns:
        The removed files.
    """
    target = Path(os.path.realpath(path))
    removed = []
    with contextlib.suppress(OSError):
        is_folder = target.is_dir()
        for found in sorted((target if is_folder else target.parent).iterdir()):
            match = _TEMPORARY_NAME.fullmatch(found.name)
            if match and (is_folder or match["name"] == target.name[-_KEPT_OF_NAME:]) and _is_leftover(found, match):
                with contextlib.suppress(OSError):
                    found.unlink()
                    removed.append(found)
    return removed


def _temporary_path(target: Path) -> Path:
    name = f".perceptual-style-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.{target.name[-_KEPT_OF_NAME:]}"
    return target.with_name(name)


def _create_temporary(target: Path) -> Path:
    temporary = _temporary_path(target)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _is_leftover(found: Path, match: re.Match[str]) -> bool:
    if match["host"] == _host() and not _is_running(int(match["pid"])):
        return True
    try:
        return time.time() - found.stat().st_mtime > _ABANDONED
    except OSError:
        return False


def _host() -> str:
    return f"{zlib.crc32(node().encode()):08x}"


def _is_running(pid: int) -> bool:
    try:
        return psutil.pid_exists(pid)
    except OverflowError:  # more than the system's type of process numbers holds
        return False


def _sync_folder(folder: Path) -> None:
    """Flush a folder, if the system allows it, so that the move itself survives a power cut."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_same_file(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths lead to the same existing file."""
    one, other = Path(one), Path(other)
    return one.exists() and other.exists() and one.samefile(other)


def remembered(read: Callable[[str], Found]) -> Callable[[str | Path], Found]:
    """Decorate a function of a file's path: its result is remembered until the file's size or time of change differs.

    The function is also called for files that are not there.
    """

    @lru_cache(maxsize=4096)
    def read_in_state(path: str, *_: int) -> Found:
        return read(path)

    @wraps(read)
    def lookup(path: str | Path) -> Found:
        try:
            state = os.stat(path)
        except (OSError, ValueError):  # a missing file, or a name that no file can have
            return read_in_state(str(path))
        return read_in_state(str(path), state.st_mtime_ns, state.st_size)

    return lookup
