"""The host's node API, and helpers for schemas that work in old and new hosts."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

__all__ = ["ComfyExtension", "StyleModelType", "advanced", "io", "search_aliases", "ui"]

#: Not the host's own STYLE_MODEL, which is something else.
StyleModelType = io.Custom("PERCEPTUAL_STYLE_MODEL")


def advanced(make: Any, *arguments: Any, **options: Any) -> Any:
    """Make an input that newer hosts show only among the advanced ones.

    Args:
        make: The input's class, such as ``io.Int.Input``.
        *arguments: Arguments of the class.
        **options: Keyword arguments of the class.
    """
    if "advanced" in inspect.signature(make).parameters:
        options["advanced"] = True
    return make(*arguments, **options)


def search_aliases(*words: str) -> dict[str, list[str]]:
    """Return schema arguments with other words by which newer hosts find a node. Empty for older hosts.

    Newer hosts search ids, display names and aliases, but not categories. So every node also gets the pack's name.
    """
    if "search_aliases" not in inspect.signature(io.Schema).parameters:
        return {}
    return {"search_aliases": [*words, "perceptual style"]}
