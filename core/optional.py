"""Optional dependencies: imported on first use. If one is missing, the error gives the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import InputError


def need(module: str, extra: str, what: str, error: type[InputError] = InputError) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: the module to import
        extra: the extra of this package that installs it
        what: the start of the message if it is missing: what needs it
        error: the type to raise

    Raises:
        InputError: the module is not installed; the message holds the command that installs it. The type is ``error``.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise error(f'{what}, which needs the package {name}: pip install "perceptual-style[{extra}]"') from None
