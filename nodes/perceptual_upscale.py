"""PerceptualUpscale and LoadPerceptualUpscaler: images two, four or eight times larger, by us or by the host's own nodes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..core.hub.manifest import Entry
from ..core.models.upscale_model import UpscaleModel, load_upscaler, partner_file
from . import images
from .choices import Choices
from .host import UPSCALE_FOLDER, HostedModel, folders, intermediate, io, search_aliases

_UPSCALERS = Choices("upscale", UPSCALE_FOLDER, "upscaler", partner_file)
_DEFAULT = "perceptual_x4"


def _model_input() -> io.Combo.Input:
    options = _UPSCALERS.options()
    return io.Combo.Input(
        "model",
        options=options,
        default=_DEFAULT if _DEFAULT in options else None,
        tooltip="An upscaler that comes with this pack, or a file in models/perceptual_upscale. The model decides how many "
        "times larger images become: 2, 4 or 8. Press R to see new files.",
    )


def _fidelity_input() -> io.Float.Input:
    return io.Float.Input(
        "fidelity",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        display_mode=io.NumberDisplay.slider,
        tooltip="0 is the perceptual network: crisp detail. 1 is its partner, trained for pixel values alone: smoother, but "
        "closest to the true pixels. Between them the two networks are blended. Models without a partner have 0 only.",
    )


def _load(model: str, fidelity: float) -> UpscaleModel:
    chosen = _UPSCALERS.chosen(model)
    name = chosen.id if isinstance(chosen, Entry) else chosen
    return load_upscaler(name, folder=folders(UPSCALE_FOLDER)).blended(fidelity)


class PerceptualUpscale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerceptualUpscale",
            display_name="Perceptual Upscale",
            category="Perceptual Style",
            **search_aliases("super-resolution", "enlarge", "upscaler", "style transfer"),
            description="Enlarges images two, four or eight times with a network, in one pass and without tiles. Any size "
            "and batch; the result is exactly that many times the input.",
            inputs=[
                io.Image.Input("image", tooltip="Images to enlarge. Each is enlarged on its own, alpha with it."),
                _model_input(),
                _fidelity_input(),
                io.Boolean.Input(
                    "match_colors",
                    default=False,
                    tooltip="Give the result the input's histogram of each color channel, as the paper does.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="A mask of the images, to be enlarged with them."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enlarged images."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The enlarged mask. Without one, what is transparent in the images; else nothing is masked.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        return _UPSCALERS.validate(model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_: object) -> str:
        return _UPSCALERS.fingerprint(model)

    @classmethod
    def execute(
        cls, image: Tensor, model: str, fidelity: float = 0.0, match_colors: bool = False, mask: Tensor | None = None
    ) -> io.NodeOutput:
        images.check(image)
        upscaler = _load(model, fidelity)
        batch, height, width, channels = image.shape
        # first, since it is over at once: a mask that is none is not found out after minutes
        masks = None if mask is None else images.enlarge_masks(mask, height, width, upscaler.scale)
        result = images.process(image, HostedModel.of(upscaler), partial(upscaler.upscale, match_colors=match_colors))
        if masks is None:
            masks = 1 - result[..., 3] if channels == 4 else torch.zeros(result.shape[:3], **intermediate())
        return io.NodeOutput(result, masks)


class LoadPerceptualUpscaler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadPerceptualUpscaler",
            display_name="Load Perceptual Upscaler",
            category="Perceptual Style",
            **search_aliases("super-resolution", "upscale model", "style transfer"),
            description="Loads an upscaler for Upscale Image (using Model) and for other packs' nodes that take an upscale "
            "model. Perceptual Upscale needs none of this.",
            inputs=[_model_input(), _fidelity_input()],
            outputs=[
                io.UpscaleModel.Output(
                    display_name="upscale_model", tooltip="The upscaler, as Load Upscale Model gives one."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        return _UPSCALERS.validate(model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_: object) -> str:
        return _UPSCALERS.fingerprint(model)

    @classmethod
    def execute(cls, model: str, fidelity: float = 0.0) -> io.NodeOutput:
        with torch.inference_mode(False):  # the host's mode, whose tensors other packs could not use outside of it
            loaded = _load(model, fidelity)
            from .upscale_descriptor import descriptor_of  # the host's library, asked for where it is needed

            return io.NodeOutput(descriptor_of(loaded))
