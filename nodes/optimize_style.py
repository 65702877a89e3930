"""OptimizeStyle: a photo in any painting's style by optimizing its pixels, slowly and without a network."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.training.optimize_image import optimize_image
from ..core.training.style_recipes import RECIPES, get_recipe
from . import images, loss_networks
from .host import advanced, intermediate, io, progress_callback, search_aliases, whole_device


class OptimizeStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OptimizeStyle",
            display_name="Optimize Style (slow)",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "gatys"),
            description="Gives images the style of any painting, without a trained network: the pixels themselves are "
            "optimized for what networks are trained on. Minutes for an image, not moments; a few hundred pixels a side are a "
            "good size.",
            inputs=[
                io.Image.Input(
                    "content", tooltip="Photos. Each is optimized on its own and keeps its size; alpha is kept."
                ),
                io.Image.Input("style_image", tooltip="The painting, a single image of any size."),
                io.Combo.Input(
                    "recipe",
                    options=list(RECIPES),
                    default="standard",
                    tooltip="Loss network, weights and size of the painting, as in training: ours, the paper's or those of its "
                    "authors' code.",
                ),
                io.Int.Input(
                    "iterations",
                    default=300,
                    min=1,
                    max=10_000,
                    tooltip="Iterations of L-BFGS. The picture is recognizable after 50 and changes little after 300.",
                ),
                _weight("content_weight", "Factor on the recipe's content weights: larger keeps more of the photo."),
                _weight("style_weight", "Factor on the recipe's style weights: larger takes more of the painting."),
                _weight("tv_weight", "Factor on the recipe's total variation weight: larger is smoother."),
                io.Combo.Input(
                    "start",
                    options=["content", "noise"],
                    default="content",
                    tooltip="What the optimization starts from: the photo is soon readable, white noise is the paper's way.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,  # a new seed would be minutes of work again
                    tooltip="Seed of the noise.",
                ),
                loss_networks.loss_network_input(),
                advanced(
                    io.Int.Input,
                    "style_size",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="Longest side in pixels to which the painting is scaled: larger makes larger strokes. 0 is the "
                    "recipe's.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The optimized images, same size as the content.")],
        )

    @classmethod
    def validate_inputs(cls, loss_network: str | None) -> bool | str:
        return loss_networks.validate(loss_network)

    @classmethod
    def fingerprint_inputs(cls, loss_network: str | None, **_: object) -> str:
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
        for image in (content, style_image):
            images.check(image)
        chosen = get_recipe(recipe)
        weights = loss_networks.loss_weights(loss_network, chosen)
        with whole_device() as device:
            optimized = optimize_image(
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
            result = torch.empty(*content.shape[:3], 4 if content.shape[-1] == 4 else 3, **intermediate())
            result[..., :3] = optimized.movedim(1, -1)
        if content.shape[-1] == 4:
            result[..., 3] = content[..., 3]
        return io.NodeOutput(result)


def _weight(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=1000.0, step=0.1, tooltip=tooltip)
