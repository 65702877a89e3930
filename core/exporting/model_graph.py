"""What every exported file holds of a model: its operations, and what it says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..models.blend import BlendedStyle
from ..models.image_model import ImageModel
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..version import version
from .graph import Graph, Value
from .mixing_graph import add_mix
from .network_graph import add_network

LARGEST_SIDE = 8192  #: px, of the pictures of files that need a limit


def add_model(graph: Graph, model: BaseStyle | UpscaleModel, image: Value) -> Value:
    """Add a model to a graph and return its result.

    Args:
        graph: The graph.
        model: A style, a blend of styles, or an upscaler.
        image: (N, 3, H, W) float32 RGB in [0, 1].

    Raises:
        InputError: If the model has regions.
    """
    if isinstance(model, UpscaleModel):
        model = model.blended()
    if isinstance(model, BlendedStyle):
        return add_mix(graph, add_model(graph, model.first, image), add_model(graph, model.second, image), model.amount)
    if isinstance(model, ImageModel):
        return add_network(graph, model.network, model.pixels, image)
    raise InputError(f"{model.name} has regions, whose masks fit one size of pictures; export its styles one by one")


def facts_of(model: BaseStyle | UpscaleModel) -> dict[str, str]:
    """Return what a file says about its model, as texts: name, title, license, credit, scale and smallest side."""
    facts: Mapping[str, Any] = getattr(model, "facts", {})
    known = {key: facts.get(key) for key in ("title", "license", "arch", "family")} | {"credit": credit_of(facts)}
    if isinstance(model, BlendedStyle):
        parts = [facts_of(model.first), facts_of(model.second)]
        for key in ("license", "credit"):
            known[key] = " + ".join(dict.fromkeys(part.get(key, "unknown") for part in parts))
    texts = {key: str(value) for key, value in known.items() if value}
    made = {"scale": str(model.spec.scale), "smallest_side": str(smallest_side(model)), "version": version()}
    return {"name": model.name, "license": "unknown"} | texts | made


def credit_of(facts: Mapping[str, Any]) -> str:
    """Return a model's credit in one line, such as "Vincent van Gogh, The Starry Night, 1889", or ""."""
    credit = facts.get("credit")
    if not isinstance(credit, Mapping):
        return str(credit or "")
    first = [str(credit[key]) for key in ("artist", "painting", "network", "year") if credit.get(key)]
    rest = [f"{key}: {value}" for key, value in credit.items() if key not in ("artist", "painting", "network", "year")]
    return ", ".join(first + rest)


def smallest_side(model: BaseStyle | UpscaleModel) -> int:
    """Return the smallest side of the pictures that the exported model takes, px."""
    return max(network.spec.smallest_side for network in model.networks)
