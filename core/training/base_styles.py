"""Styles that new ones are trained from: another painting takes a fraction of the steps then."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.own_format import read_header
from ..errors import InputError
from ..hub.manifest import find_entry
from ..models.loading import network_file
from ..network.arch import ArchSpec
from .style_recipes import BASES

NOTHING = "none"


def base_file(init_from: str | Path | None, recipe: str, width: int | None = None) -> Path | None:
    """The file to start from, for ``init_from`` of a training; None for a new network.

    init_from: a style's name or a file, FILE#STYLE for one of several styles; None: what the recipe of this name is meant
        to start from; "none": nothing
    width: that the network is to have, None for any. The base's architecture is kept, so that it must be as wide.

    Raises CheckpointError where there is no such style, InputError where it has another width.
    """
    name = BASES.get(recipe, NOTHING) if init_from is None else init_from
    if name == NOTHING:
        return None
    name, mark, style = str(name).partition("#")
    path = network_file(name, "style") if find_entry(name, "style") else Path(name)
    arch = read_header(path).get("arch")
    if width is not None and arch is not None and (theirs := ArchSpec.parse(arch).width) != width:
        raise InputError(
            f"{name} is {theirs} channels wide, not {width}, and a training keeps the width that it starts from; leave "
            f"the width alone, or start from a style as wide or from none"
        )
    return Path(f"{path}{mark}{style}")
