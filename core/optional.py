"""Optional dependencies: imported when something needs them, with the command that installs what is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import InputError


def need(module: str, extra: str, what: str, error: type[InputError] = InputError) -> ModuleType:
    """Import ``module``, which the package's ``extra`` installs, for ``what``. Raises ``error`` with the command to type."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise error(f'{what}, which needs the package {name}: pip install "perceptual-style[{extra}]"') from None
