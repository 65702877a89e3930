"""Whole files from the Hugging Face Hub: downloaded only by name, verified before anyone can see them.

huggingface_hub provides the address, the token, offline mode and the HTTP session, so HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE have their usual meaning. Its `hf_hub_download` is not used for the download itself. It moves a file into the
cache without checking its SHA-256, and current versions discard an unfinished download instead of resuming it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HubError
from ..progress import Progress, ProgressCallback
from .checksums import is_published
from .manifest import Entry
from .messages import by_hand, explained, page_of
from .patience import Patience, guarded
from .places import Folder, cache_paths, check_room, folders_of, locked, own_folder, place_of
from .ranges import RangesRefused, RemoteFile

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_RESTARTS = 5  # a server without ranges sends the file from its beginning again


def find_whole(entry: Entry, folder: Folder = None) -> Path | None:
    """Return the published file: in a folder, under the entry's name or the Hub's, or in the Hub's cache. Else None."""
    from huggingface_hub import try_to_load_from_cache

    remote = entry.remote
    names = [place_of(entry).name]
    if entry.task != "loss-network":  # all of them are called model.safetensors
        names.append(Path(remote.filename).name)
    candidates = [folder / name for folder in [*folders_of(folder), own_folder()] for name in names]
    cached = try_to_load_from_cache(remote.repo, remote.filename, revision=remote.revision)
    candidates += [Path(cached)] if isinstance(cached, str) else []
    return next((path for path in candidates if is_published(entry, path)), None)


def fetch_whole(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """Return the published file, downloaded if necessary. Arguments and errors as for `fetch`."""
    found = find_whole(entry, folder)
    if found is not None:
        return found
    hand = place_of(entry, folder)
    if hand.exists():
        raise HubError(
            f"{entry.id} was not downloaded: {hand} already exists, but is not the published file; move it away"
        )
    progress = guarded(progress)
    patience = Patience(progress, entry.bytes or 0)
    with explained(entry, hand):
        metadata = remote_metadata(entry, hand, patience)
        target, part = _target(entry, metadata, hand, folder)
        with locked(target):
            if not is_published(entry, target):  # otherwise another process has just downloaded it
                _download_verified(entry, part, metadata.size, hand, patience)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
    return target


def remote_metadata(entry: Entry, hand: Path, patience: Patience) -> HfFileMetadata:
    """Ask the Hub for the size, commit and ETag of the entry's file.

    Raises:
        HubError: If the Hub has a different file, or something else answers in its place.
    """
    from huggingface_hub import get_hf_file_metadata

    metadata = patience.call(lambda: get_hf_file_metadata(page_of(entry)))
    size_differs = None not in (entry.bytes, metadata.size) and metadata.size != entry.bytes
    if size_differs and metadata.commit_hash is None and not states_sha256(metadata):
        raise HubError(
            f"{entry.id} was not downloaded: {metadata.size} bytes came that are not from the Hub, perhaps the page of a "
            f"proxy that wants you to log in; check the connection and try again, {by_hand(entry, hand)}"
        )
    if size_differs or (states_sha256(metadata) and metadata.etag != entry.sha256):
        raise HubError(
            f"{entry.id} was not downloaded: the Hub has a different file, with wrong bytes ({metadata.size} bytes, sha256 "
            f"{metadata.etag or 'unknown':.12}..., expected {entry.bytes or 'any number of'} bytes, "
            f"{entry.sha256[:12]}...); update this package, {by_hand(entry, hand)}"
        )
    return metadata


def states_sha256(metadata: HfFileMetadata) -> bool:
    """Return whether the ETag is the SHA-256 of the file, as for all large files."""
    return re.fullmatch("[0-9a-f]{64}", metadata.etag or "") is not None


def _target(entry: Entry, metadata: HfFileMetadata, hand: Path, folder: Folder) -> tuple[Path, Path]:
    """Return the path of the file and of its incomplete download. In the cache, note the commit of a branch."""
    if folders_of(folder):
        return hand, hand.with_name(f".{hand.name}.part")
    revision = entry.remote.revision
    commit = metadata.commit_hash or revision
    target, part, reference = cache_paths(entry, commit)
    if commit != revision:
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="ascii")
    return target, part


def _download_verified(entry: Entry, part: Path, size: int | None, hand: Path, patience: Patience) -> None:
    """Download the published file to ``part``. Remove wrong bytes and raise HubError."""
    resumed = part.exists()
    _download(entry, part, size, patience)
    if resumed and not is_published(entry, part):  # the bytes kept from an earlier attempt may be wrong
        part.unlink()
        _download(entry, part, size, patience)
    if not is_published(entry, part):
        came = part.stat().st_size
        part.unlink()
        raise HubError(
            f"{entry.id} was not downloaded: wrong bytes came ({came} bytes with another sha256 than "
            f"{entry.sha256[:12]}...), which were removed; try again, {by_hand(entry, hand)}"
        )


def _download(entry: Entry, part: Path, size: int | None, patience: Patience) -> None:
    """Download the whole file to ``part``, resuming from the bytes it already has."""
    total = entry.bytes or size
    if total is None:
        raise HubError(f"{entry.id} was not downloaded: the Hub does not say its size; try again later")
    part.parent.mkdir(parents=True, exist_ok=True)
    begun = part.stat().st_size if part.exists() else 0
    check_room(part.parent, total - begun)
    with part.open("r+b" if begun else "wb") as file:
        for _ in range(_RESTARTS):
            start = begun = 0 if begun > total else begun
            file.truncate(start)
            file.seek(start)

            def report(done: int, start: int = start) -> None:
                patience.done, patience.total = start + done, total
                if patience.progress is not None:
                    patience.progress(Progress(start + done, total))

            try:
                RemoteFile(page_of(entry), report, patience).copy(file.write, start, total)
                return
            except RangesRefused:
                begun = 0
    raise EOFError("the connection broke off again and again")
