"""LoadStyleModel: a bundled style, one from the Hugging Face Hub, or a file (or a style of it) in models/fast_style."""

from __future__ import annotations

from ..core.hub.manifest import Entry
from ..core.models.style_model import load_style
from .choices import Choices
from .host import STYLE_FOLDER, HostedModel, StyleModelType, advanced, folders, io, progress_callback, search_aliases

_STYLES = Choices("style", STYLE_FOLDER, "style")
_ORDERS = ("auto", "rgb", "bgr")
_OUTPUTS = ("auto", "tanh", "tanh150", "sigmoid", "linear")


class LoadStyleModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadStyleModel",
            display_name="Load Fast Style Model",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "painting"),
            description="Loads a network that gives photos one painting's style in a single pass. Reads the files of many "
            "other programs, too.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=_STYLES.options(),
                    tooltip="A style that comes with this pack, one to download from the Hugging Face Hub, or a file in "
                    "models/fast_style (.safetensors, .pth, .pt, .model, .t7, .onnx). Of a file of several styles each is "
                    "listed, as file#style. Press R to see new files.",
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
        return _STYLES.validate(style)

    @classmethod
    def fingerprint_inputs(
        cls,
        style: str | None,
        download: bool | None = True,
        channel_order: str | None = None,
        output: str | None = None,
    ) -> str:
        return f"{_STYLES.fingerprint(style)} {channel_order or 'auto'} {output or 'auto'}"

    @classmethod
    def execute(
        cls, style: str, download: bool = True, channel_order: str = "auto", output: str = "auto"
    ) -> io.NodeOutput:
        chosen = _STYLES.chosen(style)
        model = load_style(
            chosen.id if isinstance(chosen, Entry) else chosen,
            style=_STYLES.chosen_style(style),
            channel_order=None if channel_order == "auto" else channel_order,
            output=None if output == "auto" else output,
            download=download,
            folder=folders(STYLE_FOLDER),
            progress=progress_callback(1) if _STYLES.is_to_download(chosen) else None,
        )
        return io.NodeOutput(HostedModel.of(model))
