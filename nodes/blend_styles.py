"""BlendStyles and StyleRegions: two styles as one, which goes wherever a style goes."""

from __future__ import annotations

from torch import Tensor

from ..core.models.blend import blend_styles, style_regions
from . import images
from .fast_stylize import feather_input
from .host import HostedModel, StyleModelType, io, search_aliases


class BlendStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BlendStyles",
            display_name="Blend Styles",
            category="Perceptual Style",
            **search_aliases("style transfer", "mix styles", "interpolate styles"),
            description="The style between two. Networks one of which was trained from the other become one network; of any "
            "others both paint, and their paintings are blended.",
            inputs=[
                StyleModelType.Input("style_model_1", tooltip="The style at amount 0."),
                StyleModelType.Input("style_model_2", tooltip="The style at amount 1."),
                io.Float.Input(
                    "amount", default=0.5, min=0.0, max=1.0, step=0.05, display_mode=io.NumberDisplay.slider,
                    tooltip="How much of the second style: 0 is the first alone, 1 the second.",
                ),
            ],
            outputs=[StyleModelType.Output(display_name="style_model", tooltip="The blend, for the Fast Stylize node.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, style_model_1: HostedModel, style_model_2: HostedModel, amount: float = 0.5) -> io.NodeOutput:
        blend = blend_styles(style_model_1.model, style_model_2.model, amount)
        return io.NodeOutput(HostedModel.of(blend, style_model_1, style_model_2))


class StyleRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StyleRegions",
            display_name="Style Regions",
            category="Perceptual Style",
            **search_aliases("style transfer", "masked style", "several styles"),
            description="Two styles in one picture, each where its mask is, with one clean seam between them. Where neither "
            "is, the photo stays. For more regions, put one after another.",
            inputs=[
                StyleModelType.Input("style_model_1", tooltip="The style of the first region."),
                io.Mask.Input("mask_1", tooltip="Where the first style is; resized to the images if it must be."),
                StyleModelType.Input("style_model_2", tooltip="The style of the second region."),
                io.Mask.Input(
                    "mask_2", optional=True,
                    tooltip="Where the second style is. Without it: wherever the first is not. Where masks overlap, the "
                    "styles share.",
                ),
                feather_input("Pixels over which the regions fade into one another, half of them on each side."),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="Both styles, for the Fast Stylize node.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, style_model_1: HostedModel, mask_1: Tensor, style_model_2: HostedModel, mask_2: Tensor | None = None,
        feather: float = 0.0,
    ) -> io.NodeOutput:  # fmt: skip
        masks = [None if mask is None else images.mask_to_core(mask) for mask in (mask_1, mask_2)]
        regions = style_regions(style_model_1.model, masks[0], style_model_2.model, masks[1], feather)
        return io.NodeOutput(HostedModel.of(regions, style_model_1, style_model_2))
