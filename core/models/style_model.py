"""StyleModel, one style network with its facts, and how to load one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.own_format import style_names
from ..hub.manifest import names
from ..hub.places import Folder
from ..network.arch import ArchSpec
from ..network.styles import Style, split
from ..progress import ProgressCallback
from .brush import Brush, Canvas, Painter
from .image_model import ImageModel
from .loading import network_file, open_model
from .stylizer import USUAL_SIDE, BaseStyle

_TRAINING_SIDES = range(32, 4097)


class StyleModel(ImageModel, BaseStyle):
    """A style network and its facts."""

    task, what = "style", "a style"

    @staticmethod
    def takes(spec: ArchSpec, facts: Mapping[str, Any]) -> bool:
        """Return whether the network keeps the size of an image and has three channels out."""
        return spec.scale == 1 and spec.out_channels == 3

    @property
    def training_side(self) -> int:
        """Side in px of the crops that the network was trained with, as far as its facts tell."""
        recipe = self.facts.get("recipe")
        side = recipe.get("size") if isinstance(recipe, Mapping) else None
        return side if isinstance(side, int) and side in _TRAINING_SIDES else USUAL_SIDE

    def painter(self, canvas: Canvas) -> Painter:
        """Return the network as a brush for this canvas."""
        return Brush(self.runner, canvas)

    def painting_bytes(self, canvas: Canvas) -> int:
        """Return the memory for painting on this canvas, see `BaseStyle`."""
        unit = self.spec.multiple_of
        beside = canvas.beside + canvas.copies(unit)
        sizes = (*canvas.painted(unit), canvas.device, canvas.precision, canvas.memory, beside, canvas.wrap)
        return beside + self.runner.working_bytes(*sizes)


def list_styles() -> list[str]:
    """Return the names that `load_style` accepts: bundled styles, then those that can be downloaded.

    `manifest.find_entry` and `hub.fetch.is_downloaded` tell which is which.
    """
    return names("style")


def load_style(
    name_or_path: str | Path,
    *,
    style: Style | None = None,
    channel_order: str | None = None,
    output: str | None = None,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> StyleModel:
    """Load a style by name or from a file: one of ours, or of any family in `checkpoints.dialects`.

    Args:
        name_or_path: Name, file, or USER/NAME of a repository of the Hub (hub/repositories.py). For a file of several
            styles (network/styles.py) also FILE#STYLE, where STYLE is ``wave`` or a mixture such as
            ``wave=0.7,candy=0.3``.
        style: The style within the file, instead of #STYLE: its name, or the amounts of a mixture by name, relative to
            their sum.
        channel_order: "rgb" or "bgr", where the usual order of the file's family is wrong.
        output: Output function ("tanh150", "linear", ... as in an arch string), where the family's usual one is wrong.
        download: Whether to download a style of the Hub that is not on this machine. ``progress`` then counts bytes.
        folder: Folder for downloaded files, by default the Hub's cache.
        progress: Progress of the download.

    Raises:
        CheckpointError: If there is no such name or file, if the file holds something else, or if it holds several
            styles and none is chosen.
        HubError: If the style has not been downloaded (a CheckpointError, too).
        InputError: If the file has no such style.
    """
    if style is None:
        name_or_path, style = split(name_or_path)
    path = network_file(name_or_path, "style", download=download, folder=folder, progress=progress)
    return open_model(StyleModel, path, name_or_path, style=style, channel_order=channel_order, output=output)


def load_styles(name_or_path: str | Path, **options: Any) -> list[StyleModel]:
    """Load every style of a file of several, or the only style of another one; arguments and errors as `load_style`."""
    base, style = split(name_or_path)
    found = () if style is not None else style_names(network_file(base, "style"))
    return [load_style(base, style=each, **options) for each in found] or [load_style(name_or_path, **options)]
