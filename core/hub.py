"""Downloads from the Hugging Face Hub: only what was asked for by name, verified before its first use.

Where things are, the endpoint, the token and offline mode are huggingface_hub's own: HF_HOME, HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE mean here what they mean there. A ``folder`` is the host's folder of models (or several: all are searched,
the first is written to); without one files are in the Hub's cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import inspect
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import HubError
from .hub_errors import by_hand, explained
from .manifest import Entry, bundled_file
from .progress import Progress, ProgressCallback

Folder = str | Path | Sequence[str | Path] | None

_LARGE = 2**26  # bytes from which on a checksum is also remembered on the disk
_STAGING = ".perceptual-style-download-"


def own_folder() -> Path:
    """What this package keeps beside the Hub's cache; a file that was downloaded by hand is found there, too."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "perceptual-style"


def folders_of(folder: Folder) -> list[Path]:
    """The given folders, or none."""
    if folder is None:
        return []
    return [Path(folder)] if isinstance(folder, (str, Path)) else [Path(each) for each in folder]


def place_of(entry: Entry, folder: Folder = None) -> Path:
    """Where `fetch` puts the file in a folder, and where a user can put it by hand."""
    return (folders_of(folder) or [own_folder()])[0] / f"{entry.id}{Path(entry.hub.filename).suffix}"


def find(entry: Entry, folder: Folder = None) -> Path | None:
    """The entry's file if it is on this machine and is the right one; None if not. Downloads nothing."""
    if entry.is_bundled:
        return bundled_file(entry.id)
    if entry.task == "loss-network":
        from .hub_tensors import find_tensors

        return find_tensors(entry, folder=folder)
    return find_whole(entry, folder)


def find_whole(entry: Entry, folder: Folder = None) -> Path | None:
    """The published file itself: in a folder, under the entry's name or the Hub's, or in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    names = [place_of(entry).name]
    if entry.task != "loss-network":  # theirs are all called model.safetensors
        names.append(Path(entry.hub.filename).name)
    candidates = [folder / name for folder in [*folders_of(folder), own_folder()] for name in names]
    cached = try_to_load_from_cache(entry.hub.repo, entry.hub.filename, revision=entry.hub.revision)
    candidates += [Path(cached)] if isinstance(cached, str) else []
    return next((path for path in candidates if is_right(entry, path)), None)


def missing(entry: Entry, folder: Folder = None) -> HubError:
    """The error for what was never downloaded."""
    target = place_of(entry, folder)
    return HubError(
        f"{entry.id} is not downloaded yet; run `perceptual-style download {entry.id}`, {by_hand(entry, target)}"
    )


def fetch(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """The entry's file, downloaded unless it is there already, and verified by size and sha256.

    progress: called with bytes; what it raises stops the download. A connection that breaks off is taken up again where
    it was. Several processes can ask at once. Of a loss network only the tensors that are needed are downloaded.
    Raises HubError with what to do; a file with wrong bytes is removed.
    """
    found = find(entry, folder)
    if found is not None:
        return found
    if entry.task == "loss-network":
        from .hub_tensors import fetch_tensors

        return fetch_tensors(entry, folder=folder, progress=progress)
    return fetch_whole(entry, folder=folder, progress=progress)


def fetch_whole(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """`fetch` of the whole published file, whatever it is."""
    target = place_of(entry, folder)
    if target.exists():
        if is_right(entry, target):
            return target
        raise HubError(
            f"{entry.id} was not downloaded: {target} is there already, but is not the published file; move it away"
        )
    with explained(entry, target):
        if not folders_of(folder):
            return _verified(entry, _download(entry, progress), target)
        with locked(target):
            if is_right(entry, target):  # another process was at it
                return target
            with _staging(target) as staging:
                path = _verified(entry, _download(entry, progress, local_dir=staging), target)
                os.replace(path, target)
    return target


def is_right(entry: Entry, path: Path) -> bool:
    """Whether a file is there, and is the published one by size and sha256."""
    try:
        path = Path(os.path.realpath(path))
        stat = path.stat()
        if not path.is_file() or entry.bytes not in (None, stat.st_size):
            return False
        return _sha256(path, stat.st_size, stat.st_mtime_ns) == entry.sha256
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file at the same time, where the file system lets us."""
    from huggingface_hub.utils import WeakFileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    try:
        with WeakFileLock(lock):
            yield
    finally:
        with contextlib.suppress(OSError):  # who still waits for it finds the file downloaded
            lock.unlink()


def bar_of(progress: ProgressCallback | None) -> tuple[type, list[BaseException]]:
    """A class that huggingface_hub takes for a tqdm, which draws nothing and tells ``progress``; and what that raised."""
    from tqdm import tqdm

    raised: list[BaseException] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            self.n, self.total = options.get("initial") or 0, options.get("total")

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if progress is not None and self.total:
                try:
                    progress(Progress(int(min(self.n, self.total)), int(self.total)))
                except BaseException as error:
                    raised.append(error)
                    raise

    return Bar, raised


def _download(entry: Entry, progress: ProgressCallback | None, local_dir: Path | None = None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    room = local_dir or Path(constants.HF_HUB_CACHE)
    check_room(room, entry.bytes or 0)
    options: dict[str, Any] = {"revision": entry.hub.revision, "local_dir": local_dir}
    bar, raised = bar_of(progress)
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = bar
    try:
        return Path(hf_hub_download(entry.hub.repo, entry.hub.filename, **options))
    except BaseException:
        if raised:
            raise raised[0] from None
        raise


def check_room(folder: Path, size: int) -> None:
    """Raise the system's own error when ``size`` bytes do not fit on the disk of a folder."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if size and shutil.disk_usage(existing).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _verified(entry: Entry, path: Path, target: Path) -> Path:
    if is_right(entry, path):
        return path
    found = Path(os.path.realpath(path))
    size = found.stat().st_size if found.is_file() else 0
    for each in {found, path}:
        with contextlib.suppress(OSError):
            each.unlink()
    expected = f"{entry.bytes} bytes with " if entry.bytes else ""
    raise HubError(
        f"{entry.id} was not downloaded: wrong bytes came ({size} bytes, another sha256; expected {expected}sha256 "
        f"{entry.sha256[:12]}...), which were removed; try again, {by_hand(entry, target)}"
    )


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed at the end; those that were left behind a day ago are removed, too."""
    for old in target.parent.glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 24 * 3600:
                shutil.rmtree(old, ignore_errors=True)
    staging = target.parent / f"{_STAGING}{os.getpid()}-{secrets.token_hex(4)}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Of a file in a state; that of a large one is kept on the disk, so that it is not read again each time."""
    key = hashlib.sha256(f"{path} {size} {modified}".encode()).hexdigest()[:32]
    note = own_folder() / "checked" / key
    if size >= _LARGE:
        with contextlib.suppress(OSError):
            return note.read_text(encoding="ascii")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    if size >= _LARGE:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            temporary = note.with_name(f"{key}.{os.getpid()}")
            temporary.write_text(digest.hexdigest(), encoding="ascii")
            os.replace(temporary, note)
    return digest.hexdigest()
