"""Floors of the content loss, so that photos of little but sky or shadow do not count most.

The relative form divides by the norm of a photo's features. Where a photo is nearly flat that norm is small, and a few
strokes make a loss several times as large as a whole street does.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import torch

from ..arithmetic import autocast
from ..losses.objective import Objective
from .photos import PhotoFolder, on_device

_LOOKED_AT = 32  # photos


@torch.no_grad()
def content_floors(
    factor: float, photos: PhotoFolder, objective: Objective, device: torch.device, amp: torch.dtype | None
) -> Mapping[str, float]:
    """Return the floor of each layer of the content loss: ``factor`` times the mean norm of the photos that come first.

    Args:
        factor: a factor, 0 for no floors.
        photos: the photos. Their order does not depend on the number of processes, so that all have the same floors.
        objective: whose loss network looks at the photos.
        device: device of the loss network.
        amp: dtype of autocast, as in training.
    """
    norms: dict[str, list[float]] = {layer: [] for layer in objective.weights.content} if factor else {}
    for index in range(-(-_LOOKED_AT // photos.batch_size) if norms else 0):
        with autocast(device, amp):
            features = objective.content_targets(on_device(photos.batch(index), device))
        for layer, values in norms.items():
            values += features[layer].float().square().mean(dim=(1, 2, 3)).tolist()
    return {layer: factor * fmean(values) for layer, values in norms.items()}
