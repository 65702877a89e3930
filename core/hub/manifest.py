"""weights_manifest.json: the networks that have a name of their own, bundled or on the Hugging Face Hub.

weights_manifest.schema.json says what stands in it. Nothing here touches the network; `hub` downloads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class HubFile:
    """Where the Hugging Face Hub has a file: repository, revision (a commit), and name in it."""

    repo: str
    revision: str
    filename: str


@dataclass(frozen=True)
class Entry:
    """One entry of the manifest, fields as in the file; either ``file`` or ``hub`` is there."""

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

    @property
    def is_bundled(self) -> bool:
        """Whether the file is part of this package."""
        return self.file is not None

    def as_json(self) -> dict[str, Any]:
        """The fields that the entry has, as in the file."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}


@cache
def _manifest() -> tuple[Entry, ...]:
    text = (ROOT / "weights_manifest.json").read_text(encoding="utf-8")
    return tuple(
        Entry(**{**entry, "hub": HubFile(**entry["hub"]) if entry.get("hub") else None})
        for entry in json.loads(text)["entries"]
    )


def entries(task: str | None = None) -> list[Entry]:
    """All entries for a task (style | upscale | loss-network; None: for all), in the manifest's order."""
    return [entry for entry in _manifest() if task in (None, entry.task)]


def names(task: str | None = None) -> list[str]:
    """Names of the entries for a task: those bundled, then those that can be downloaded."""
    return [entry.id for entry in sorted(entries(task), key=lambda entry: not entry.is_bundled)]


def find_entry(name: object, task: str | None = None) -> Entry | None:
    """The entry of this name, None when there is none."""
    return next((entry for entry in entries(task) if entry.id == name), None)


def bundled_path(name: str) -> Path:
    """Where the bundled file of an entry is."""
    return ROOT / str(next(entry for entry in _manifest() if entry.id == name and entry.is_bundled).file)


def bundled_file(name: str) -> Path:
    """Path of a bundled file, once its checksum was found right. Raises CheckpointError when it is missing or damaged."""
    entry = next(entry for entry in _manifest() if entry.id == name)
    path = bundled_path(name)
    if not path.is_file():
        raise CheckpointError(f"the bundled network {name} is missing ({path}); install the package again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
        raise CheckpointError(
            f"the bundled network {name} is damaged (sha256 of {path} differs); install the package again"
        )
    return path
