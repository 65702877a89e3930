"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from errno import EACCES, EISDIR, ENOTDIR
from pathlib import Path
from platform import node

_OURS = re.compile(r"\.perceptual-style-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.(?P<name>.+)", re.DOTALL)
_KEPT_OF_NAME = 48  # characters of the target's name: a file name may have 255 bytes in all
_ABANDONED = 24 * 3600.0  # seconds without a change after which any temporary file counts as a leftover


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary file next to ``path``, with its suffix; what is written there becomes ``path``.

    On success the file is flushed to the disk and moved over ``path`` in one step; on any exception it is removed, and
    an existing ``path`` stays as it was. Missing parent folders are made, permissions of an existing ``path`` kept,
    symbolic links followed. Raises OSError.

    >>> with atomic_write("out.bin") as temporary:
    ...     temporary.write_bytes(content)
    """
    target = check_writable(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(target.parent)) from None
    temporary = _create(target)
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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read a block at a time. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_writable(path: str | Path) -> Path:
    """Raise OSError now where `atomic_write` would when long work is done. Returns the file itself, links followed."""
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
    """Remove what `atomic_write` left next to ``path``, or of all files in it if it is a folder, when its process was
    killed; return those files.

    A file of a process that runs on this computer is left alone, and so is one of another computer (on a shared disk),
    until it has not changed for a day. Never raises.
    """
    target = Path(os.path.realpath(path))
    removed = []
    with contextlib.suppress(OSError):
        every = target.is_dir()
        for found in sorted((target if every else target.parent).iterdir()):
            match = _OURS.fullmatch(found.name)
            if match and (every or match["name"] == target.name[-_KEPT_OF_NAME:]) and _is_leftover(found, match):
                with contextlib.suppress(OSError):
                    found.unlink()
                    removed.append(found)
    return removed


def _create(target: Path) -> Path:
    name = f".perceptual-style-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.{target.name[-_KEPT_OF_NAME:]}"
    temporary = target.with_name(name)
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
    if sys.platform == "win32":  # os.kill(pid, 0) would send Ctrl-C there
        return _is_running_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it exists and belongs to somebody else
        return True
    return True


def _is_running_windows(pid: int) -> bool:
    import ctypes
    from ctypes import wintypes

    query_limited_information, invalid_parameter, still_active = 0x1000, 87, 259
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.OpenProcess.restype = wintypes.HANDLE
    handle = kernel32.OpenProcess(query_limited_information, False, pid)
    if not handle:
        return ctypes.get_last_error() != invalid_parameter
    try:
        code = wintypes.DWORD()
        got = kernel32.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
        return not got or code.value == still_active
    finally:
        kernel32.CloseHandle(wintypes.HANDLE(handle))


def _sync_folder(folder: Path) -> None:
    """Make the move itself last through a power cut, where the system lets folders be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
