"""The weighted sum of losses that training and optimizing share (equation 5), with its parts by name.

One objective for both is what makes a network and the slow baseline comparable (the paper's figure 5).
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
    """What is added up, and how much of it.

    content, style: weight by layer of the loss network; style_form: see losses.style_loss; tv, tv_form: total variation
    and its form, see losses.total_variation; pixel, pixel_form: weight of the pixel loss to the content image, and its
    form, see losses.pixel_loss.
    """

    content: Mapping[str, float] = field(default_factory=dict)
    style: Mapping[str, float] = field(default_factory=dict)
    style_form: str = "paper"
    tv: float = 0.0
    tv_form: str = "code"
    pixel: float = 0.0
    pixel_form: str = "squared"

    def __post_init__(self) -> None:
        if self.style_form not in losses.STYLE_FORMS:
            raise InputError(f"style form is {self.style_form!r}; expected one of {', '.join(losses.STYLE_FORMS)}")
        if self.tv_form not in losses.TV_FORMS:
            raise InputError(f"total variation form is {self.tv_form!r}; expected one of {', '.join(losses.TV_FORMS)}")
        if self.pixel_form not in losses.PIXEL_FORMS:
            raise InputError(f"pixel form is {self.pixel_form!r}; expected one of {', '.join(losses.PIXEL_FORMS)}")
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
        """The same weights with factors on their groups; None leaves a group alone."""
        factor = {"content": content, "style": style, "tv": tv, "pixel": pixel}
        factor = {name: 1.0 if value is None else value for name, value in factor.items()}
        return replace(
            self,
            content={layer: weight * factor["content"] for layer, weight in self.content.items()},
            style={layer: weight * factor["style"] for layer, weight in self.style.items()},
            tv=self.tv * factor["tv"],
            pixel=self.pixel * factor["pixel"],
        )

    @property
    def sums(self) -> frozenset[str]:
        """Parts of the objective that are sums over the images; all others are means."""
        return frozenset({"tv"} if self.tv_form == "code" else ())

    @property
    def layers(self) -> tuple[str, ...]:
        """The loss network's layers that are needed."""
        return tuple(dict.fromkeys([*self.content, *self.style]))


class Objective:
    """The objective, for one style image where it has a style, or for several, from which each image takes one.

    network: may be None where ``weights`` name no layer
    style_image: (1, 3, H, W) RGB in [0, 1], or a list of them; their Gram matrices are computed once, here.
    """

    def __init__(
        self,
        network: LossNetwork | None,
        weights: ObjectiveWeights,
        style_image: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        self.network, self.weights = network, weights
        with torch.no_grad():
            images = [style_image] if isinstance(style_image, Tensor) else style_image
            grams = [self._grams(image) for image in images] if weights.style else []
            self.grams = {layer: torch.cat([each[layer] for each in grams]) for layer in weights.style}
        # The content image goes through the loss network only as far as content is compared.
        order = network.layers_by_depth.index if weights.layers else None
        self._deepest_content = max(weights.content, key=order, default=None)

    def _grams(self, style_image: Tensor) -> dict[str, Tensor]:
        features = self.network(style_image)
        return {layer: losses.gram_matrix(features[layer]) for layer in self.weights.style}

    @torch.no_grad()
    def content_targets(self, content: Tensor) -> dict[str, Tensor]:
        """Features of the content images (N, 3, H, W), the targets of the content loss."""
        if self._deepest_content is None:
            return {}
        features = self.network(content, until=self._deepest_content)
        return {layer: features[layer] for layer in self.weights.content}

    def __call__(
        self,
        output: Tensor,
        content: Tensor,
        targets: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The weighted parts by name: ``content relu4_1``, ``style relu1_1``, ..., ``tv``, ``pixel``; their sum is the objective.

        output, content: (N, 3, H, W) RGB in [0, 1]; targets: `content_targets` of content, where it is known already
        rows: (N) which of several style images each output is compared with
        """
        weights = self.weights
        if targets is None:
            targets = self.content_targets(content)
        features = self.network(output) if weights.layers else {}
        parts: dict[str, Tensor] = {}
        for layer, weight in weights.content.items():
            parts[f"content {layer}"] = weight * losses.feature_loss(features[layer], targets[layer])
        for layer, weight in weights.style.items():
            gram = losses.gram_matrix(features[layer])
            target = self.grams[layer] if rows is None else self.grams[layer][rows]
            parts[f"style {layer}"] = weight * losses.style_loss(gram, target, weights.style_form)
        if weights.tv:
            parts["tv"] = weights.tv * losses.total_variation(output, weights.tv_form)
        if weights.pixel:
            parts["pixel"] = weights.pixel * losses.pixel_loss(output, content, weights.pixel_form)
        return parts
