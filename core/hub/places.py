"""Where downloads are kept: folders of models, this package's own folder, and the Hub's cache.

huggingface_hub decides where its cache is, so HF_HOME and HF_HUB_CACHE have their usual meaning.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .manifest import Entry

#: A folder of models, such as ComfyUI's, or several: all are searched, the first is written to. None is the Hub's cache.
Folder = str | Path | Sequence[str | Path] | None


def own_folder() -> Path:
    """Return the folder for this package's own downloads, next to the Hub's cache. Users can put files there, too."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "perceptual-style"


def folders_of(folder: Folder) -> list[Path]:
    """Return the folders as a list, empty for None."""
    if folder is None:
        return []
    return [Path(folder)] if isinstance(folder, (str, Path)) else [Path(each) for each in folder]


def place_of(entry: Entry, folder: Folder = None) -> Path:
    """Return the path in a folder where `fetch` puts the entry's file, and where a user can put it by hand."""
    return (folders_of(folder) or [own_folder()])[0] / f"{entry.id}{Path(entry.remote.filename).suffix}"


def cache_paths(entry: Entry, commit: str) -> tuple[Path, Path, Path]:
    """Return where the Hub's cache keeps an entry's file.

    The layout is documented for programs that write to the cache themselves: https://huggingface.co/docs/hub/local-cache.
    The file itself is in the snapshot, as on systems without symbolic links, so that one move makes it visible.

    Args:
        entry: An entry with a file on the Hub.
        commit: The commit that the entry's revision stands for.

    Returns:
        The file, its incomplete download, and the reference from the revision to the commit.
    """
    from huggingface_hub import constants

    remote = entry.remote
    repository = Path(constants.HF_HUB_CACHE, constants.REPO_ID_SEPARATOR.join(["models", *remote.repo.split("/")]))
    file = repository / "snapshots" / commit / remote.filename
    return file, repository / "blobs" / f"{entry.sha256}.incomplete", repository / "refs" / remote.revision


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file at the same time, where the file system has locks."""
    from filelock import FileLock, SoftFileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire()
    except NotImplementedError:  # a file system without flock
        lock = SoftFileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.release()
        with contextlib.suppress(OSError):  # a process that still waits for the lock finds the file downloaded
            path.unlink()


def check_room(folder: Path, size: int) -> None:
    """Raise OSError (ENOSPC) if ``size`` bytes do not fit on the disk of a folder."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if size and shutil.disk_usage(existing).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
