"""StyleModel and how to load one."""

from __future__ import annotations

from pathlib import Path

from ..hub.manifest import names
from ..hub.places import Folder
from ..network.arch import ArchSpec
from ..network.styles import Style, split
from ..progress import ProgressCallback
from .brush import Brush, Canvas, Painter
from .image_model import ImageModel
from .loading import network_file, open_model
from .stylizer import AnyStyle


class StyleModel(AnyStyle, ImageModel):
    """A style network and its facts."""

    task, what = "style", "a style"

    @staticmethod
    def takes(spec: ArchSpec) -> bool:
        return spec.scale == 1 and spec.out_channels == 3

    def painter(self, canvas: Canvas) -> Painter:
        return Brush(self, canvas)

    def painting_bytes(self, canvas: Canvas) -> int:
        beside = canvas.beside + canvas.copies
        sizes = (*canvas.painted, canvas.device, canvas.precision, canvas.memory, beside)
        return beside + ImageModel.working_bytes(self, *sizes)


def list_styles() -> list[str]:
    """Names that `load_style` knows without a path: bundled styles, then those that can be downloaded.

    `manifest.find_entry` tells which is which (``is_bundled``, `hub.fetch.is_downloaded`).
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
    """A style by name, or a style network from a file: ours, or of any family in `dialects`.

    name_or_path: of a file of several styles (core/styles.py) also FILE#STYLE, where STYLE is as in ``wave`` or in
        ``wave=0.7,candy=0.3``
    style: the same apart from the name: a style of the file, or the amounts of a mixture by name, relative to their sum
    channel_order: "rgb" | "bgr", output: "tanh150", "linear", ... (as in an arch string): what a file cannot tell, where
    its family's usual value is wrong
    download: whether a style of the Hub that is not on this machine may be downloaded, with ``progress`` in bytes
    folder: where such files are looked for and put; by default the Hub's cache

    Raises CheckpointError when there is no such name or file, the file holds something else, or several styles and none
    is chosen; HubError (one, too) when it was not downloaded; InputError when there is no such style in it.
    """
    if style is None:
        name_or_path, style = split(name_or_path)
    path = network_file(name_or_path, "style", download=download, folder=folder, progress=progress)
    return open_model(StyleModel, path, name_or_path, style=style, channel_order=channel_order, output=output)
