"""Train a predictor of styles, and the network that it shares, from many paintings and a folder of photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arithmetic import autocast
from ..devices import autocast_dtype, pick_device
from ..hub.loss_networks import loss_weights_file
from ..losses.loss_network import LossNetwork
from ..losses.objective import Objective
from ..models.predictor_file import is_predictor, load_predictor, new_predictor, save_predictor
from ..network.pixels import OURS, PixelConvention
from ..network.style_predictor import StylePredictor, with_last_norm
from ..network.styles import split
from ..network.transform_net import TransformNet, output_function
from ..progress import ProgressCallback
from . import state as training_state
from .content_floors import content_floors
from .lattice import keeper
from .paintings import PaintedPhotos, PaintingFolder
from .patterns import pattern_losses
from .photos import PhotoFolder, loader_workers, on_device
from .predictor_recipes import PREDICTOR_RECIPE, PredictorRecipe
from .style_start import check_fit, new_start, trained_start
from .trainer import Training, check_name, prepare, train

_MOST_LOOKED_AT = 256  # paintings from which the encoder's numbers are standardized


@dataclass
class PredictorTraining:
    """Everything that defines a training run. Runs with equal settings give equal weights (on one kind of CPU).

    Attributes:
        paintings: folder of paintings.
        content: folder of photos.
        out: the file to write, .safetensors.
        recipe: numbers of the run.
        loss_weights: file of the loss network. If None, the weights that are bundled or downloaded by name are used.
        init_from: file of a predictor to train further, or of a trained style, FILE or FILE#STYLE, that becomes the shared
            network. None starts from a new network.
        seed: random seed of initialization, crops and changes of paintings.
        facts: facts to save in the finished file: name, title, license, credit, ...
        half: write the finished predictor as float16.
        device: device name of torch, or "auto".
        precision: "auto", "fp32" or "bf16".
        checkpoint_seconds: time between checkpoints, s.
    """

    paintings: str | Path
    content: str | Path
    out: str | Path
    recipe: PredictorRecipe = PREDICTOR_RECIPE
    loss_weights: str | Path | None = None
    init_from: str | Path | None = None
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    device: str = "auto"
    precision: str = "auto"
    checkpoint_seconds: float = 30.0


def train_predictor(
    paintings: str | Path, content: str | Path, out: str | Path, *, progress: ProgressCallback | None = None, **settings: Any
) -> Path:  # fmt: skip
    """Carry out a training run, or resume an interrupted one, and write ``out``.

    If ``out`` is already the result of this run, nothing is done.

    Args:
        paintings: see `PredictorTraining`.
        content: see `PredictorTraining`.
        out: see `PredictorTraining`.
        progress: called after each step. If it raises, training stops after a checkpoint is written.
        **settings: other attributes of `PredictorTraining`.

    Returns:
        The path of the finished file, for `predict_style`.

    Raises:
        InputError: A setting cannot be used.
        ImageError: The photos or the paintings cannot be used.
        CheckpointError: A file cannot be used, or the disk is full.
        TrainingError: The objective stays non-finite, or the checkpoint belongs to another run.
    """
    run = PredictorTraining(paintings, content, out, **settings)
    path, recipe = check_name(run.out), run.recipe
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    weights = run.loss_weights or loss_weights_file(recipe.loss_network, recipe.weights.layers)
    data = PaintedPhotos(
        PhotoFolder(run.content, recipe.size, recipe.batch_size, run.seed, recipe.shadows),
        PaintingFolder(run.paintings, recipe.style_size, recipe.batch_size, run.seed),
    )
    data.workers = loader_workers(device)
    identity = _identity(run, data, weights, amp)
    if not prepare(path, identity, data.files):
        return path
    loss_network = LossNetwork(recipe.loss_network, weights, recipe.weights.layers)
    loss_network.to(device).to(memory_format=torch.channels_last)
    of_content = Objective(loss_network, replace(recipe.weights, style={}))
    floors = content_floors(recipe.content_floor, data.photos, of_content, device, amp)
    predictor, pixels, is_new = _start(run)
    check_fit(predictor.trunk.spec, recipe.size)
    predictor.to(device).to(memory_format=torch.channels_last).train()
    facts = {"name": path.stem, **run.facts, "recipe": training_state.as_json(recipe)}
    return train(
        Training(
            path, identity, recipe, predictor, data,
            _Losses(recipe, predictor, pixels, loss_network, floors, device, amp), recipe.weights.sums,
            start=partial(_look_at, predictor, data.paintings, device) if is_new else None,
            constrain=keeper(predictor.trunk) if recipe.no_lattice else None,
            facts=facts, half=run.half, average=recipe.average, checkpoint_seconds=run.checkpoint_seconds, pixels=pixels,
            save=save_predictor,
        ),
        progress,
    )  # fmt: skip


def _start(run: PredictorTraining) -> tuple[StylePredictor, PixelConvention, bool]:
    """Return the predictor to train, its pixel convention, and whether its encoder is new."""
    recipe = run.recipe
    if run.init_from is not None and is_predictor(run.init_from):
        predictor, pixels, _ = load_predictor(run.init_from)
        predictor.requires_grad_(True)
        predictor.encoder.keep_fixed()
        predictor.encoder.spec = replace(predictor.encoder.spec, size=recipe.style_size)
        return predictor, pixels, False
    names = ["shared"]
    start = (
        new_start(recipe.arch, names, run.seed)
        if run.init_from is None
        else trained_start(run.init_from, names, recipe.arch)
    )
    seen = loss_weights_file(recipe.encoder.features, recipe.encoder.layers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)
        return new_predictor(_with_colors(start.network, start.pixels), recipe.encoder, seen), start.pixels, True


def _with_colors(trunk: TransformNet, pixels: PixelConvention) -> TransformNet:
    """Return the shared network with a norm at the end, so that colors need no training, where its pixels allow that."""
    fits = pixels == OURS and trunk.spec.output == "tanh" and trunk.spec.last == "plain" and trunk.spec.styles == 1
    return with_last_norm(trunk).requires_grad_(True) if fits else trunk


def _identity(
    run: PredictorTraining, data: PaintedPhotos, weights: str | Path, amp: torch.dtype | None
) -> dict[str, Any]:
    """Return the facts that must be equal for a checkpoint to belong to this run."""
    path, style = (None, None) if run.init_from is None else split(run.init_from)
    same = training_state.identity(run.recipe, data.files, amp, run.seed, weights, path)
    if style is not None:
        same["style of the start"] = style
    return {**same, "paintings": training_state.files_digest(data.paintings.files)}


@torch.no_grad()
def _look_at(predictor: StylePredictor, paintings: PaintingFolder, device: torch.device) -> None:
    """Standardize what the encoder sees by paintings as they come in training."""
    count = min(len(paintings.files), _MOST_LOOKED_AT)
    batches = (paintings.batch(index).to(device) for index in range(-(-count // paintings.batch_size)))
    predictor.encoder.standardize(torch.cat([predictor.encoder.numbers(batch) for batch in batches]))


class _Losses:
    """The objective of a predictor for a batch of photos and paintings."""

    is_fixed = True

    def __init__(
        self,
        recipe: PredictorRecipe,
        predictor: StylePredictor,
        pixels: PixelConvention,
        loss_network: LossNetwork,
        floors: Mapping[str, float],
        device: torch.device,
        amp: torch.dtype | None,
    ) -> None:
        self.recipe, self.predictor, self.pixels = recipe, predictor, pixels
        self.loss_network, self.floors, self.device, self.amp = loss_network, floors, device, amp

    def __call__(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        photos, paintings = (on_device(each, self.device) for each in batch)
        with autocast(self.device, self.amp):
            raw = self.predictor(self.pixels.to_network(photos), paintings, raw=True).float()
            pictures = self.pixels.from_network(output_function(raw, self.predictor.trunk.spec.output))
            parts = Objective(self.loss_network, self.recipe.weights, paintings, self.floors)(pictures, photos)
        return parts | pattern_losses(self.recipe, self.predictor.trunk.spec, pictures, photos)
