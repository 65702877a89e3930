"""Predict a style from paintings, without training: `Predictor`, `open_predictor` and `predict_style`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.tensor_files import kind_of
from ..errors import CheckpointError, InputError
from ..hub.manifest import names
from ..images.tensors import check_image
from ..network.pixels import OURS, PixelConvention
from ..network.style_predictor import StylePredictor
from .loading import network_file
from .paired_predictor import PairedPredictor
from .predictor_file import TASK, load_predictor
from .style_model import StyleModel

DEFAULT = "any_style"
_SMALLEST = 64  # px: shortest side of a painting
_NOT_OF_A_STYLE = ("task", "encoder", "recipe", "run", "figures", "loss curve", "title")


@dataclass(frozen=True)
class Predictor:
    """A predictor of styles with its facts.

    Attributes:
        network: The predictor.
        name: Name of the predictor.
        facts: Title, license, credit, recipe, ... as in the file's metadata.
        pixels: Pixel convention of the shared network.
    """

    network: StylePredictor | PairedPredictor
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: PixelConvention = OURS

    @torch.no_grad()
    def predict(
        self, paintings: Tensor | Sequence[Tensor], weights: Sequence[float] | None = None, name: str | None = None
    ) -> StyleModel:
        """Return the style of one painting, or a mixture of several; see `predict_style`."""
        images = _each(paintings)
        shares = _shares(weights, len(images))
        device = next(self.network.parameters()).device
        vectors = torch.cat([self.network.vectors(self.network.seen(image).to(device)) for image in images])
        network = self.network.network(shares.to(device) @ vectors)
        facts = {key: value for key, value in self.facts.items() if key not in _NOT_OF_A_STYLE}
        stated = {"task": "style", "name": name or "predicted", "arch": str(network.spec), "predicted by": self.name}
        return StyleModel(network, stated["name"], facts | stated, self.pixels)


def open_predictor(name_or_path: str | Path | None = None) -> Predictor:
    """Open a predictor of styles by name or from a file.

    Args:
        name_or_path: Name or file, also one of Magenta's pair of ONNX files. If None, the bundled one.

    Raises:
        CheckpointError: If there is no such file, or it holds something else.
    """
    path = predictor_file(name_or_path)
    if kind_of(path) == "onnx":
        pair = PairedPredictor(path)
        return Predictor(pair, path.stem, pair.facts)
    network, pixels, facts = load_predictor(path)
    return Predictor(network, str(facts.get("name", path.stem)), facts, pixels)


def predictor_file(name_or_path: str | Path | None = None) -> Path:
    """Return the file of a predictor, as `open_predictor` finds it, without reading it. Raises CheckpointError."""
    if name_or_path is None and DEFAULT not in names(TASK):
        raise CheckpointError(
            "no predictor of styles is bundled with this version; train one with `perceptual-style train-predictor` and "
            "give its file"
        )
    return network_file(name_or_path or DEFAULT, TASK)


def predict_style(
    paintings: Tensor | Sequence[Tensor],
    *,
    weights: Sequence[float] | None = None,
    predictor: Predictor | str | Path | None = None,
    name: str | None = None,
) -> StyleModel:
    """Predict the style of a painting in one pass of a small network. The result is a style like any other.

    A mixture of several paintings is a weighted mean of their vectors, and so one network with one kind of stroke. With the
    photo itself as one of the paintings, its weight reduces the strength of the style.

    Args:
        paintings: (N, 3, H, W) RGB in [0, 1], or a sequence of such images, which may have different sizes. At least 64 px
            on each side.
        weights: Weight of each painting, 0 or more; only their proportions count. If None, all count the same.
        predictor: An open predictor, or its name or file. If None, the bundled one.
        name: Name of the style.

    Raises:
        ImageError: If a painting is no image.
        InputError: If a painting is too small, or the weights do not fit.
        CheckpointError: If the predictor cannot be opened.
    """
    found = predictor if isinstance(predictor, Predictor) else open_predictor(predictor)
    return found.predict(paintings, weights, name)


def weights_from(text: str | None) -> list[float] | None:
    """Return the weights of paintings in a text such as "2, 1", or None if there is none. Raises InputError."""
    try:
        return [float(part) for part in text.split(",")] if text and text.strip() else None
    except (ValueError, AttributeError):  # workflows may hold anything in place of a text
        raise InputError(f"the weights are {text!r}; expected numbers separated by commas, such as 2, 1") from None


def _each(paintings: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return each painting as (1, 3, H, W) float32 in [0, 1]."""
    batches = [paintings] if isinstance(paintings, Tensor) else list(paintings)
    if not batches:
        raise InputError("there is no painting; expected at least one")
    for batch in batches:
        check_image(batch, name="painting")
        height, width = batch.shape[-2:]
        if min(height, width) < _SMALLEST:
            raise InputError(f"the painting is {width}x{height} px; expected at least {_SMALLEST} px on each side")
    return [image.float().clamp(0, 1) for batch in batches for image in batch.split(1)]


def _shares(weights: Sequence[float] | None, count: int) -> Tensor:
    """Return the share of each painting, (count), which add up to 1."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise InputError(f"there are {len(given)} weights for {count} paintings; expected one for each")
    total = sum(given)
    if not all(weight >= 0 for weight in given) or not 0 < total < math.inf:
        shown = ", ".join(f"{weight:g}" for weight in given)
        raise InputError(f"the weights of the paintings are {shown}; expected numbers of 0 or more, not all 0")
    return torch.tensor([weight / total for weight in given], dtype=torch.float32, device="cpu")
