"""The manifest weights_manifest.json: networks with a name, bundled or on the Hugging Face Hub.

weights_manifest.schema.json describes its fields. Nothing here uses the internet; `fetch` downloads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, HubError
from ..files import sha256_of

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub.

    Attributes:
        repo: Repository, as owner/name.
        revision: Commit, or the name of a branch.
        filename: Path in the repository.
    """

    repo: str
    revision: str
    filename: str


@dataclass(frozen=True)
class Entry:
    """An entry of the manifest, with the fields of the file. Either ``file`` or ``hub`` is set."""

    id: str
    title: str
    task: str
    file: str | None = None
    bytes: int | None = None
    sha256: str = ""
    arch: str | None = None
    license: str = "unknown"
    credit: Mapping[str, Any] = field(default_factory=dict)
    hub: HubFile | None = None
    family: str | None = None
    pixels: str | None = None
    recipe: Any = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    scale: int | None = None
    partner: str | None = None
    dial: str | None = None
    replaced_by: str | None = None

    @property
    def is_bundled(self) -> bool:
        """Whether the file is part of this package."""
        return self.file is not None

    @property
    def remote(self) -> HubFile:
        """The file on the Hub. Raises HubError for a bundled entry."""
        if self.hub is None:
            raise HubError(f"{self.id} is not on the Hugging Face Hub, so it cannot be downloaded")
        return self.hub

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are set, as in the file."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}


@cache
def _manifest() -> tuple[Entry, ...]:
    text = (ROOT / "weights_manifest.json").read_text(encoding="utf-8")
    return tuple(
        Entry(**{**entry, "hub": HubFile(**entry["hub"]) if entry.get("hub") else None})
        for entry in json.loads(text)["entries"]
    )


def entries(task: str | None = None) -> list[Entry]:
    """Return the entries for a task (style, upscale, loss-network, style-predictor), or all if None, in their order."""
    return [entry for entry in _manifest() if task in (None, entry.task)]


def names(task: str | None = None) -> list[str]:
    """Return the names of the entries for a task, bundled ones first."""
    return [entry.id for entry in sorted(entries(task), key=lambda entry: not entry.is_bundled)]


def find_entry(name: object, task: str | None = None) -> Entry | None:
    """Return the entry with this name, or None."""
    return next((entry for entry in entries(task) if entry.id == name), None)


def bundled_path(name: str) -> Path:
    """Return the path of a bundled entry's file, unchecked."""
    return ROOT / str(next(entry for entry in _manifest() if entry.id == name and entry.is_bundled).file)


def bundled_file(name: str) -> Path:
    """Return the path of a bundled entry's file after checking its SHA-256.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    entry = next(entry for entry in _manifest() if entry.id == name)
    path = bundled_path(name)
    if not path.is_file():
        raise CheckpointError(f"the bundled network {name} is missing ({path}); install the package again")
    if sha256_of(path) != entry.sha256:
        raise CheckpointError(
            f"the bundled network {name} is damaged (sha256 of {path} differs); install the package again"
        )
    return path
