"""FastStylize: photos in a painting's style, one pass of the network each."""

from __future__ import annotations

from torch import Tensor

from . import images
from .host import HostedModel, StyleModelType, io, search_aliases


class FastStylize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FastStylize",
            display_name="Fast Stylize",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "painting", "artistic filter"),
            description="Gives images a painting's style. Any size and batch; the result has the size of the input.",
            inputs=[
                io.Image.Input("image", tooltip="Photos to stylize. Each is stylized on its own; alpha is kept."),
                StyleModelType.Input(
                    "style_model", tooltip="The style, from Load Fast Style Model, Blend Styles or Style Regions."
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The stylized images, same size as the input.")],
        )

    @classmethod
    def execute(cls, image: Tensor, style_model: HostedModel) -> io.NodeOutput:
        return io.NodeOutput(images.process(image, style_model, style_model.model.stylize))
