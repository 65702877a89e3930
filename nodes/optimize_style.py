"""OptimizeStyle: photos in any painting's style by optimizing their pixels, slowly and without a trained network."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import core  # its functions load on first use, so the host starts sooner
from ..core.training.style_recipes import RECIPES, get_recipe
from . import images, loss_networks
from .host import advanced, image_options, io, progress_callback, search_aliases, whole_device


class OptimizeStyle(io.ComfyNode):
    """The node that optimizes images for a painting's style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the loss networks available now."""
        return io.Schema(
            node_id="OptimizeStyle",
            display_name="Optimize Style (slow)",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "gatys"),
            description="Applies any painting's style without a trained network: the pixels themselves are optimized for the "
            "objective of training. This takes minutes per image. Images of a few hundred pixels a side work well.",
            inputs=[*_image_inputs(), *_recipe_inputs(), *_start_inputs(), *_network_inputs()],
            outputs=[io.Image.Output(display_name="image", tooltip="The optimized images, same size as the content.")],
        )

    @classmethod
    def validate_inputs(cls, loss_network: str | None) -> bool | str:
        """Return True for a known loss network, or a message for the user."""
        return loss_networks.validate(loss_network)

    @classmethod
    def fingerprint_inputs(cls, loss_network: str | None, **_: object) -> str:
        """Return a text that changes with the chosen loss network."""
        return loss_networks.fingerprint(loss_network)

    @classmethod
    def execute(
        cls,
        content: Tensor,
        style_image: Tensor,
        recipe: str,
        iterations: int,
        content_weight: float,
        style_weight: float,
        tv_weight: float,
        start: str,
        seed: int,
        loss_network: str,
        style_size: int = 0,
    ) -> io.NodeOutput:
        """Return the optimized images. Raise InputError, ImageError or CheckpointError for bad inputs."""
        for image in (content, style_image):
            images.check(image)
        chosen, weights = loss_networks.with_loss_network(get_recipe(recipe), loss_network)
        with whole_device() as device:
            optimized = core.optimize_image(
                torch.cat([images.to_core(frame, device) for frame in content]),
                torch.cat([images.to_core(frame, device) for frame in style_image]),
                recipe=chosen,
                weights=chosen.weights.scaled(content_weight, style_weight, tv_weight),
                loss_weights=weights,
                iterations=iterations,
                start=start,
                style_size=style_size or None,
                seed=seed,
                progress=progress_callback(1),
            )
            result = torch.empty(*content.shape[:3], 4 if content.shape[-1] == 4 else 3, **image_options())
            result[..., :3] = optimized.movedim(1, -1)
        if content.shape[-1] == 4:
            result[..., 3] = content[..., 3]
        return io.NodeOutput(result)


def _image_inputs() -> list[io.Input]:
    return [
        io.Image.Input("content", tooltip="Photos. Each is optimized on its own and keeps its size and alpha."),
        io.Image.Input("style_image", tooltip="The painting: a single image, at least 64 px on each side."),
    ]


def _recipe_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "recipe",
            options=list(RECIPES),
            default="standard",
            tooltip="Settings for loss network, weights and painting size, as in training. quick and standard: our own. "
            "paper: those of Johnson et al. 2016. authors: those of their code.",
        ),
        io.Int.Input(
            "iterations",
            default=300,
            min=1,
            max=10_000,
            tooltip="L-BFGS iterations. The picture is recognizable after 50 and changes little after 300.",
        ),
        _weight("content_weight", "Factor on the recipe's content weights. Larger values keep more of the photo."),
        _weight("style_weight", "Factor on the recipe's style weights. Larger values take more from the painting."),
        _weight("tv_weight", "Factor on the recipe's total variation weight. Larger values make the result smoother."),
    ]


def _start_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "start",
            options=["content", "noise"],
            default="content",
            tooltip="Where the optimization starts. content: the photo, so that the picture is soon readable. noise: "
            "white noise, as in the paper.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,  # each new seed would take minutes again
            tooltip="Random seed for the noise. It has no effect when starting from content.",
        ),
    ]


def _network_inputs() -> list[io.Input]:
    return [
        loss_networks.loss_network_input("recipe"),
        advanced(
            io.Int.Input,
            "style_size",
            default=0,
            min=0,
            max=4096,
            optional=True,
            tooltip="Longest side in pixels to which the painting is scaled. Larger values make larger strokes. 0: the "
            "recipe's value.",
        ),
    ]


def _weight(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=1000.0, step=0.1, tooltip=tooltip)
