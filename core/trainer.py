"""Train a style network: one loop, from a painting and a folder of photos to a file.

What an interruption must not change is kept in one checkpoint beside the result, NAME.training.safetensors: network,
optimizer and step. Batches follow from seed and step (data.py), so nothing else has a state, and a resumed training ends
with the same weights, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import training_state
from .arch import ArchSpec
from .checkpoint import load_network, save_network
from .data import PhotoFolder, fit_style_image
from .devices import autocast_dtype, pick_device
from .errors import CheckpointError, InputError, TrainingError
from .files import remove_leftovers
from .hub_tensors import loss_weights_file
from .loss_network import LossNetwork
from .losses import pixel_loss, saturation_loss
from .network import TransformNet, build_network, forward_any_size, output_function
from .objective import StyleObjective
from .progress import Progress, ProgressCallback
from .recipes import StyleRecipe, get_recipe
from .training_state import CHECKPOINT_SUFFIX, save_checkpoint

_IDENTITY_BATCH, _IDENTITY_RATE = 4, 2e-3
_PATIENCE = 20  # steps in a row without a finite gradient after which a training stops


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
        out = Path(self.out)
        return out.with_name(out.name.removesuffix(".safetensors") + CHECKPOINT_SUFFIX)


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
    out = Path(run.out)
    if out.suffix != ".safetensors":
        raise InputError(
            f"the result is written as safetensors; name it {out.with_suffix('.safetensors').name}, not {out.name}"
        )
    recipe = run.recipe
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    if run.loss_weights is None:
        run = replace(run, loss_weights=loss_weights_file(recipe.loss_network, recipe.weights.layers))
    photos = PhotoFolder(run.content, recipe.size, recipe.batch_size, run.seed, recipe.shadows)
    identity = training_state.identity(run, photos.files, amp)
    if training_state.is_finished(out, identity):
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {out}: {error.strerror or error}") from None
    for path in (out, run.checkpoint):
        remove_leftovers(path)

    loss_network = LossNetwork(recipe.loss_network, run.loss_weights, recipe.weights.layers)
    loss_network.to(device, memory_format=torch.channels_last)
    style = fit_style_image(run.style_image.detach().clone().float(), recipe.style_size).to(device)
    objective = StyleObjective(loss_network, style, recipe.weights)
    network = _initial_network(run)
    _check_fit(network.spec, recipe.size)
    network.to(device, memory_format=torch.channels_last).train()
    has_statistics = next(network.buffers(), None) is not None  # which the forward pass changes
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    step, history = training_state.resume(run.checkpoint, identity, network, optimizer)
    if not step and run.init_from is None and recipe.identity_steps:
        learn_identity(run, network, device, amp, progress)

    clock, started, first = time.monotonic(), time.monotonic(), step
    noted: set[Path] = set()
    failures, whole = 0, True  # whole: network, optimizer, step and history belong together
    try:
        for content in photos.batches(step, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            content = content.to(device, memory_format=torch.channels_last)
            whole = not has_statistics
            with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
                raw = network(content, raw=True).float()
                parts = objective(output_function(raw, network.spec.output), content)
            if recipe.saturation:
                parts["saturation"] = recipe.saturation * saturation_loss(raw)
            loss = sum(parts.values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip or math.inf)
            if bool(torch.isfinite(loss) & torch.isfinite(norm)):
                whole = False
                optimizer.step()
                failures = 0
            else:  # the step is left out; a single overflow in half precision is harmless
                failures += 1
                if failures >= _PATIENCE:
                    raise _diverged(step, parts, failures)
            history.append([float(value.detach()) for value in parts.values()])
            step += 1
            whole = True

            notes = [f"skipped {p}: {why}" for p, why in photos.skipped.items() if p not in noted]
            noted.update(photos.skipped)
            if time.monotonic() - clock > run.checkpoint_seconds and failures == 0:
                clock = time.monotonic()
                try:
                    save_checkpoint(run.checkpoint, identity, network, optimizer, step, history)
                except CheckpointError as error:  # a full disk may have room again at the next one
                    notes.append(f"{error}; the training goes on without a new checkpoint")
            if progress is not None:
                left = (time.monotonic() - started) / (step - first) * (recipe.steps - step)
                losses = dict(zip(parts, history[-1], strict=True))
                progress(Progress(step, recipe.steps, losses, _preview(run, network, step), left, tuple(notes)))
    except TrainingError:
        raise
    except BaseException:
        if failures == 0 and whole:
            save_checkpoint(run.checkpoint, identity, network, optimizer, step, history)
        raise
    if failures:
        raise _diverged(step, parts, failures)
    save_checkpoint(run.checkpoint, identity, network, optimizer, step, history)
    last = torch.tensor(history[-100:]).mean(dim=0).tolist()
    figures = {"final losses (mean of the last 100 steps)": dict(zip(parts, last, strict=True))} if first < step else {}
    facts = {
        "task": "style",
        "name": out.stem,
        **run.facts,
        "recipe": training_state.as_json(recipe),
        "run": identity,
        "figures": figures,
    }
    facts["loss curve"] = training_state.thinned(history)
    save_network(out, network, facts, half=run.half)
    with suppress(OSError):
        run.checkpoint.unlink()
    return out


def learn_identity(
    run: StyleTraining, network: TransformNet, device: torch.device, amp: torch.dtype | None, progress: Any
) -> None:
    """Teach a new network to reproduce its input, by the pixel loss, before it learns a style.

    As with image optimization, whose result is better from the content image than from noise: started here, a network
    keeps the light and the forms of the photo, which the style alone would have it forget. Ours, not the paper's.
    """
    steps, unit = run.recipe.identity_steps, network.spec.multiple_of
    half = run.recipe.size // 2 // unit * unit
    photos = PhotoFolder(run.content, half if half >= 32 else run.recipe.size, _IDENTITY_BATCH, run.seed)
    optimizer = torch.optim.Adam(network.parameters())
    for step, photo in enumerate(photos.batches(0, steps)):
        for group in optimizer.param_groups:
            group["lr"] = _IDENTITY_RATE * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        photo = photo.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            output = network(photo)
        loss = pixel_loss(output, photo)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(Progress(0, run.recipe.steps, {"pixel (learning to reproduce the photo)": float(loss.detach())}))


def learning_rate(recipe: StyleRecipe, step: int) -> float:
    """Adam's rate at a step (from 0): linear warm-up, then constant or a half cosine down to 0."""
    rate = recipe.learning_rate * min(1.0, (step + 1) / (recipe.warmup + 1))
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return rate


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


def _diverged(step: int, parts: Mapping[str, Tensor], failures: int) -> TrainingError:
    wrong = [name for name, value in parts.items() if not torch.isfinite(value)]
    what = ", ".join(wrong) or "the gradient"
    return TrainingError(
        f"{what} stayed non-finite for {failures} steps up to step {step}; try a lower learning rate or smaller loss "
        f"weights. The last good checkpoint is kept"
    )
