"""Training terms against patterns that style networks draw everywhere: a hatch in flat areas, and a grid of their stride."""

from __future__ import annotations

from torch import Tensor

from ..losses.functional import stride_grid_loss, weave_loss
from ..network.arch import ArchSpec
from .style_recipes import StyleRecipe


def pattern_losses(recipe: StyleRecipe, spec: ArchSpec, pictures: Tensor, photos: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms that the recipe has.

    Args:
        recipe: has the weights.
        spec: architecture of the network.
        pictures: the network's pictures of the photos, (N, 3, H, W) in [0, 1].
        photos: the same shape as pictures.
    """
    parts = {}
    if recipe.weave:
        parts["weave"] = recipe.weave * weave_loss(pictures, photos)
    if recipe.stride_grid:
        parts["stride grid"] = recipe.stride_grid * stride_grid_loss(pictures, spec.multiple_of)
    return parts
