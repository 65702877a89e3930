"""Find or download the file of a manifest entry, whether a whole file or the first tensors of a loss network."""

from __future__ import annotations

from pathlib import Path

from ..errors import HubError
from ..progress import ProgressCallback
from .loss_networks import fetch_tensors, find_tensors
from .manifest import Entry, bundled_file
from .messages import by_hand
from .whole_files import Folder, fetch_whole, find_whole, place_of


def find(entry: Entry, folder: Folder = None) -> Path | None:
    """The entry's file if it is on this machine and is the right one; None if not. Downloads nothing."""
    if entry.is_bundled:
        return bundled_file(entry.id)
    if entry.task == "loss-network":
        return find_tensors(entry, folder=folder)
    return find_whole(entry, folder)


def is_downloaded(entry: Entry, folder: Folder = None) -> bool:
    """Whether the entry can be used without a download: bundled, in ``folder``, or in a cache on this machine."""
    return entry.is_bundled or find(entry, folder) is not None


def missing(entry: Entry, folder: Folder = None) -> HubError:
    """The error for what was never downloaded."""
    target = place_of(entry, folder)
    return HubError(
        f"{entry.id} is not downloaded yet; run `perceptual-style download {entry.id}`, {by_hand(entry, target)}"
    )


def fetch(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """The entry's file, downloaded unless it is there already, and verified by size and sha256.

    progress: called with bytes; what it raises stops the download. One that was stopped, even by a power cut, and a
    connection that breaks off are taken up again where they were. Several processes can ask at once. Of a loss network
    only the tensors that are needed are downloaded. Raises HubError with what to do; wrong bytes are removed.
    """
    found = find(entry, folder)
    if found is not None:
        return found
    if entry.task == "loss-network":
        return fetch_tensors(entry, folder=folder, progress=progress)
    return fetch_whole(entry, folder=folder, progress=progress)
