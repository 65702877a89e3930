"""LoadStyleModel: a bundled style, or a file in models/fast_style."""

from __future__ import annotations

from pathlib import Path

from ..core.manifest import bundled_file
from ..core.models import list_styles, load_style
from .host import HostedModel, StyleModelType, io, style_files, style_path


def _names() -> list[str]:
    return list_styles() + style_files()


def _path(name: str) -> Path | None:
    """A bundled style comes before a file of the same name; files always have a suffix, so none is hidden."""
    return bundled_file(name) if name in list_styles() else style_path(name)


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
    def validate_inputs(cls, style: str) -> bool | str:
        # Hosts differ in whether they compare a combo's value with its options.
        if style in _names():
            return True
        known = ", ".join(_names())
        return f"there is no style named {style!r}; expected one of: {known}. Own files go into models/fast_style"

    @classmethod
    def fingerprint_inputs(cls, style: str) -> str:
        path = _path(style)
        stat = path.stat() if path else None
        return f"{style} {stat.st_mtime_ns} {stat.st_size}" if stat else style

    @classmethod
    def execute(cls, style: str) -> io.NodeOutput:
        path = _path(style)
        if path is None:
            raise FileNotFoundError(f"the style {style!r} is not in models/fast_style any more")
        return io.NodeOutput(HostedModel.of(load_style(path)))
