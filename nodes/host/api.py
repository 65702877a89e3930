"""The host's node API, and helpers for schemas that work in old and new hosts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

__all__ = ["ComfyExtension", "StyleModelType", "advanced", "io", "offer_replacement", "search_aliases", "ui"]

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


async def offer_replacement(old: str, new: str, inputs: Mapping[str, str], widgets: Sequence[str] = ()) -> None:
    """Offer a node in place of a node that is not installed. Does nothing in older hosts.

    Args:
        old: Id of the node that is not installed.
        new: Id of the node that replaces it.
        inputs: The old node's input for each input of the new node that takes over its link or value.
        widgets: The old node's widgets in their order. Workflows store their values by position.
    """
    if not hasattr(io, "NodeReplace"):
        return
    from comfy_api.latest import ComfyAPI

    replacement = io.NodeReplace(
        new_node_id=new,
        old_node_id=old,
        old_widget_ids=list(widgets),
        input_mapping=[{"new_id": name, "old_id": source} for name, source in inputs.items()],
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )
    await ComfyAPI().node_replacement.register(replacement)
