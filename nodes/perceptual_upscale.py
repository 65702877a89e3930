"""PerceptualUpscale and LoadPerceptualUpscaler: images two, four or eight times larger, by this pack's or the host's nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.hub.manifest import Entry
from ..core.models.upscale_model import UpscaleModel, load_upscaler, partner_file
from . import images
from .choices import Choices
from .host import UPSCALE_FOLDER, HostedModel, image_options, io, model_folders, search_aliases

_UPSCALERS = Choices("upscale", UPSCALE_FOLDER, "upscaler", partner_file)
_DEFAULT = "perceptual_x4"


def _model_input() -> io.Combo.Input:
    options = _UPSCALERS.options()
    return io.Combo.Input(
        "model",
        options=options,
        default=_DEFAULT if _DEFAULT in options else None,
        tooltip="An upscaler that comes with this pack, or a file in models/perceptual_upscale. perceptual: crisp, for clean "
        "images such as renders. restore: for photos with noise, blur or compression. pixel: smooth, closest to the true "
        "pixels. For pixel art, use Upscale Image with nearest-exact. The name ends in the factor. Press R to see new files.",
    )


def _fidelity_input() -> io.Float.Input:
    return io.Float.Input(
        "fidelity",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        display_mode=io.NumberDisplay.slider,
        tooltip="0: the perceptual network, with crisp detail. 1: its partner, trained on pixel values only, which is smoother "
        "but closest to the true pixels. Values between blend the two. Models without a partner ignore it.",
    )


def _denoise_input() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        display_mode=io.NumberDisplay.slider,
        tooltip="For models that restore damaged photos. 1: remove noise, blur and compression. 0: keep everything, as models "
        "for clean images do. Values between blend the two. Other models ignore it.",
    )


def _load(model: str, fidelity: float, denoise: float) -> UpscaleModel:
    """Return the chosen model, blended by the dial it has: the sliders are always there."""
    chosen = _UPSCALERS.chosen(model)
    name = chosen.id if isinstance(chosen, Entry) else chosen
    loaded = load_upscaler(name, folder=model_folders(UPSCALE_FOLDER))
    if loaded.restores:
        return loaded.blended(denoise=denoise)
    return loaded.blended(fidelity if loaded.has_partner else None)


class PerceptualUpscale(io.ComfyNode):
    """The node that enlarges images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the upscalers available now."""
        return io.Schema(
            node_id="PerceptualUpscale",
            display_name="Perceptual Upscale",
            category="Perceptual Style",
            **search_aliases("upscale", "upscaler", "super-resolution", "enlarge"),
            description="Enlarges images two, four or eight times with a network, in one pass and without tiles. Works for "
            "any size and batch. The result is exactly that many times as large.",
            inputs=[
                io.Image.Input(
                    "image", tooltip="Images to enlarge. Each is enlarged on its own, together with its alpha."
                ),
                _model_input(),
                _fidelity_input(),
                io.Boolean.Input(
                    "match_colors",
                    default=False,
                    optional=True,
                    tooltip="Match the histogram of each color channel to the input's, as the paper does.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="A mask to enlarge along with the images."),
                _denoise_input(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enlarged images."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The enlarged mask. If no mask is connected, it marks what is transparent in the images, and is "
                    "empty for images without alpha.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Return True for a known upscaler, or a message for the user."""
        return _UPSCALERS.validate(model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_: object) -> str:
        """Return a text that changes with the chosen upscaler or its partner."""
        return _UPSCALERS.fingerprint(model)

    @classmethod
    def execute(
        cls, image: Tensor, model: str, fidelity: float = 0.0, match_colors: bool = False,
        mask: Tensor | None = None, denoise: float = 1.0,
    ) -> io.NodeOutput:  # fmt: skip
        """Return the enlarged images and mask. Raise InputError, ImageError or CheckpointError for bad inputs."""
        images.check(image)
        upscaler = _load(model, fidelity, denoise)
        batch, height, width, channels = image.shape
        # first, so that a bad mask is reported at once rather than after minutes
        masks = None if mask is None else images.enlarge_masks(mask, height, width, upscaler.scale)
        enlarger = upscaler.enlarger(match_colors=match_colors)
        result = images.process(image, HostedModel.of(upscaler), enlarger, scale=upscaler.scale)
        if masks is None:
            masks = 1 - result[..., 3] if channels == 4 else torch.zeros(result.shape[:3], **image_options())
        return io.NodeOutput(result, masks)


class LoadPerceptualUpscaler(io.ComfyNode):
    """The node that loads an upscaler for the host's own nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the upscalers available now."""
        return io.Schema(
            node_id="LoadPerceptualUpscaler",
            display_name="Load Perceptual Upscaler",
            category="Perceptual Style",
            **search_aliases("upscale model", "super-resolution"),
            description="Loads an upscaler for Upscale Image (using Model) and for nodes of other packs that take an upscale "
            "model. Perceptual Upscale does not need it.",
            inputs=[_model_input(), _fidelity_input(), _denoise_input()],
            outputs=[
                io.UpscaleModel.Output(
                    display_name="upscale_model", tooltip="The upscaler, in the form that Load Upscale Model returns."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Return True for a known upscaler, or a message for the user."""
        return _UPSCALERS.validate(model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_: object) -> str:
        """Return a text that changes with the chosen upscaler or its partner."""
        return _UPSCALERS.fingerprint(model)

    @classmethod
    def execute(cls, model: str, fidelity: float = 0.0, denoise: float = 1.0) -> io.NodeOutput:
        """Return the upscaler as an UPSCALE_MODEL. Raise InputError or CheckpointError if it cannot be loaded."""
        with torch.inference_mode(False):  # other packs could not use inference tensors outside of the host's mode
            loaded = _load(model, fidelity, denoise)
            from .upscale_descriptor import descriptor_of  # imports spandrel, which only this node needs

            return io.NodeOutput(descriptor_of(loaded))
