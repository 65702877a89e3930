"""Find or download the file of a manifest entry: a whole file, or the first layers of a loss network."""

from __future__ import annotations

from pathlib import Path

from ..errors import HubError
from ..progress import ProgressCallback
from .loss_networks import fetch_tensors, find_tensors
from .manifest import Entry, bundled_file
from .messages import by_hand
from .places import Folder, place_of
from .whole_files import fetch_whole, find_whole


def find(entry: Entry, folder: Folder = None) -> Path | None:
    """Return the entry's file if it is on this machine and is the published one, else None. Never download."""
    if entry.is_bundled:
        return bundled_file(entry.id)
    if entry.task == "loss-network":
        return find_tensors(entry, folder=folder)
    return find_whole(entry, folder)


def is_downloaded(entry: Entry, folder: Folder = None) -> bool:
    """Return whether the entry can be used without a download: bundled, in ``folder``, or in a cache on this machine."""
    return entry.is_bundled or find(entry, folder) is not None


def missing(entry: Entry, folder: Folder = None) -> HubError:
    """Return the error for an entry that is not on this machine."""
    target = place_of(entry, folder)
    return HubError(
        f"{entry.id} is not downloaded yet; run `perceptual-style download {entry.id}`, {by_hand(entry, target)}"
    )


def fetch(entry: Entry, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """Return the entry's file, downloaded if necessary, and verified by size and SHA-256.

    An interrupted download resumes where it stopped, even after a power cut. Several processes can call this at once. Only
    the tensors down to `DEFAULT_LAYER` of a loss network are downloaded.

    Args:
        entry: An entry of the manifest.
        folder: Folder of models, or several. If it is None, the Hub's cache is used.
        progress: Called with the bytes so far. An exception from it stops the download and reaches the caller.

    Returns:
        The path of the file.

    Raises:
        HubError: If the download failed, with what to do. Wrong bytes are removed.
        CheckpointError: If a bundled file is missing or damaged.
    """
    found = find(entry, folder)
    if found is not None:
        return found
    if entry.task == "loss-network":
        return fetch_tensors(entry, folder=folder, progress=progress)
    return fetch_whole(entry, folder=folder, progress=progress)
