"""LoadStyleModel: a bundled style, one from the Hugging Face Hub, or a file in models/fast_style."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError
from ..core.hub import place_of
from ..core.manifest import Entry, bundled_path, find_entry
from ..core.models import list_styles, load_style
from .host import (
    STYLE_FOLDER,
    HostedModel,
    StyleModelType,
    advanced,
    folders,
    io,
    progress_callback,
    style_files,
    style_path,
)

_TO_DOWNLOAD = " (download)"
_ORDERS = ("auto", "rgb", "bgr")
_OUTPUTS = ("auto", "tanh", "tanh150", "sigmoid", "linear")


def _options() -> list[str]:
    """What the list shows: styles by name, those of the Hub marked while they are not here, then files."""
    named = [find_entry(name, "style") for name in list_styles()]
    here = folders(STYLE_FOLDER)
    absent = {each.id for each in named if not each.is_downloaded(here)}
    shown = [each.id + _TO_DOWNLOAD * (each.id in absent) for each in named]
    theirs = {place_of(each, here).name for each in named if not each.is_bundled and each.id not in absent}
    return shown + [name for name in style_files() if name not in theirs]


def _is_to_download(chosen: Entry | Path | None) -> bool:
    return isinstance(chosen, Entry) and not chosen.is_downloaded(folders(STYLE_FOLDER))


def _chosen(style: str) -> Entry | Path:
    """What a name stands for. Workflows keep names: the mark of a download is valid before and after it.

    A style by name comes before a file of the same name; files always have a suffix, so none is hidden. Names come from
    outside and are looked up again here. Raises InputError for an unknown one.
    """
    found = find_entry(style.removesuffix(_TO_DOWNLOAD), "style") or style_path(style)
    if found is None:
        known = ", ".join(_options())
        raise InputError(
            f"there is no style named {style!r}; expected one of: {known}. Own files go into models/{STYLE_FOLDER}"
        )
    return found


class LoadStyleModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadStyleModel",
            display_name="Load Fast Style Model",
            category="Perceptual Style",
            description="Loads a network that gives photos one painting's style in a single pass. Reads the files of many "
            "other programs, too.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=_options(),
                    tooltip="A style that comes with this pack, one to download from the Hugging Face Hub, or a file in "
                    "models/fast_style (.safetensors, .pth, .pt, .model, .t7, .onnx). Press R to see new files.",
                ),
                io.Boolean.Input(
                    "download",
                    default=True,
                    optional=True,
                    tooltip="Whether a style marked (download) may be downloaded when the graph runs, once, verified, into "
                    "models/fast_style. When off, the error says where to put the file.",
                ),
                advanced(
                    io.Combo.Input,
                    "channel_order",
                    options=list(_ORDERS),
                    default="auto",
                    optional=True,
                    tooltip="The order of color channels that the network was trained on, which files do not tell. auto is "
                    "the usual one of the program that wrote the file; if reds and blues look swapped, try the other.",
                ),
                advanced(
                    io.Combo.Input,
                    "output",
                    options=list(_OUTPUTS),
                    default="auto",
                    optional=True,
                    tooltip="The function after the last layer, which files do not tell. auto is the usual one of the "
                    "program that wrote the file; tanh150 is a variant with the same names.",
                ),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="The style, for the Fast Stylize node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, style: str | None) -> bool | str:
        # Hosts differ in whether they compare a combo's value with its options; a linked one is not known yet (None).
        # Whatever else stood here would have the host repeat the message for it; execution refuses the rest.
        try:
            return style is None or bool(_chosen(style))
        except InputError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(
        cls,
        style: str | None,
        download: bool | None = True,
        channel_order: str | None = None,
        output: str | None = None,
    ) -> str | None:
        try:
            chosen = _chosen(style) if style else None
            path = bundled_path(chosen.id) if isinstance(chosen, Entry) and chosen.is_bundled else chosen
            if isinstance(path, Entry):  # the bytes are always the same, and so is the fingerprint before and after
                state = path.sha256
            else:
                stat = path.stat() if path else None
                state = f"{stat.st_mtime_ns} {stat.st_size}" if stat else ""
        except (InputError, OSError):  # validation and execution are the ones to say so
            state = ""
        return f"{style} {state} {channel_order or 'auto'} {output or 'auto'}"

    @classmethod
    def execute(
        cls, style: str, download: bool = True, channel_order: str = "auto", output: str = "auto"
    ) -> io.NodeOutput:
        chosen = _chosen(style)
        model = load_style(
            chosen.id if isinstance(chosen, Entry) else chosen,
            channel_order=None if channel_order == "auto" else channel_order,
            output=None if output == "auto" else output,
            download=download,
            folder=folders(STYLE_FOLDER),
            progress=progress_callback(1) if _is_to_download(chosen) else None,
        )
        return io.NodeOutput(HostedModel.of(model))
