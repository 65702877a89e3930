"""The nodes of this pack, and the extension that the host asks for."""

from __future__ import annotations

from .blend_styles import BlendStyles, StyleRegions
from .fast_stylize import FastStylize
from .host import ComfyExtension, io, offer_replacement
from .load_style_model import LoadStyleModel
from .optimize_style import OptimizeStyle
from .perceptual_upscale import LoadPerceptualUpscaler, PerceptualUpscale
from .style_from_painting import StyleFromPainting
from .style_sheet import StyleSheet
from .stylize_video import StylizeVideo
from .train_style import TrainStyle

NODES: list[type[io.ComfyNode]] = [
    LoadStyleModel,
    FastStylize,
    BlendStyles,
    StyleRegions,
    PerceptualUpscale,
    LoadPerceptualUpscaler,
    TrainStyle,
    OptimizeStyle,
    StylizeVideo,
    StyleFromPainting,
    StyleSheet,
]


class PerceptualStyleExtension(ComfyExtension):
    """The pack's entry point in the host's V3 API."""

    async def on_load(self) -> None:
        """Offer Fast Stylize in graphs made with ComfyUI-Fast-Style-Transfer, which is no longer maintained.

        Its node loads the style itself, so the user connects a style to the new node.
        """
        await offer_replacement("FastStyleTransfer", "FastStylize", {"image": "content_img"}, ["model"])

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the pack's nodes."""
        return NODES
