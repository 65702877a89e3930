"""Downloads from the Hugging Face Hub: only what was asked for by name, verified before its first use.

Where things are, the endpoint, the token and offline mode are huggingface_hub's own: HF_HOME, HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE mean here what they mean there. A ``folder`` is the host's folder of models (or several: all are searched,
the first is written to); without one files are in the Hub's cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import HubError
from ..files import sha256_of
from ..progress import Progress, ProgressCallback
from .manifest import Entry
from .messages import by_hand, explained, page_of
from .ranges import RangesRefused, RemoteFile

Folder = str | Path | Sequence[str | Path] | None

_LARGE = 2**26  # bytes from which on a checksum is also remembered on the disk


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


def fetch_whole(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """`fetch` of the whole published file, whatever it is."""
    found = find_whole(entry, folder)
    if found is not None:
        return found
    hand = place_of(entry, folder)
    if hand.exists():
        raise HubError(
            f"{entry.id} was not downloaded: {hand} is there already, but is not the published file; move it away"
        )
    with explained(entry, hand):
        facts = published(entry, hand)
        if folders_of(folder):
            target, part = hand, hand.with_name(f".{hand.name}.part")
        else:
            target, part = _in_cache(entry, facts)
        with locked(target):
            if not is_right(entry, target):  # otherwise another process was at it
                resumed = part.exists()
                _download(entry, part, facts.size, progress)
                if resumed and not is_right(entry, part):  # the beginning that was kept may have been the wrong one
                    part.unlink()
                    _download(entry, part, facts.size, progress)
                _verify(entry, part, hand)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
    return target


def published(entry: Entry, hand: Path) -> Any:
    """What the Hub says of the file, as huggingface_hub's HfFileMetadata. Raises HubError if it is another one."""
    from huggingface_hub import get_hf_file_metadata

    facts = get_hf_file_metadata(page_of(entry))
    size_differs = None not in (entry.bytes, facts.size) and facts.size != entry.bytes
    if size_differs or (states_sha256(facts) and facts.etag != entry.sha256):
        raise HubError(
            f"{entry.id} was not downloaded: the Hub has another file there, with wrong bytes ({facts.size} bytes, sha256 "
            f"{facts.etag:.12}..., expected {entry.bytes or 'any number of'} bytes, {entry.sha256[:12]}...); update this "
            f"package, {by_hand(entry, hand)}"
        )
    return facts


def states_sha256(facts: Any) -> bool:
    """Whether the Hub has said the sha256 of the file, as it does for all large ones."""
    return re.fullmatch("[0-9a-f]{64}", facts.etag or "") is not None


def _in_cache(entry: Entry, facts: Any) -> tuple[Path, Path]:
    """Where the Hub's cache keeps the file, as it does where there are no symbolic links, and a download's beginning."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repo = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=entry.hub.repo, repo_type="model")
    commit = facts.commit_hash or entry.hub.revision
    if commit != entry.hub.revision:
        reference = repo / "refs" / entry.hub.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="ascii")
    return repo / "snapshots" / commit / entry.hub.filename, repo / "blobs" / f"{entry.sha256}.incomplete"


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


def _download(entry: Entry, part: Path, size: int | None, progress: ProgressCallback | None) -> None:
    """Bring the whole file to ``part``, going on with what is there of it."""
    size = entry.bytes or size
    if size is None:
        raise HubError(f"{entry.id} was not downloaded: the Hub does not say its size; try again later")
    part.parent.mkdir(parents=True, exist_ok=True)
    begun = part.stat().st_size if part.exists() else 0
    check_room(part.parent, size - begun)
    with part.open("r+b" if begun else "wb") as file:
        for _ in range(5):
            start = begun = 0 if begun > size else begun
            file.truncate(start)
            file.seek(start)

            def report(done: int, start: int = start) -> None:
                if progress is not None:
                    progress(Progress(start + done, size))

            try:
                RemoteFile(page_of(entry), report).copy(file.write, start, size)
                return
            except RangesRefused:  # the server gives the file from its beginning only
                begun = 0
    raise EOFError("the connection broke off again and again")


def check_room(folder: Path, size: int) -> None:
    """Raise the system's own error when ``size`` bytes do not fit on the disk of a folder."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if size and shutil.disk_usage(existing).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _verify(entry: Entry, part: Path, hand: Path) -> None:
    """Remove what is not the published file, and raise HubError."""
    size = part.stat().st_size
    if is_right(entry, part):
        return
    part.unlink()
    raise HubError(
        f"{entry.id} was not downloaded: wrong bytes came ({size} bytes with another sha256 than {entry.sha256[:12]}...), "
        f"which were removed; try again, {by_hand(entry, hand)}"
    )


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Of a file in a state; that of a large one is kept on the disk, so that it is not read again each time."""
    key = hashlib.sha256(f"{path} {size} {modified}".encode()).hexdigest()[:32]
    note = own_folder() / "checked" / key
    if size >= _LARGE:
        with contextlib.suppress(OSError):
            return note.read_text(encoding="ascii")
    digest = sha256_of(path)
    if size >= _LARGE:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            temporary = note.with_name(f"{key}.{os.getpid()}")
            temporary.write_text(digest, encoding="ascii")
            os.replace(temporary, note)
    return digest
