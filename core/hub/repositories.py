"""Styles in repositories of the Hub by USER/NAME, as the command push uploads them: found, downloaded, uploaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..checkpoints.tensor_files import NETWORK_SUFFIXES
from ..errors import HubError, InputError
from ..progress import ProgressCallback
from .checksums import is_published
from .manifest import Entry, HubFile
from .messages import explained, explained_upload, page_of
from .patience import Patience, guarded
from .places import Folder, folders_of, own_folder, place_of
from .whole_files import fetch_whole, states_sha256

#: Name of the weights in every repository, as is usual on the Hub
WEIGHTS = "model.safetensors"
_BRANCH = "main"
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"


def is_repository(name: object) -> bool:
    """Return whether a name has the form USER/NAME and is not a path that exists, nor the name of a file of weights."""
    return (
        isinstance(name, str)
        and re.fullmatch(f"{_NAME}/{_NAME}", name, re.ASCII) is not None
        and Path(name).suffix.lower() not in NETWORK_SUFFIXES
        and not os.path.exists(name)
    )


def check_repository(name: str) -> None:
    """Raise InputError for a name that no repository can have."""
    if re.fullmatch(f"{_NAME}/{_NAME}", name, re.ASCII) is None:
        raise InputError(f"the repository is {name!r}; expected USER/NAME, as in ada/storm")


def find_repository(name: str, folder: Folder = None) -> Path | None:
    """Return the downloaded style of a repository, in a folder as USER/NAME.safetensors or in the Hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    entry = _entry(name)
    places = [place / place_of(entry).relative_to(own_folder()) for place in (*folders_of(folder), own_folder())]
    cached = try_to_load_from_cache(name, WEIGHTS, revision=_BRANCH)
    places += [Path(cached)] if isinstance(cached, str) else []
    return next((path for path in places if path.is_file()), None)


def fetch_repository(name: str, *, folder: Folder = None, progress: ProgressCallback | None = None) -> Path:
    """Return the style of a repository as it is now, downloaded if necessary, and verified by size and SHA-256.

    Args:
        name: USER/NAME.
        folder: Folder of models, or several. If it is None, the Hub's cache is used.
        progress: Called with the bytes so far. An exception from it stops the download.

    Raises:
        HubError: If the download failed, or if the repository has no such file.
    """
    from huggingface_hub import get_hf_file_metadata

    entry = _entry(name)
    hand = place_of(entry, folder)
    with explained(entry, hand):
        metadata = Patience(guarded(progress)).call(lambda: get_hf_file_metadata(page_of(entry)))
    if not states_sha256(metadata):
        raise HubError(f"{name} was not downloaded: the Hub does not state the SHA-256 of its {WEIGHTS}")
    entry = _entry(name, metadata.etag or "", metadata.size)
    return hand if is_published(entry, hand) else fetch_whole(entry, folder=folder, progress=progress)


def missing_repository(name: str) -> HubError:
    """Return the error for a repository that is not on this machine."""
    return HubError(
        f"{name} is neither a file nor a repository of the Hub that is downloaded already; run `perceptual-style download "
        f"{name}` if it is one"
    )


def upload(
    name: str, files: Mapping[str, bytes], *, message: str, private: bool = False, update: bool = False
) -> str:  # fmt: skip
    """Upload files to a repository of the Hub in one commit.

    Args:
        name: USER/NAME.
        files: Contents by path in the repository.
        message: Line that describes the commit.
        private: Whether a new repository can be seen by its owner alone.
        update: Whether the repository exists already. Its other files stay, and the Hub keeps earlier versions.

    Returns:
        The address of the repository.

    Raises:
        InputError: If the name has another form.
        HubError: If the upload failed, or the repository exists (or does not, for an update).
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    check_repository(name)
    api = HfApi(endpoint=constants.ENDPOINT)
    with explained_upload(name):
        if not update:
            api.create_repo(name, private=private)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(name, operations, commit_message=message)
    return f"{constants.ENDPOINT}/{name}"


def _entry(name: str, sha256: str = "", size: int | None = None) -> Entry:
    """Return a repository in the form of the manifest's entries."""
    return Entry(name, name, "style", sha256=sha256, bytes=size, hub=HubFile(name, _BRANCH, WEIGHTS))
