"""Optional dependencies: imported when they are needed, with the command that installs what is missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from .errors import CheckpointError, InputError


def need(module: str, extra: str, path: Path, kind: str, error: type[InputError] = CheckpointError) -> ModuleType:
    """Import ``module``, which the package's ``extra`` installs. Raises ``error`` with the command to type."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise error(
            f'{path} is {kind}, which needs the package {package}: pip install "perceptual-style[{extra}]"'
        ) from None
