"""Optional dependencies: imported when a file needs them, with the command that installs what is missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from ..errors import CheckpointError


def need(module: str, extra: str, path: Path, kind: str) -> ModuleType:
    """Import ``module``, which the package's ``extra`` installs. Raises CheckpointError with the command to type."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CheckpointError(
            f'{path} is {kind}, which needs the package {module}: pip install "perceptual-style[{extra}]"'
        ) from None
