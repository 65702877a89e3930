"""Bases: trained styles that training runs start from, so that another painting needs far fewer steps."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..hub.manifest import find_entry
from ..models.loading import network_file, open_network
from ..models.predict import open_predictor, predictor_file
from ..models.predictor_file import is_predictor

NOTHING, PREDICTED = "none", "predicted"
#: What runs of a recipe start from by default: a bundled style, or what the bundled predictor finds for the painting.
BASES = {"quick": PREDICTED}


def base_file(init_from: str | Path | None, recipe: str, width: int | None = None) -> Path | None:
    """Return the file that a training run starts from, or None for a new network.

    Args:
        init_from: a style's name or a file (FILE#STYLE for one of several styles, or a predictor), "predicted" for the
            bundled predictor, or "none" for a new network. If None, the recipe's own base is used.
        recipe: name of the recipe.
        width: expected width of the network, in channels, or None for any. The base's architecture is kept, so it must
            have this width.

    Raises:
        CheckpointError: The style or file does not exist, or cannot be opened.
        InputError: The base has another width.
    """
    given = BASES.get(recipe, NOTHING) if init_from is None else init_from
    if given == NOTHING:
        return None
    name, mark, style = str(given).partition("#")
    path = network_file(name, "style") if find_entry(name, "style") else Path(name)
    if given == PREDICTED:
        path = predictor_file()
    if width is not None and (theirs := _width(path)) != width:
        raise InputError(
            f"{name} is {theirs} channels wide, not {width}, and a training run keeps the width of its base; do not set "
            f"the width, or start from a style as wide or from none"
        )
    return Path(f"{path}{mark}{style}")


def _width(path: Path) -> int:
    """Return the width of the network in a file of a style or of a predictor."""
    network = open_predictor(path).network.trunk if is_predictor(path) else open_network(path)[0]
    return network.spec.width
