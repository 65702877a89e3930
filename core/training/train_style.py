"""Train a style network, from one or more paintings and a folder of photos to a file; trainer.py has the loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..devices import autocast_dtype, pick_device
from ..errors import InputError
from ..hub.loss_networks import loss_weights_file
from ..losses.functional import peak_loss, pixel_loss, saturation_loss
from ..losses.loss_network import LossNetwork
from ..losses.objective import Objective
from ..network.arch import ArchSpec
from ..network.stages import ResidualStage
from ..network.styles import name_from, rows_of, split, with_rows
from ..network.transform_net import TransformNet, forward_any_size, output_function
from ..progress import Progress, ProgressCallback
from . import state as training_state
from .photos import PhotoFolder, StyledPhotos, fit_style_image
from .style_recipes import StyleRecipe, get_recipe
from .style_start import begin, names_of
from .trainer import Training, check_name, checkpoint_path, prepare, train

_IDENTITY_BATCH, _IDENTITY_RATE = 4, 2e-3


@dataclass
class StyleTraining:
    """Everything that defines one run. Two runs with equal settings give equal weights (on one kind of CPU).

    style_image: (1, 3, H, W) RGB in [0, 1]; or several by the names of their styles, which one network then holds
    content: folder of photos
    out: the file to write, .safetensors
    recipe: numbers of the run
    loss_weights: file of the loss network; None: what was downloaded by name
    init_from: file of a trained style network to start from (with its architecture), or None; FILE#STYLE where it holds
        several styles
    add_to: file of a trained network to which the styles are added; only their rows are learned (style_start.py)
    seed: of initialization, crops and flips
    facts: what the finished file says of itself: name, title, license, credit, ...
    half: write the finished network as float16
    device, precision: "auto", or torch's name; "auto", "fp32", "bf16"
    checkpoint_seconds: time between checkpoints; preview_steps: between previews, of ``preview_image`` (0: none)
    """

    style_image: Tensor | Mapping[str, Tensor]
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
    add_to: str | Path | None = None

    @property
    def paintings(self) -> dict[str, Tensor]:
        """The style images by the names of their styles."""
        if isinstance(self.style_image, Tensor):
            return {name_from(str(self.facts.get("name", Path(self.out).stem))): self.style_image}
        return dict(self.style_image)

    @property
    def checkpoint(self) -> Path:
        return checkpoint_path(self.out)


def train_style(
    style_image: Tensor | Mapping[str, Tensor], content: str | Path, out: str | Path, *, loss_weights: str | Path | None = None,
    recipe: StyleRecipe | str = "standard", progress: ProgressCallback | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Train styles from paintings and a folder of photos; arguments and ``settings`` are those of `StyleTraining`.

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
    names, several = names_of([*run.paintings]), len(run.paintings) > 1
    crops = (run.content, recipe.size, recipe.batch_size, run.seed, recipe.shadows)
    photos = StyledPhotos(len(names), *crops) if several else PhotoFolder(*crops)
    identity = _identity(run, photos, amp)
    if not prepare(out, identity):
        return out

    loss_network = LossNetwork(recipe.loss_network, run.loss_weights, recipe.weights.layers)
    loss_network.to(device, memory_format=torch.channels_last)
    paintings = [
        fit_style_image(each.detach().clone().float(), recipe.style_size).to(device) for each in run.paintings.values()
    ]
    objective = Objective(loss_network, recipe.weights, paintings)
    begun = begin(recipe.arch, names, run.seed, init_from=run.init_from, add_to=run.add_to)
    network = begun.network
    _check_fit(network.spec, recipe.size)
    network.to(device, memory_format=torch.channels_last).train()

    compared = [stage for stage in network.stages if isinstance(stage, ResidualStage)] if recipe.peaks else []

    def losses(batch: Any, _: int) -> dict[str, Tensor]:
        content, rows = (batch[0], batch[1].to(device)) if several else (batch, None)
        content = content.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            with _recorded(compared) as residuals:
                raw = network(content, raw=True, row=rows).float()
            output = output_function(raw, network.spec.output)
            parts = objective(output, content, None, rows)
        if recipe.peaks:
            parts["peaks"] = recipe.peaks * sum(peak_loss(features) for features in residuals)
        if recipe.saturation:
            parts["saturation"] = recipe.saturation * saturation_loss(raw)
        return parts

    def start() -> None:
        if run.init_from is None and run.add_to is None and recipe.identity_steps:
            one = with_rows(network, rows_of(network)[:1]).train().requires_grad_(True) if several else network
            learn_identity(run, one, amp, progress)
            if several:  # a photo has no style yet: all rows begin alike
                network.load_state_dict(with_rows(one, rows_of(one) * len(names)).state_dict())

    facts = {"task": "style", "name": out.stem, **begun.facts(run.facts), "recipe": training_state.as_json(recipe)}
    return train(
        Training(
            out, identity, recipe, network, photos, losses, recipe.weights.sums, start,
            report=lambda step, _: {"preview": _preview(run, network, step)},
            facts=facts, half=run.half, checkpoint_seconds=run.checkpoint_seconds, result=begun.result,
        ),
        progress,
    )  # fmt: skip


def learn_identity(run: StyleTraining, network: TransformNet, amp: torch.dtype | None, progress: Any) -> None:
    """Teach a new network to reproduce its input by the pixel loss.

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
        loss = pixel_loss(output, photo)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(Progress(0, run.recipe.steps, {"pixel (learning to reproduce the photo)": float(loss.detach())}))


def _identity(run: StyleTraining, photos: PhotoFolder, amp: torch.dtype | None) -> dict[str, Any]:
    """What must be equal for a checkpoint to be this run's."""
    source = run.init_from if run.add_to is None else run.add_to
    path, part = (None, None) if source is None else split(source)
    images = run.style_image if run.add_to is None else run.paintings
    identity = training_state.identity(
        run.recipe, photos.files, amp, run.seed, run.loss_weights, path, style_image=images
    )
    if part is not None:
        identity["style of the start"] = part
    if run.add_to is not None:
        identity["kind of training"] = "a style is added"
    return identity


def _check_fit(spec: ArchSpec, size: int) -> None:
    """Refuse a network that does not give crops of ``size`` px back at their size."""
    if spec.scale != 1 or spec.out_channels != 3:
        raise InputError(f"{spec} gives {spec.out_channels} channels at {spec.scale} times the size; expected 3 and 1")
    if size % spec.multiple_of or size < spec.smallest_side:
        raise InputError(
            f"size is {size}; for {spec} expected a multiple of {spec.multiple_of} and at least {spec.smallest_side} px"
        )


@contextmanager
def _recorded(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that takes what ``modules`` return, in this block."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)) for module in modules
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _preview(run: StyleTraining, network: TransformNet, step: int) -> Tensor | None:
    if run.preview_image is None or not run.preview_steps or (step % run.preview_steps and step != run.recipe.steps):
        return None
    photo = run.preview_image.to(next(network.parameters()).device)
    network.eval()
    plain = [network] if network.spec.styles == 1 else [with_rows(network, [row]) for row in rows_of(network)]
    images = [forward_any_size(each, photo).clamp(0, 1) for each in plain]  # one style beside the other
    network.train()
    return torch.cat(images, dim=3).cpu()
