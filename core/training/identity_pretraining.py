"""Identity pretraining: a new style network first learns to reproduce its input."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..arithmetic import autocast
from ..losses.functional import pixel_loss
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback
from .photos import PhotoFolder
from .style_recipes import StyleRecipe

_BATCH, _RATE, _WARMUP = 4, 2e-3, 20


def learn_identity(
    network: TransformNet,
    recipe: StyleRecipe,
    content: str | Path,
    seed: int,
    amp: torch.dtype | None,
    progress: ProgressCallback | None,
) -> None:
    """Teach a new network to reproduce its input by the pixel loss, in ``recipe.identity_steps`` steps.

    Image optimization, too, gives better results from the content image than from noise. A network that starts here keeps
    the light and the forms of the photo, which the style alone would make it forget. Ours, not the paper's.

    Args:
        network: the network, on its device, in training mode.
        recipe: recipe of the training run that follows. Crops have half its size if that is at least 32 px.
        content: folder of photos.
        seed: random seed of the crops.
        amp: dtype of mixed precision, or None for float32.
        progress: called after each step, with 0 steps of the training run done.
    """
    steps, unit = recipe.identity_steps, network.spec.multiple_of
    half = recipe.size // 2 // unit * unit
    photos = PhotoFolder(content, half if half >= 32 else recipe.size, _BATCH, seed)
    optimizer = torch.optim.Adam(network.parameters())
    device = next(network.parameters()).device
    for step, photo in enumerate(photos.batches(0, steps)):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        photo = photo.to(device, memory_format=torch.channels_last)
        with autocast(device, amp):
            output = network(photo)
        loss = pixel_loss(output, photo)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(Progress(0, recipe.steps, {"pixel (learning to reproduce the photo)": float(loss.detach())}))
