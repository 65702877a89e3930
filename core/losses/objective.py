"""The weighted sum of losses (equation 5) that training and image optimization minimize, with its parts by name.

Because both share one objective, a network can be compared with the slow baseline (the paper's figure 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from . import functional as losses
from .loss_network import LossNetwork


@dataclass(frozen=True)
class ObjectiveWeights:
    """The weights of the objective's parts.

    Attributes:
        content: weight of the feature loss by layer of the loss network.
        content_form: form of the feature loss, see `functional.feature_loss`.
        style: weight of the style loss by layer of the loss network.
        style_form: form of the style loss, see `functional.style_loss`.
        tv: weight of the total variation.
        tv_form: form of the total variation, see `functional.total_variation`.
        pixel: weight of the pixel loss between output and content image.
        pixel_form: form of the pixel loss, see `functional.pixel_loss`.

    Raises:
        InputError: A form is unknown, or a weight is negative or not finite.
    """

    content: Mapping[str, float] = field(default_factory=dict)
    style: Mapping[str, float] = field(default_factory=dict)
    style_form: str = "paper"
    tv: float = 0.0
    tv_form: str = "code"
    pixel: float = 0.0
    pixel_form: str = "squared"
    content_form: str = "paper"

    def __post_init__(self) -> None:
        for part, form, known in (
            ("content", self.content_form, losses.CONTENT_FORMS),
            ("style", self.style_form, losses.STYLE_FORMS),
            ("total variation", self.tv_form, losses.TV_FORMS),
            ("pixel", self.pixel_form, losses.PIXEL_FORMS),
        ):
            if form not in known:
                raise InputError(f"{part} form is {form!r}; expected one of {', '.join(known)}")
        values = [self.tv, self.pixel, *self.content.values(), *self.style.values()]
        if not all(0 <= value < float("inf") for value in values):
            raise InputError(f"loss weights must be finite and not negative; got {self}")

    def scaled(
        self,
        content: float | None = None,
        style: float | None = None,
        tv: float | None = None,
        pixel: float | None = None,
    ) -> ObjectiveWeights:
        """Return these weights, each group multiplied by its factor. None leaves a group unchanged."""
        on_content, on_style, on_tv, on_pixel = (
            1.0 if factor is None else factor for factor in (content, style, tv, pixel)
        )
        return replace(
            self,
            content={layer: weight * on_content for layer, weight in self.content.items()},
            style={layer: weight * on_style for layer, weight in self.style.items()},
            tv=self.tv * on_tv,
            pixel=self.pixel * on_pixel,
        )

    @property
    def sums(self) -> frozenset[str]:
        """Names of the parts that are sums over the images. All other parts are means."""
        return frozenset({"tv"} if self.tv_form == "code" else ())

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the loss network that have a weight."""
        return tuple(dict.fromkeys([*self.content, *self.style]))


class Objective:
    """The objective for one style image, for several of which each output image uses one, or for none.

    Args:
        network: the loss network. May be None if ``weights`` name no layer.
        weights: weights of the parts.
        style_image: (N, 3, H, W) RGB in [0, 1], one for each of N output images or one for all, or several targets. A target
            is such an image, or a sequence of images of any size, whose mean Gram matrices count. They are computed once,
            here. May be None if ``weights`` have no style.
        floors: floor of the feature loss by layer, see `functional.feature_loss`. Layers without one have 0.

    Raises:
        InputError: The weights need a loss network or a style image that is missing, or an image is too small.
    """

    def __init__(
        self,
        network: LossNetwork | None,
        weights: ObjectiveWeights,
        style_image: Tensor | Sequence[Tensor | Sequence[Tensor]] | None = None,
        floors: Mapping[str, float] | None = None,
    ) -> None:
        if network is None and weights.layers:
            raise InputError(f"weights of {', '.join(weights.layers)} need a loss network; got none")
        if style_image is None and weights.style:
            raise InputError("weights of a style need a style image; got none")
        self.network, self.weights, self.floors = network, weights, floors or {}
        images = [style_image] if isinstance(style_image, Tensor) else style_image or ()
        with torch.no_grad():
            grams = [self._target(each) for each in images] if weights.style else []
            self.grams = {layer: torch.cat([each[layer] for each in grams]) for layer in weights.style}
        # Content images pass through the loss network only down to the deepest layer where content is compared.
        self._deepest_content = None if network is None else max(weights.content, key=network.depth, default=None)

    def _features(self, image: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Return the features of an image, or none if no layer has a weight."""
        if self.network is None or not self.weights.layers:
            return {}
        return self.network(image, until=until)

    def _target(self, style_images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the Gram matrices of each image (N, C, C), or the means over a sequence of images (1, C, C), by layer."""
        if isinstance(style_images, Tensor):
            return self._grams(style_images)
        grams = [self._grams(image) for image in style_images]
        return {layer: torch.cat([each[layer] for each in grams]).mean(dim=0, keepdim=True) for layer in grams[0]}

    def _grams(self, style_image: Tensor) -> dict[str, Tensor]:
        features = self._features(style_image)
        return {layer: losses.gram_matrix(features[layer]) for layer in self.weights.style}

    @torch.no_grad()
    def content_targets(self, content: Tensor) -> dict[str, Tensor]:
        """Return the targets of the content loss: the features of content images (N, 3, H, W) by layer."""
        if self._deepest_content is None:
            return {}
        features = self._features(content, until=self._deepest_content)
        return {layer: features[layer] for layer in self.weights.content}

    def __call__(
        self,
        output: Tensor,
        content: Tensor,
        targets: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted parts, whose sum is the objective.

        Args:
            output: (N, 3, H, W) RGB in [0, 1].
            content: the same shape as output.
            targets: `content_targets` of content. If None, they are computed.
            rows: (N,) index of the style image that each output is compared with. If None, all use the same one, or each
                its own.

        Returns:
            The parts by name: ``content relu4_1``, ``style relu1_1``, ..., ``tv``, ``pixel``.
        """
        weights = self.weights
        if targets is None:
            targets = self.content_targets(content)
        features = self._features(output)
        parts: dict[str, Tensor] = {}
        for layer, weight in weights.content.items():
            parts[f"content {layer}"] = weight * losses.feature_loss(
                features[layer], targets[layer], weights.content_form, self.floors.get(layer, 0.0)
            )
        for layer, weight in weights.style.items():
            gram = losses.gram_matrix(features[layer])
            target = self.grams[layer] if rows is None else self.grams[layer][rows]
            parts[f"style {layer}"] = weight * losses.style_loss(gram, target, weights.style_form)
        if weights.tv:
            parts["tv"] = weights.tv * losses.total_variation(output, weights.tv_form)
        if weights.pixel:
            parts["pixel"] = weights.pixel * losses.pixel_loss(output, content, weights.pixel_form)
        return parts
