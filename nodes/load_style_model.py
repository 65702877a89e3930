"""LoadStyleModel: a bundled style, one from the Hugging Face Hub, or a file (or one of its styles) in models/fast_style."""

from __future__ import annotations

from typing import Any

from ..core.hub.manifest import Entry
from ..core.models.style_model import StyleModel, load_style
from .choices import Choices
from .host import (
    STYLE_FOLDER,
    HostedModel,
    StyleModelType,
    advanced,
    io,
    model_folders,
    progress_callback,
    search_aliases,
)

#: The styles of the node's list
STYLES = Choices("style", STYLE_FOLDER, "style")
_ORDERS = ("auto", "rgb", "bgr")
_OUTPUTS = ("auto", "tanh", "tanh150", "sigmoid", "linear")


class LoadStyleModel(io.ComfyNode):
    """The node that loads a style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the styles available now."""
        return io.Schema(
            node_id="LoadStyleModel",
            display_name="Load Fast Style Model",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "painting"),
            description="Loads a network that applies one painting's style to photos in a single pass. It also reads the "
            "files of many other programs.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=STYLES.options(),
                    tooltip="A style that comes with this pack, one to download from the Hugging Face Hub, or a file in "
                    "models/fast_style (.safetensors, .pth, .pt, .model, .t7, .onnx, .h5, .ckpt, .pth.tar). If a file contains "
                    "several styles, each is listed as file#style. Press R to see new files.",
                ),
                advanced(
                    io.Boolean.Input,
                    "download",
                    default=True,
                    optional=True,
                    tooltip="Allow a style marked (download) to be downloaded when the graph runs. It is downloaded once, "
                    "verified, and saved in models/fast_style. When off, the error says where to put the file.",
                ),
                *_override_inputs(),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="The style, for the Fast Stylize node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, style: str | None) -> bool | str:
        """Return True for a known style, or a message for the user."""
        return STYLES.validate(style)

    @classmethod
    def fingerprint_inputs(
        cls,
        style: str | None,
        download: bool | None = True,
        channel_order: str | None = None,
        output: str | None = None,
    ) -> str:
        """Return a text that changes when another network would be loaded."""
        return f"{STYLES.fingerprint(style)} {channel_order or 'auto'} {output or 'auto'}"

    @classmethod
    def execute(
        cls, style: str, download: bool = True, channel_order: str = "auto", output: str = "auto"
    ) -> io.NodeOutput:
        """Return the style. Raise InputError, CheckpointError or HubError if it cannot be loaded."""
        model = load_option(
            style,
            channel_order=None if channel_order == "auto" else channel_order,
            output=None if output == "auto" else output,
            download=download,
            progress=progress_callback(1) if STYLES.is_to_download(STYLES.chosen(style)) else None,
        )
        return io.NodeOutput(HostedModel.of(model))


def load_option(option: str, **options: Any) -> StyleModel:
    """Load the style that an option of STYLES stands for; further arguments and errors as for `load_style`."""
    chosen = STYLES.chosen(option)
    name = chosen.id if isinstance(chosen, Entry) else chosen
    return load_style(name, style=STYLES.chosen_style(option), folder=model_folders(STYLE_FOLDER), **options)


def _override_inputs() -> list[io.Input]:
    """Return inputs for facts that checkpoints do not record."""
    return [
        advanced(
            io.Combo.Input,
            "channel_order",
            options=list(_ORDERS),
            default="auto",
            optional=True,
            tooltip="The channel order that the network was trained with, which files do not record. auto: the usual order "
            "of the program that wrote the file. If reds and blues look swapped, try the other order.",
        ),
        advanced(
            io.Combo.Input,
            "output",
            options=list(_OUTPUTS),
            default="auto",
            optional=True,
            tooltip="The function after the last layer, which files do not record. auto: the usual function of the program "
            "that wrote the file. tanh150: for a variant with the same tensor names.",
        ),
    ]
