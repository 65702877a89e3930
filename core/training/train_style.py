"""Train a style network from one or more paintings and a folder of photos. The training loop is in trainer.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..arithmetic import autocast
from ..devices import autocast_dtype, pick_device
from ..hub.loss_networks import loss_weights_file
from ..losses.functional import peak_loss, saturation_loss, steadiness_loss, total
from ..losses.loss_network import LossNetwork
from ..losses.objective import Objective
from ..network.pixels import PixelConvention
from ..network.stages import ResidualStage
from ..network.styles import name_from, rows_of, split, with_rows
from ..network.transform_net import TransformNet, forward_any_size, output_function
from ..progress import ProgressCallback
from . import state as training_state
from .content_floors import content_floors
from .disturbances import disturbed
from .identity_pretraining import learn_identity
from .lattice import keeper
from .patterns import pattern_losses
from .photos import PhotoFolder, StyledPhotos, fit_style_image, loader_workers, on_device
from .state import StyleImages, checkpoint_path, images_of
from .style_recipes import StyleRecipe, get_recipe
from .style_start import begin, check_fit, names_of
from .trainer import Training, check_name, prepare, train


@dataclass
class StyleTraining:
    """Everything that defines a training run. Runs with equal settings give equal weights (on one kind of CPU).

    Attributes:
        style_image: (1, 3, H, W) RGB in [0, 1]; or a sequence of such images of any size, from whose mean statistics one
            style is learned; or either of them by the names of several styles, which one network then holds.
        content: folder of photos.
        out: the file to write, .safetensors.
        recipe: numbers of the run.
        loss_weights: file of the loss network. If None, the weights downloaded by name are used.
        init_from: file of a trained style to start from, of this or another program, which also sets the architecture and
            the pixel convention; only blurs of the recipe's architecture (``bd64``) are added. FILE#STYLE chooses one of
            several styles. From the file of a predictor, the start is what it predicts for the paintings. None starts from
            a new network.
        seed: random seed of initialization, crops and flips.
        facts: facts to save in the finished file: name, title, license, credit, ...
        half: write the finished network as float16.
        device: device name of torch, or "auto".
        precision: "auto", "fp32" or "bf16".
        checkpoint_seconds: time between checkpoints, s.
        preview_steps: steps between previews of ``preview_image``. 0 makes no previews.
        preview_image: (1, 3, H, W) RGB in [0, 1], or None.
        add_to: file of a trained network to add the styles to. Only their rows are learned, see style_start.py.
    """

    style_image: StyleImages | Mapping[str, StyleImages]
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
    def paintings(self) -> dict[str, StyleImages]:
        """The style images by the names of their styles."""
        if isinstance(self.style_image, Mapping):
            return dict(self.style_image)
        return {name_from(str(self.facts.get("name", Path(self.out).stem))): self.style_image}

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return checkpoint_path(self.out)


def train_style(
    style_image: StyleImages | Mapping[str, StyleImages], content: str | Path, out: str | Path, *,
    loss_weights: str | Path | None = None, recipe: StyleRecipe | str = "standard",
    progress: ProgressCallback | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Train styles from paintings and a folder of photos.

    Args:
        style_image: see `StyleTraining`.
        content: see `StyleTraining`.
        out: see `StyleTraining`.
        loss_weights: see `StyleTraining`.
        recipe: a recipe or its name.
        progress: see `run_training`.
        **settings: other attributes of `StyleTraining`.

    Returns:
        The path of the finished file, ready for `load_style`.

    Raises:
        PerceptualStyleError: See `run_training`.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    return run_training(StyleTraining(style_image, content, out, recipe, loss_weights, **settings), progress)


def run_training(run: StyleTraining, progress: ProgressCallback | None = None) -> Path:
    """Carry out a training run, or resume an interrupted one, and write ``run.out``.

    If ``run.out`` is already the result of this run, nothing is done.

    Args:
        run: the run.
        progress: called after each step. If it raises, training stops after a checkpoint is written.

    Returns:
        The path of the result.

    Raises:
        InputError: A setting cannot be used.
        ImageError: The photos or the style image cannot be used.
        CheckpointError: A file cannot be used, or the disk is full.
        TrainingError: The objective stays non-finite, or the checkpoint belongs to another run.
    """
    out, recipe = check_name(run.out), run.recipe
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    if run.loss_weights is None:
        run = replace(run, loss_weights=loss_weights_file(recipe.loss_network, recipe.weights.layers))
    names = names_of([*run.paintings])
    photos = PhotoFolder(run.content, recipe.size, recipe.batch_size, run.seed, recipe.shadows)
    photos.workers = loader_workers(device)
    identity = _identity(run, photos.files, amp)
    if not prepare(out, identity, photos.files):
        return out

    objective = _objective(run, device)
    objective.floors = content_floors(recipe.content_floor, photos, objective, device, amp)
    start = begin(
        recipe.arch,
        names,
        run.seed,
        init_from=run.init_from,
        add_to=run.add_to,
        paintings=[*run.paintings.values()],
    )
    network = start.network
    check_fit(network.spec, recipe.size)
    network.to(device).to(memory_format=torch.channels_last).train()
    facts = {"task": "style", "name": out.stem, **start.facts(run.facts), "recipe": training_state.as_json(recipe)}
    return train(
        Training(
            out, identity, recipe, network, StyledPhotos(photos, len(names)) if len(names) > 1 else photos,
            _Losses(run, network, start.pixels, objective, device, amp),
            recipe.weights.sums,
            start=partial(_pretrain, run, network, len(names), amp, progress),
            constrain=keeper(network) if recipe.no_lattice else None,
            report=lambda step, _: {"preview": _preview(run, network, start.pixels, step)},
            facts=facts, half=run.half, checkpoint_seconds=run.checkpoint_seconds, result=start.result,
            pixels=start.pixels,
        ),
        progress,
    )  # fmt: skip


def _objective(run: StyleTraining, device: torch.device) -> Objective:
    """Return the objective, with the loss network and the scaled style images on ``device``."""
    recipe = run.recipe
    loss_network = LossNetwork(recipe.loss_network, run.loss_weights, recipe.weights.layers)
    loss_network.to(device).to(memory_format=torch.channels_last)

    def fit(image: Tensor) -> Tensor:
        return fit_style_image(image.detach().clone().float(), recipe.style_size).to(device)

    paintings = [[fit(image) for image in images_of(images)] for images in run.paintings.values()]
    return Objective(loss_network, recipe.weights, paintings)


class _Losses:
    """The objective of a style network for a batch, and the recipe's terms for networks."""

    def __init__(
        self,
        run: StyleTraining,
        network: TransformNet,
        pixels: PixelConvention,
        objective: Objective,
        device: torch.device,
        amp: torch.dtype | None,
    ) -> None:
        self.recipe, self.seed = run.recipe, run.seed
        self.network, self.pixels, self.objective, self.device, self.amp = network, pixels, objective, device, amp
        blocks = [stage for stage in network.stages if isinstance(stage, ResidualStage)]
        self.stages = blocks if run.recipe.peaks else []
        self.is_fixed = not run.recipe.steadiness  # whose copies are moved in another way at each step

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Return the parts of the objective for photos, or for photos and the rows of their styles."""
        recipe = self.recipe
        content, rows = (batch[0], on_device(batch[1], self.device)) if isinstance(batch, tuple) else (batch, None)
        content = on_device(content, self.device)
        with autocast(self.device, self.amp):
            with _recorded(self.stages) as residuals:
                raw, output = self._picture(content, rows)
            parts = self.objective(output, content, None, rows)
        if residuals:
            parts["peaks"] = recipe.peaks * total(peak_loss(features) for features in residuals)
        if recipe.saturation and self.network.spec.output != "linear":
            parts["saturation"] = recipe.saturation * saturation_loss(raw)
        parts |= pattern_losses(recipe, self.network.spec, output, content)
        if recipe.steadiness:
            parts["steadiness"] = recipe.steadiness * self._steadiness(content, output, rows, step)
        return parts

    def _steadiness(self, content: Tensor, output: Tensor, rows: Tensor | None, step: int) -> Tensor:
        """Return the loss between the pictures of photos and of their disturbed copies."""
        copies, move = disturbed(content, self.seed, step)
        with autocast(self.device, self.amp):
            _, of_moved = self._picture(copies, rows)
        return steadiness_loss(output, of_moved, move, self.recipe.size // 16)

    def _picture(self, photos: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the network's raw output for photos, and their pictures."""
        raw = self.network(self.pixels.to_network(photos), raw=True, row=rows).float()
        return raw, self.pixels.from_network(output_function(raw, self.network.spec.output))


def _pretrain(
    run: StyleTraining, network: TransformNet, styles: int, amp: torch.dtype | None, progress: ProgressCallback | None
) -> None:
    """Teach a new network to reproduce its input, if the recipe says so."""
    if run.init_from is not None or run.add_to is not None or not run.recipe.identity_steps:
        return
    if styles == 1:
        learn_identity(network, run.recipe, run.content, run.seed, amp, progress)
        return
    # Reproducing a photo needs no style: all rows start equal.
    one = with_rows(network, rows_of(network)[:1]).train().requires_grad_(True)
    learn_identity(one, run.recipe, run.content, run.seed, amp, progress)
    network.load_state_dict(with_rows(one, rows_of(one) * styles).state_dict())


def _identity(run: StyleTraining, photos: list[Path], amp: torch.dtype | None) -> dict[str, Any]:
    """Return the facts that must be equal for a checkpoint to belong to this run."""
    source = run.init_from if run.add_to is None else run.add_to
    path, part = (None, None) if source is None else split(source)
    images = run.style_image if run.add_to is None else run.paintings
    identity = training_state.identity(run.recipe, photos, amp, run.seed, run.loss_weights, path, style_image=images)
    if part is not None:
        identity["style of the start"] = part
    if run.add_to is not None:
        identity["kind of training"] = "a style is added"
    return identity


@contextmanager
def _recorded(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Give a list that collects what ``modules`` return in this block."""
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
def _preview(run: StyleTraining, network: TransformNet, pixels: PixelConvention, step: int) -> Tensor | None:
    """Return the preview image in all styles, side by side, if a preview is due at this step."""
    if run.preview_image is None or not run.preview_steps or (step % run.preview_steps and step != run.recipe.steps):
        return None
    photo = run.preview_image.to(next(network.parameters()).device)
    network.eval()
    plain = [network] if network.spec.styles == 1 else [with_rows(network, [row]) for row in rows_of(network)]
    images = [pixels.from_network(forward_any_size(each, pixels.to_network(photo))).clamp(0, 1) for each in plain]
    network.train()
    return torch.cat(images, dim=3).cpu()
