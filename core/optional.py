"""Optional dependencies: imported on first use. If one is missing or too old, the error gives the command that helps."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import InputError, first_line


def need(module: str, extra: str, what: str, error: type[InputError] = InputError) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: the module to import
        extra: the extra of this package that installs it
        what: the start of the message if it is missing: what needs it
        error: the type to raise

    Raises:
        InputError: the module is not installed, or the installed package does not have it. The message holds the command
            that installs it. The type is ``error``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as failure:
        name = module.partition(".")[0]
        if isinstance(failure, ModuleNotFoundError) and failure.name == name:
            raise error(f'{what}, which needs the package {name}: pip install "perceptual-style[{extra}]"') from None
        raise error(
            f"{what}, and the installed package {name} is too old or damaged ({first_line(failure)}): "
            f"pip install --upgrade {name}"
        ) from None
