"""Load a style or an upscaler, whichever a name or a file stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..network.styles import split
from .loading import network_file, open_network
from .style_model import StyleModel, load_style
from .upscale_model import UpscaleModel, load_upscaler


def load_model(name_or_path: str | Path, **options: Any) -> StyleModel | UpscaleModel:
    """Load a network that gives pictures: a style, or an upscaler.

    Args:
        name_or_path: Name or file, or FILE#STYLE, as for `load_style`.
        **options: ``channel_order`` and ``output``, as for `load_style`.

    Raises:
        CheckpointError: If there is no such name or file, or if it holds something else.
    """
    base, _ = split(name_or_path)
    _, _, facts = open_network(network_file(base))
    load = load_upscaler if facts.get("task") == UpscaleModel.task else load_style
    return load(name_or_path, **options)
