"""weights_manifest.json: the networks that have a name of their own.

An entry: id, title, task (style), file (relative to the project's root), bytes, sha256, arch, license, and credit with
the painting, its artist and year.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .errors import CheckpointError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """One entry of the manifest, fields as in the file."""

    id: str
    title: str
    task: str
    file: str
    bytes: int
    sha256: str
    arch: str
    license: str
    credit: Mapping[str, Any] = field(default_factory=dict)


@cache
def _manifest() -> tuple[Entry, ...]:
    text = (ROOT / "weights_manifest.json").read_text(encoding="utf-8")
    return tuple(Entry(**entry) for entry in json.loads(text)["entries"])


def entries(task: str) -> list[Entry]:
    """All entries for a task, in the manifest's order."""
    return [entry for entry in _manifest() if entry.task == task]


def bundled_path(name: str) -> Path:
    """Where the bundled file of an entry is."""
    return ROOT / next(entry for entry in _manifest() if entry.id == name).file


def bundled_file(name: str) -> Path:
    """Path of a bundled file, once its checksum was found right. Raises CheckpointError when it is missing or damaged."""
    entry = next(entry for entry in _manifest() if entry.id == name)
    path = bundled_path(name)
    if not path.is_file():
        raise CheckpointError(f"the bundled style {name} is missing ({path}); install the package again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
        raise CheckpointError(
            f"the bundled style {name} is damaged (sha256 of {path} differs); install the package again"
        )
    return path
