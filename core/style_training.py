"""Train a style network, from a painting and a folder of photos to a file; trainer.py has the loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import training_state
from .arch import ArchSpec
from .checkpoint import load_network
from .data import PhotoFolder, fit_style_image, recolored
from .devices import autocast_dtype, pick_device
from .errors import CheckpointError, InputError
from .hub_tensors import loss_weights_file
from .loss_network import LossNetwork
from .losses import light_loss, pixel_loss, saturation_loss
from .network import TransformNet, build_network, forward_any_size, output_function
from .objective import Objective
from .progress import Progress, ProgressCallback
from .recipes import StyleRecipe, get_recipe
from .trainer import Training, check_name, checkpoint_path, prepare, train

_IDENTITY_BATCH, _IDENTITY_RATE = 4, 2e-3


@dataclass
class StyleTraining:
    """Everything that defines one run. Two runs with equal settings give equal weights (on one kind of CPU).

    style_image: (1, 3, H, W) RGB in [0, 1]
    content: folder of photos
    out: the file to write, .safetensors
    recipe: numbers of the run
    loss_weights: file of the loss network; None: what was downloaded by name
    init_from: file of a trained style network to start from (with its architecture), or None
    seed: of initialization, crops and flips
    facts: what the finished file says of itself: name, title, license, credit, ...
    half: write the finished network as float16
    device, precision: "auto", or torch's name; "auto", "fp32", "bf16"
    checkpoint_seconds: time between checkpoints; preview_steps: between previews, of ``preview_image`` (0: none)
    """

    style_image: Tensor
    content: str | Path
    out: str | Path
    recipe: StyleRecipe
    loss_weights: str | Path | None = None
    init_from: str | Path | None = None
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    device: str = "auto"
    precision: str = "auto"
    checkpoint_seconds: float = 30.0
    preview_steps: int = 0
    preview_image: Tensor | None = None

    @property
    def checkpoint(self) -> Path:
        return checkpoint_path(self.out)


def train_style(
    style_image: Tensor, content: str | Path, out: str | Path, *, loss_weights: str | Path | None = None,
    recipe: StyleRecipe | str = "standard", progress: ProgressCallback | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Train a style from one painting and a folder of photos; arguments and ``settings`` are those of `StyleTraining`.

    recipe may be a name. Returns the path of the finished file, ready for `load_style`; see `run_training` for errors.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    return run_training(StyleTraining(style_image, content, out, recipe, loss_weights, **settings), progress)


def run_training(run: StyleTraining, progress: ProgressCallback | None = None) -> Path:
    """Run a training, or go on with one that was interrupted, and write ``run.out``. Returns its path.

    If ``run.out`` is the finished result of this very run, nothing is done. Whatever the progress callback raises stops
    the training after a checkpoint was written.

    Raises InputError and ImageError for unusable settings, CheckpointError for unusable files or a full disk,
    TrainingError when the objective stays non-finite or the checkpoint is another run's.
    """
    out, recipe = check_name(run.out), run.recipe
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    if run.loss_weights is None:
        run = replace(run, loss_weights=loss_weights_file(recipe.loss_network, recipe.weights.layers))
    photos = PhotoFolder(run.content, recipe.size, recipe.batch_size, run.seed, recipe.shadows)
    identity = training_state.identity(
        recipe, photos.files, amp, run.seed, run.loss_weights, run.init_from, style_image=run.style_image
    )
    if not prepare(out, identity):
        return out

    loss_network = LossNetwork(recipe.loss_network, run.loss_weights, recipe.weights.layers)
    loss_network.to(device, memory_format=torch.channels_last)
    style = fit_style_image(run.style_image.detach().clone().float(), recipe.style_size).to(device)
    objective = Objective(loss_network, recipe.weights, style)
    network = _initial_network(run)
    _check_fit(network.spec, recipe.size)
    network.to(device, memory_format=torch.channels_last).train()

    def losses(content: Tensor, _: int) -> dict[str, Tensor]:
        content = content.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            raw = network(content, raw=True).float()
            target = recolored(content, style) if recipe.recolor else content
            output = output_function(raw, network.spec.output)
            parts = objective(output, target)
        if recipe.light:
            parts["light"] = recipe.light * light_loss(output, target)
        if recipe.saturation:
            parts["saturation"] = recipe.saturation * saturation_loss(raw)
        return parts

    def start() -> None:
        if run.init_from is None and recipe.identity_steps:
            learn_identity(run, network, style if recipe.recolor else None, amp, progress)

    facts = {"task": "style", "name": out.stem, **run.facts, "recipe": training_state.as_json(recipe)}
    return train(
        Training(
            out, identity, recipe, network, photos, losses, recipe.weights.sums, start,
            report=lambda step, _: {"preview": _preview(run, network, step)},
            facts=facts, half=run.half, checkpoint_seconds=run.checkpoint_seconds,
        ),
        progress,
    )  # fmt: skip


def learn_identity(
    run: StyleTraining, network: TransformNet, style: Tensor | None, amp: torch.dtype | None, progress: Any
) -> None:
    """Teach a new network to reproduce its input, `recolored` to the style where one is given, by the pixel loss.

    As with image optimization, whose result is better from the content image than from noise: started here, a network
    keeps the light and the forms of the photo, which the style alone would have it forget. Ours, not the paper's.
    """
    steps, unit = run.recipe.identity_steps, network.spec.multiple_of
    half = run.recipe.size // 2 // unit * unit
    photos = PhotoFolder(run.content, half if half >= 32 else run.recipe.size, _IDENTITY_BATCH, run.seed)
    optimizer = torch.optim.Adam(network.parameters())
    device = next(network.parameters()).device
    for step, photo in enumerate(photos.batches(0, steps)):
        for group in optimizer.param_groups:
            group["lr"] = _IDENTITY_RATE * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        photo = photo.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            output = network(photo)
        loss = pixel_loss(output, photo if style is None else recolored(photo, style))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(Progress(0, run.recipe.steps, {"pixel (learning to reproduce the photo)": float(loss.detach())}))


def _initial_network(run: StyleTraining) -> TransformNet:
    if run.init_from is not None:
        network, facts = load_network(run.init_from)
        if "pixels" in facts:
            raise CheckpointError(
                f"{run.init_from} takes pixels as {facts['pixels']}; training starts from our own styles"
            )
        return network.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)  # torch.manual_seed would seed other devices for good
        return build_network(run.recipe.arch)


def _check_fit(spec: ArchSpec, size: int) -> None:
    """Refuse a network that does not give crops of ``size`` px back at their size."""
    if spec.scale != 1 or spec.out_channels != 3:
        raise InputError(f"{spec} gives {spec.out_channels} channels at {spec.scale} times the size; expected 3 and 1")
    if size % spec.multiple_of or size < spec.smallest_side:
        raise InputError(
            f"size is {size}; for {spec} expected a multiple of {spec.multiple_of} and at least {spec.smallest_side} px"
        )


@torch.no_grad()
def _preview(run: StyleTraining, network: TransformNet, step: int) -> Tensor | None:
    if run.preview_image is None or not run.preview_steps or (step % run.preview_steps and step != run.recipe.steps):
        return None
    network.eval()
    image = forward_any_size(network, run.preview_image.to(next(network.parameters()).device)).clamp(0, 1)
    network.train()
    return image.cpu()
