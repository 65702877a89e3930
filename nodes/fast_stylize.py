"""FastStylize: photos in a painting's style, one pass of the network each."""

from __future__ import annotations

from torch import Tensor

from . import images
from .host import HostedModel, StyleModelType, intermediate, io, progress_callback


class FastStylize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FastStylize",
            display_name="Fast Stylize",
            category="Perceptual Style",
            description="Gives images a painting's style. Any size and batch; the result has the size of the input.",
            inputs=[
                io.Image.Input("image", tooltip="Photos to stylize. Each is stylized on its own; alpha is kept."),
                StyleModelType.Input("style_model", tooltip="The style, from Load Fast Style Model."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The stylized images, same size as the input.")],
        )

    @classmethod
    def execute(cls, image: Tensor, style_model: HostedModel) -> io.NodeOutput:
        images.check(image)
        model = style_model.model
        batch, height, width, _ = image.shape
        device = style_model.load(height, width)
        progress = progress_callback(batch)
        result = images.empty_like(image, 1, **intermediate())
        for frame, out in zip(image, result, strict=True):
            stylized = model.stylize(images.to_core(frame, device), progress=progress)
            out[..., :3] = stylized[0].movedim(0, -1)
            if image.shape[-1] == 4:
                out[..., 3] = frame[..., 3]
        return io.NodeOutput(result)
