"""Check that a file is the published one. Checksums of large files are cached on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import lru_cache
from pathlib import Path

from ..files import sha256_of
from .manifest import Entry
from .places import own_folder

_LARGE = 2**26  # bytes from which a checksum is cached on the disk, too


def is_published(entry: Entry, path: Path) -> bool:
    """Return whether a file exists and is the published one, by size and SHA-256."""
    try:
        path = Path(os.path.realpath(path))
        stat = path.stat()
        if not path.is_file() or entry.bytes not in (None, stat.st_size):
            return False
        return _sha256(path, stat.st_size, stat.st_mtime_ns) == entry.sha256
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return the SHA-256 of a file in this state. Cache it on the disk for large files."""
    if size < _LARGE:
        return sha256_of(path)
    key = hashlib.sha256(f"{path} {size} {modified}".encode()).hexdigest()[:32]
    note = own_folder() / "checked" / key
    with contextlib.suppress(OSError):
        return note.read_text(encoding="ascii")
    digest = sha256_of(path)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f"{key}.{os.getpid()}")
        temporary.write_text(digest, encoding="ascii")
        os.replace(temporary, note)
    return digest
