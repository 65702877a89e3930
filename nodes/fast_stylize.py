"""FastStylize: photos in a painting's style, one pass of the network each."""

from __future__ import annotations

from torch import Tensor

from ..core.errors import ImageError
from ..core.images.masks import MOST_FEATHER, fit_mask
from ..core.models.stylizer import COLORS, LARGEST_STROKE, SMALLEST_STROKE
from . import images
from .host import HostedModel, StyleModelType, io, search_aliases


def feather_input(tooltip: str) -> io.Float.Input:
    """An input for pixels of a soft edge."""
    return io.Float.Input(
        "feather", default=0.0, min=0.0, max=float(MOST_FEATHER), step=1.0, optional=True, tooltip=tooltip
    )


class FastStylize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        slider = {"optional": True, "display_mode": io.NumberDisplay.slider}
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
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05, **slider,
                    tooltip="1 is the style, 0 the photo, and between them are blends that do not look hazy.",
                ),
                io.Float.Input(
                    "stroke_size", default=1.0, min=SMALLEST_STROKE, max=LARGEST_STROKE, step=0.05, **slider,
                    tooltip="How large the strokes are in the picture: 2 paints them twice as large, with the photo's fine "
                    "detail on top; 0.5 half as large, which takes four times the time and memory.",
                ),
                io.Combo.Input(
                    "color", options=list(COLORS), default="style", optional=True,
                    tooltip="style: the painting's colors. keep: each pixel keeps the photo's color, and only light and dark "
                    "are painted. match: the painting's colors, moved to the photo's palette.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where to stylize: where the mask is 0 the photo stays exactly as it is. One mask for all images, "
                    "or one for each; resized if it must be.",
                ),
                feather_input("Pixels over which the style fades in, inside of the mask's edges."),
                io.Float.Input(
                    "temporal", default=0.0, min=0.0, max=1.0, step=0.05, **slider,
                    tooltip="For the frames of a video, as one batch: above 0 they flicker less. What does not move is "
                    "averaged over time, and strokes follow a pan. 0 stylizes each image on its own.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The stylized images, same size as the input.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: Tensor, style_model: HostedModel, strength: float = 1.0, stroke_size: float = 1.0,
        color: str = "style", mask: Tensor | None = None, feather: float = 0.0, temporal: float = 0.0,
    ) -> io.NodeOutput:  # fmt: skip
        images.check(image)
        stylizer = style_model.model.stylizer(
            mask=None if mask is None else _fitting(mask, image), strength=strength, stroke_size=stroke_size,
            color=color, feather=feather, temporal=temporal,
        )  # fmt: skip
        result = images.process(image, style_model, stylizer, stroke_size=stroke_size, temporal=temporal)
        return io.NodeOutput(result)


def _fitting(mask: Tensor, image: Tensor) -> Tensor:
    """A MASK as core takes it, for these images."""
    masks = images.mask_to_core(mask)
    if len(masks) not in (1, len(image)):
        raise ImageError(f"expected one mask or {len(image)}, one for each image, got {len(masks)}")
    return fit_mask(masks, *image.shape[1:3])
