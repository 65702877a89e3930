"""FastStylize: photos in a painting's style, with a single pass of the network for each."""

from __future__ import annotations

from torch import Tensor

from ..core.errors import ImageError
from ..core.images.masks import MOST_FEATHER, fit_mask
from ..core.images.wrapping import WRAPS
from ..core.models.stylizer import AUTO, COLORS, LARGEST_STROKE, SMALLEST_STROKE, BaseStyle
from . import images
from .host import HostedModel, StyleModelType, advanced, io, search_aliases


def feather_input(
    tooltip: str = "Width of the soft edge in pixels, measured inward from the mask's edge.",
) -> io.Float.Input:
    """Return an input for the width of a soft edge in px."""
    return io.Float.Input(
        "feather", default=0.0, min=0.0, max=float(MOST_FEATHER), step=1.0, optional=True, tooltip=tooltip
    )


def slider(name: str, default: float, smallest: float, largest: float, tooltip: str) -> io.Float.Input:
    """Return an input for a number, drawn as a slider."""
    return io.Float.Input(
        name,
        default=default,
        min=smallest,
        max=largest,
        step=0.05,
        optional=True,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )


class FastStylize(io.ComfyNode):
    """The node that stylizes images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="FastStylize",
            display_name="Fast Stylize",
            category="Perceptual Style",
            **search_aliases(
                "style", "style transfer", "neural style", "painting", "artistic filter", "video style", "flicker"
            ),
            description="Applies a painting's style to images of any size, one or many. The result has the size of the "
            "input.",
            inputs=[
                io.Image.Input("image", tooltip="Photos to stylize. Each is stylized on its own and keeps its alpha."),
                *_control_inputs(),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The stylized images, same size as the input.")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        style_model: HostedModel[BaseStyle],
        strength: float = 1.0,
        stroke_size: float = 1.0,
        color: str = "style",
        mask: Tensor | None = None,
        feather: float = 0.0,
        temporal: float = 0.0,
        auto_stroke_size: bool = False,
        wrap: str = "none",
    ) -> io.NodeOutput:
        """Return the stylized images. Raise ImageError for bad images or masks, InputError for a bad option."""
        images.check(image)
        strokes = AUTO if auto_stroke_size else stroke_size
        stylizer = style_model.model.stylizer(
            mask=None if mask is None else _fitted_mask(mask, image),
            strength=strength,
            stroke_size=strokes,
            color=color,
            feather=feather,
            temporal=temporal,
            wrap=wrap,
        )
        result = images.process(
            image, style_model, stylizer.stylized, stroke_size=strokes, temporal=temporal, wrap=wrap
        )
        return io.NodeOutput(result)


def look_inputs(photo: str = "photo") -> list[io.Input]:
    """Return the inputs for style, strength, stroke size and color. ``photo`` is what their tooltips call an image."""
    return [
        StyleModelType.Input(
            "style_model",
            tooltip="The style, from Load Fast Style Model, Train Style, Blend Styles or Style Regions.",
        ),
        slider(
            "strength", 1.0, 0.0, 1.0,
            f"1: the style. 0: the {photo}. Values between blend the two without a hazy look.",
        ),
        slider(
            "stroke_size", 1.0, SMALLEST_STROKE, LARGEST_STROKE,
            f"Size of the strokes. 2: twice as large, with the {photo}'s fine detail on top. 0.5: half as large, which "
            "takes four times the time and memory.",
        ),
        io.Combo.Input(
            "color", options=list(COLORS), default="style", optional=True,
            tooltip=f"style: the painting's colors. keep: the {photo}'s own colors, so that only light and dark are painted. "
            f"match: the painting's colors, shifted to the {photo}'s palette.",
        ),
    ]  # fmt: skip


def picture_inputs(photo: str = "photo") -> list[io.Input]:
    """Return the inputs that relate strokes and edges to the whole picture. They were added later, so they come last."""
    return [
        advanced(
            io.Boolean.Input, "auto_stroke_size", default=False, optional=True,
            tooltip=f"Strokes as large, compared with the {photo}, as in training, so that a preview and a print look alike. "
            "stroke_size is then ignored.",
        ),
        advanced(
            io.Combo.Input, "wrap", options=list(WRAPS), default=WRAPS[0], optional=True,
            tooltip="Edges that meet, where no seam shows. none: ordinary pictures. x: left and right, for 360-degree "
            "panoramas. xy: also top and bottom, for textures that tile.",
        ),
    ]  # fmt: skip


def _control_inputs() -> list[io.Input]:
    return [
        *look_inputs(),
        io.Mask.Input(
            "mask", optional=True,
            tooltip="Where to stylize. Where the mask is 0, the photo stays exactly as it is. Give one mask for all images "
            "or one per image. Masks are resized if needed.",
        ),
        feather_input(),
        slider(
            "temporal", 0.0, 0.0, 1.0,
            "For the frames of a video, given as one batch. Above 0, they flicker less: still parts are averaged over time, "
            "and strokes follow a pan. 0: each image is stylized on its own.",
        ),
        *picture_inputs(),
    ]  # fmt: skip


def _fitted_mask(mask: Tensor, image: Tensor) -> Tensor:
    """Convert a MASK to core's form, at the size of the images. Raise ImageError for a wrong number of masks."""
    masks = images.mask_to_core(mask)
    if len(masks) not in (1, len(image)):
        raise ImageError(f"expected one mask or {len(image)}, one for each image, got {len(masks)}")
    return fit_mask(masks, *image.shape[1:3])
