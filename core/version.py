"""The version of this package, which pyproject.toml states."""

from __future__ import annotations

import re
from pathlib import Path

NAME = "perceptual-style"
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """Return the version of the package that is running.

    A clone, such as a ComfyUI custom node, has pyproject.toml beside it. It is read first, because pip may have installed
    another copy. An installed package has only its metadata.

    Returns:
        A version such as "0.1.0", or "unknown" for a copy with neither.
    """
    return _stated() or _installed() or "unknown"


def _stated() -> str | None:
    """Return the version in pyproject.toml. Python 3.10 has no tomllib."""
    try:
        text = PYPROJECT.read_text(encoding="utf-8")
    except OSError:
        return None
    project = f"\n{text}".partition("\n[project]\n")[2].partition("\n[")[0]
    fields = dict(re.findall(r'^(name|version) = "(.+)"$', project, re.MULTILINE))
    return fields.get("version") if fields.get("name") == NAME else None


def _installed() -> str | None:
    from importlib import metadata

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return None
