"""LoadStyleModel: a bundled style, or a file in models/fast_style."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError
from ..core.manifest import bundled_path
from ..core.models import list_styles, load_style
from .host import HostedModel, StyleModelType, io, style_files, style_path


def _names() -> list[str]:
    return list_styles() + style_files()


def _path(name: str) -> Path:
    """A bundled style comes before a file of the same name; files always have a suffix, so none is hidden.

    Names come from outside and are looked up again here. Raises InputError for an unknown one.
    """
    path = bundled_path(name) if name in list_styles() else style_path(name)
    if path is None:
        known = ", ".join(_names())
        raise InputError(
            f"there is no style named {name!r}; expected one of: {known}. Own files go into models/fast_style"
        )
    return path


class LoadStyleModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadStyleModel",
            display_name="Load Fast Style Model",
            category="Perceptual Style",
            description="Loads a network that gives photos one painting's style in a single pass.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=_names(),
                    tooltip="A style that comes with this pack, or a file in models/fast_style. "
                    "Press R to see new files.",
                )
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="The style, for the Fast Stylize node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, style: str | None) -> bool | str:
        # Hosts differ in whether they compare a combo's value with its options; a linked one is not known yet (None).
        try:
            return style is None or bool(_path(style))
        except InputError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, style: str | None) -> str | None:
        try:
            stat = _path(style).stat() if style else None
        except (InputError, OSError):  # validation and execution are the ones to say so
            stat = None
        return f"{style} {stat.st_mtime_ns} {stat.st_size}" if stat else style

    @classmethod
    def execute(cls, style: str) -> io.NodeOutput:
        path = _path(style)
        return io.NodeOutput(HostedModel.of(load_style(style if style in list_styles() else path)))
