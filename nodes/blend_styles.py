"""BlendStyles and StyleRegions: two styles combined into one, which connects wherever a style does."""

from __future__ import annotations

from torch import Tensor

from ..core.models.blend import blend_styles, style_regions
from ..core.models.stylizer import BaseStyle
from . import images
from .fast_stylize import feather_input
from .host import HostedModel, StyleModelType, io, search_aliases


class BlendStyles(io.ComfyNode):
    """The node that blends two styles everywhere."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="BlendStyles",
            display_name="Blend Styles",
            category="Perceptual Style",
            **search_aliases("style transfer", "mix styles", "interpolate styles"),
            description="Blends two styles into one. If one network was trained from the other, they are merged into a "
            "single network. Otherwise both run and their results are blended.",
            inputs=[
                StyleModelType.Input("style_model_1", tooltip="The style at amount 0."),
                StyleModelType.Input("style_model_2", tooltip="The style at amount 1."),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Share of the second style. 0: only the first style. 1: only the second.",
                ),
            ],
            outputs=[
                StyleModelType.Output(
                    display_name="style_model", tooltip="The blended style, for the Fast Stylize node."
                )
            ],
        )

    @classmethod
    def execute(
        cls, style_model_1: HostedModel[BaseStyle], style_model_2: HostedModel[BaseStyle], amount: float = 0.5
    ) -> io.NodeOutput:
        """Return the blend of two styles. Raise InputError for an amount outside [0, 1]."""
        blend = blend_styles(style_model_1.model, style_model_2.model, amount)
        return io.NodeOutput(HostedModel.of(blend, style_model_1, style_model_2))


class StyleRegions(io.ComfyNode):
    """The node that gives each of two styles its own region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="StyleRegions",
            display_name="Style Regions",
            category="Perceptual Style",
            **search_aliases("style transfer", "masked style", "several styles"),
            description="Paints two styles in one picture, each inside its own mask, with one clean seam between them. "
            "The photo stays where neither mask applies. For more regions, chain several of these nodes.",
            inputs=[
                StyleModelType.Input("style_model_1", tooltip="The style of the first region."),
                io.Mask.Input("mask_1", tooltip="Where to paint the first style. Resized to the images if needed."),
                StyleModelType.Input("style_model_2", tooltip="The style of the second region."),
                io.Mask.Input(
                    "mask_2",
                    optional=True,
                    tooltip="Where to paint the second style. If not connected: everywhere outside the first mask. Where "
                    "the masks overlap, the styles are mixed.",
                ),
                feather_input("Width in pixels over which the regions fade into each other, half on each side."),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="Both styles, for the Fast Stylize node.")
            ],
        )

    @classmethod
    def execute(
        cls,
        style_model_1: HostedModel[BaseStyle],
        mask_1: Tensor,
        style_model_2: HostedModel[BaseStyle],
        mask_2: Tensor | None = None,
        feather: float = 0.0,
    ) -> io.NodeOutput:
        """Return both styles as one. Raise ImageError for masks of another shape, InputError for a bad feather."""
        first_mask = images.mask_to_core(mask_1)
        second_mask = None if mask_2 is None else images.mask_to_core(mask_2)
        regions = style_regions(style_model_1.model, first_mask, style_model_2.model, second_mask, feather)
        return io.NodeOutput(HostedModel.of(regions, style_model_1, style_model_2))
