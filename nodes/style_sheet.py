"""StyleSheet: one photo in all styles on one sheet, with their names."""

from __future__ import annotations

import logging
import re

import torch
from torch import Tensor

from ..core.errors import CheckpointError, InputError
from ..core.models.stylizer import BaseStyle
from ..core.progress import ProgressCallback
from . import images
from .host import HostedModel, image_options, io, progress_callback, search_aliases
from .load_style_model import STYLES, load_option

_log = logging.getLogger(__name__)


class StyleSheet(io.ComfyNode):
    """The node that shows a photo in many styles."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="StyleSheet",
            display_name="Style Sheet",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "painting", "compare styles", "contact sheet", "preview"),
            description="Shows a photo in all your styles on one sheet, with their names, to choose from. Styles that would "
            "have to be downloaded are left out.",
            inputs=[
                io.Image.Input("image", tooltip="The photo. Several photos give a sheet each."),
                io.String.Input(
                    "styles", default="", multiline=True, optional=True,
                    tooltip="Names of the styles to show, as Load Fast Style Model lists them, one in each line. Empty: all.",
                ),
                io.Int.Input(
                    "size", default=384, min=64, max=2048, step=32, optional=True,
                    tooltip="Longest side of each picture in pixels. Smaller photos stay as they are.",
                ),
                io.Int.Input(
                    "columns", default=0, min=0, max=100, optional=True,
                    tooltip="Number of pictures in a row. 0: as fits the sheet.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The sheet, which begins with the photo itself."),
                io.String.Output(
                    display_name="names", is_output_list=True, tooltip="The names of the styles, in the sheet's order."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(
        cls, styles: str | None = "", size: int | None = None, columns: int | None = None, **_: object
    ) -> str:
        """Return a text that changes when other styles would be shown."""
        names = (_listed(styles) if isinstance(styles, str) else []) or STYLES.options_here()
        return f"{[STYLES.fingerprint(name) for name in names]} {size} {columns}"

    @classmethod
    def execute(cls, image: Tensor, styles: str = "", size: int = 384, columns: int = 0) -> io.NodeOutput:
        """Return a sheet for each image, and the names of the styles.

        Raises:
            ImageError: If an image is wrong.
            InputError: If a style is unknown, or a number is out of range.
        """
        from ..core.evaluation.sheet import style_sheet  # with the yardstick, which a start of the host never needs

        images.check(image)
        wanted = _listed(styles)
        hosted = _loaded(wanted) if wanted else _all_that_load(STYLES.options_here())
        by_model = {id(each.model): each for each in hosted.values()}

        def paint(style: BaseStyle, photo: Tensor, progress: ProgressCallback | None) -> Tensor:
            device = by_model[id(style)].load(*photo.shape[-2:])
            return style.stylize(photo.to(device), progress=progress)

        progress = progress_callback(len(image))
        named = [(name, each.model) for name, each in hosted.items()]
        sheets = [
            style_sheet(
                images.to_core(frame, torch.device("cpu")),
                named,
                side=size,
                columns=columns,
                paint=paint,
                progress=progress,
            )
            for frame in image
        ]
        return io.NodeOutput(torch.cat(sheets).movedim(1, -1).to(**image_options()), list(hosted))


def _listed(text: str) -> list[str]:
    """Return the names in a text, one in each line, each once."""
    if not isinstance(text, str):
        raise InputError(f"styles is {text!r:.80}; expected names of styles, one in each line")
    return list(dict.fromkeys(filter(None, map(str.strip, re.split(r"[\r\n]+", text)))))


def _loaded(names: list[str]) -> dict[str, HostedModel[BaseStyle]]:
    return {name: HostedModel.of(load_option(name)) for name in names}


def _all_that_load(names: list[str]) -> dict[str, HostedModel[BaseStyle]]:
    """Return the styles among the networks that are here. A file that holds something else is one line in the log."""
    hosted: dict[str, HostedModel[BaseStyle]] = {}
    for name in names:
        try:
            hosted |= _loaded([name])
        except CheckpointError as error:
            _log.warning("Style Sheet: left out %s: %s", name, error)
    return hosted
