"""Train an upscaler from a folder of photos. The training loop is in trainer.py."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arithmetic import autocast
from ..checkpoints.own_format import load_network, read_header
from ..devices import autocast_dtype, pick_device
from ..errors import InputError
from ..hub.loss_networks import loss_weights_file
from ..images.filters import sharpened
from ..images.folders import find_images
from ..images.reading import read_image
from ..images.resample import crop_to_multiple, degrade
from ..losses.functional import grid_loss, low_pass_loss, mesh_loss
from ..losses.loss_network import LossNetwork
from ..losses.metrics import psnr
from ..losses.objective import Objective
from ..network.stages import ConvStage, ResidualStage
from ..network.transform_net import TransformNet, build_network
from ..progress import ProgressCallback
from . import state as training_state
from .adversary import PatchDiscriminator, adversarial_losses
from .degradations import damaged
from .photo_pairs import REAL, PairFolder
from .photos import loader_workers, on_device
from .state import checkpoint_path
from .teachers import Teachers
from .trainer import Training, check_name, prepare, train
from .upscale_recipes import UpscaleRecipe, upscale_recipe

_BLOCK = 8  # px of the low-pass loss
_SIGMA = 0.6  # of the unsharp mask, in LR px


@dataclass
class UpscaleTraining:
    """Everything that defines a training run. Runs with equal settings give equal weights (on one kind of CPU).

    Attributes:
        photos: folder of high resolution photos.
        out: the file to write, .safetensors.
        recipe: numbers of the run.
        loss_weights: file of the loss network. If None, the weights downloaded by name are used.
        init_from: file of a network to start from, of the same architecture or of another depth or factor. None starts from
            a new network.
        seed: random seed of initialization, crops and flips.
        facts: facts to save in the finished file: name, title, license, credit, ...
        half: write the finished network as float16.
        device: device name of torch, or "auto".
        precision: "auto", "fp32" or "bf16".
        checkpoint_seconds: time between checkpoints, s.
        teachers: file or files of upscalers of the same factor, whose results replace the photos as targets, see teachers.py.
        teachers_share: share of the crops with such targets, 0 to 1.
        validation: folder of photos to measure PSNR on, which are never trained on. None measures nothing.
        validation_steps: steps between measurements. 0 measures nothing.
    """

    photos: str | Path
    out: str | Path
    recipe: UpscaleRecipe
    loss_weights: str | Path | None = None
    init_from: str | Path | None = None
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    device: str = "auto"
    precision: str = "auto"
    checkpoint_seconds: float = 30.0
    teachers: str | Path | Sequence[str | Path] = ()
    teachers_share: float = 1.0
    validation: str | Path | None = None
    validation_steps: int = 0

    @property
    def teacher_files(self) -> list[str | Path]:
        """The files of the teachers."""
        return [self.teachers] if isinstance(self.teachers, (str, Path)) else [*self.teachers]

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return checkpoint_path(self.out)


def train_upscaler(
    photos: str | Path, out: str | Path, *, factor: int = 4, recipe: UpscaleRecipe | str = "pixel",
    progress: ProgressCallback | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Train an upscaler from a folder of photos.

    Args:
        photos: see `UpscaleTraining`.
        out: see `UpscaleTraining`.
        factor: factor of a recipe given by name.
        recipe: a recipe's name, or a recipe, whose arch determines the factor.
        progress: see `run_upscale_training`.
        **settings: other attributes of `UpscaleTraining`.

    Returns:
        The path of the finished file, ready for `load_upscaler`.

    Raises:
        PerceptualStyleError: See `run_upscale_training`.
    """
    recipe = upscale_recipe(recipe, factor) if isinstance(recipe, str) else recipe
    return run_upscale_training(UpscaleTraining(photos, out, recipe, **settings), progress)


def run_upscale_training(run: UpscaleTraining, progress: ProgressCallback | None = None) -> Path:
    """Carry out a training run, or resume an interrupted one, and write ``run.out``.

    If ``run.out`` is already the result of this run, nothing is done.

    Args:
        run: the run.
        progress: called after each step. If it raises, training stops after a checkpoint is written.

    Returns:
        The path of the result.

    Raises:
        InputError: A setting cannot be used.
        ImageError: The photos cannot be used.
        CheckpointError: A file cannot be used, or the disk is full.
        TrainingError: The objective stays non-finite, or the checkpoint belongs to another run.
    """
    out, recipe, layers = check_name(run.out), run.recipe, run.recipe.weights.layers
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    if layers and run.loss_weights is None:
        run = replace(run, loss_weights=loss_weights_file(recipe.loss_network, layers))
    network = _initial_network(run)
    photos = PairFolder(
        run.photos, network.spec.scale, recipe.size, recipe.batch_size, recipe.degradation, run.seed, recipe.candidates
    )
    photos.workers = loader_workers(device)
    identity = _identity(run, photos.files, amp)
    teachers = Teachers(run.teacher_files, run.teachers_share, network, run.seed, device)
    if run.teacher_files:
        identity["teachers"] = [*map(training_state.file_digest, run.teacher_files), run.teachers_share]
    if not prepare(out, identity, photos.files):
        return out

    network.to(device).to(memory_format=torch.channels_last).train()
    discriminator = PatchDiscriminator(run.seed).to(device) if recipe.adversarial else None
    losses = _Losses(recipe, network, _objective(run, device), teachers, device, amp, discriminator, run.seed)
    return train(
        Training(
            out, identity, recipe, network, photos, losses, recipe.weights.sums, report=partial(_report, run, network),
            facts=_facts(run, out.stem, network.spec.scale), half=run.half, average=recipe.average,
            checkpoint_seconds=run.checkpoint_seconds, discriminator=discriminator,
        ),
        progress,
    )  # fmt: skip


def _identity(run: UpscaleTraining, photos: list[Path], amp: torch.dtype | None) -> dict[str, Any]:
    """Return the facts, apart from teachers, that must be equal for a checkpoint to belong to this run."""
    loss_weights = run.loss_weights if run.recipe.weights.layers else None
    return training_state.identity(run.recipe, photos, amp, run.seed, loss_weights, run.init_from)


def _objective(run: UpscaleTraining, device: torch.device) -> Objective:
    recipe, loss_network = run.recipe, None
    if recipe.weights.layers:
        loss_network = LossNetwork(recipe.loss_network, run.loss_weights, recipe.weights.layers)
        loss_network.to(device).to(memory_format=torch.channels_last)
    return Objective(loss_network, recipe.weights)


@dataclass
class _Losses:
    """The objective of an upscaler for a batch, the recipe's terms against grids and meshes, and the discriminator's."""

    recipe: UpscaleRecipe
    network: TransformNet
    objective: Objective
    teachers: Teachers
    device: torch.device
    amp: torch.dtype | None
    discriminator: PatchDiscriminator | None
    seed: int

    @property
    def is_fixed(self) -> bool:
        """Whether all steps do the same. With teachers and shifts, they change from step to step."""
        return not (self.teachers.networks or self.recipe.shift)

    def __call__(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """Return the parts of the objective for pairs (LR, HR) of crops."""
        recipe, amp = self.recipe, self.amp
        low, high = (on_device(images, self.device) for images in batch)
        with autocast(self.device, amp):
            output = self.network(low)
            photos, high = high, self._sharpened(high)
            targets = self.teachers.targets(low, high, step)
            parts = self.objective(self._shifted(output, step), self._shifted(targets, step))
            # The paper's networks show the grid of the loss network (section 4.2). Ours should not.
            if recipe.grid:
                parts["grid"] = recipe.grid * grid_loss(output, high, self.network.spec.scale)
            if recipe.mesh:
                parts["mesh"] = recipe.mesh * mesh_loss(output, high)
            if recipe.low_pass:
                parts["low-pass"] = recipe.low_pass * low_pass_loss(output, high, _BLOCK)
            if self.discriminator is not None:
                parts |= adversarial_losses(self.discriminator, output, photos)
                parts["adversarial"] = recipe.adversarial * parts["adversarial"]
            return parts

    def _sharpened(self, photos: Tensor) -> Tensor:
        """Return photos after the recipe's unsharp mask: the mean of all that a damaged crop can show is soft."""
        if not self.recipe.sharpen:
            return photos
        return sharpened(photos, self.recipe.sharpen, _SIGMA * self.network.spec.scale)

    def _shifted(self, images: Tensor, step: int) -> Tensor:
        """Return images without a border that is wider at one side or the other, as the step decides."""
        random, most = np.random.default_rng([self.seed, 7, step]), self.recipe.shift
        down, right = (int(random.integers(most + 1)) for _ in range(2))
        return images[..., down : images.shape[-2] - most + down, right : images.shape[-1] - most + right]


def _facts(run: UpscaleTraining, name: str, factor: int) -> dict[str, Any]:
    """Return the facts to save in the finished file."""
    facts = {"task": "upscale", "scale": factor, "name": name, **run.facts}
    restores = run.recipe.degradation == REAL
    if restores:
        facts["dial"] = "denoise"
    if run.init_from is not None and factor > 1 and (restores or run.recipe.weights.layers):
        start = read_header(Path(run.init_from))  # a restorer's partner is a clean network, not an earlier restorer
        partner = start.get("partner") if restores and start.get("dial") == "denoise" else Path(run.init_from).stem
        if partner:
            facts.setdefault("partner", partner)  # the network that this one can be blended with
    return {**facts, "recipe": training_state.as_json(run.recipe)}


def _report(run: UpscaleTraining, network: TransformNet, step: int, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a note on the PSNR of ``weights`` if a measurement is due at this step."""
    if not run.validation or not run.validation_steps or step % run.validation_steps:
        return {}
    figure = validate(network, weights, find_images([run.validation]), run.recipe.degradation)
    return {"notes": (f"step {step}: {figure:.2f} dB on the photos for validation",)}


@torch.no_grad()
def validate(
    network: TransformNet, weights: Mapping[str, Tensor], photos: list[Path], degradation: str = "bicubic"
) -> float:
    """Return the mean PSNR of a network with other weights, on photos that are reduced by bicubic resampling.

    Args:
        network: the network, which is not changed.
        weights: the weights to use, by name.
        photos: files of high resolution photos.
        degradation: ``REAL`` damages each photo instead, always in the same way.

    Returns:
        Mean PSNR of the Y channel in dB, with a border of factor px cropped.
    """
    network = copy.deepcopy(network).eval()
    network.load_state_dict(weights)
    device, factor = next(network.parameters()).device, network.spec.scale
    figures = []
    for index, photo in enumerate(photos):
        high = crop_to_multiple(read_image(photo).filled, factor)
        if degradation == REAL:
            random = np.random.default_rng([7, index])
            low = damaged(high[0].mul(255).round().byte(), factor, random)[None].float() / 255
        else:
            low = degrade(high, factor)
        figures.append(psnr(network(low.to(device)).clamp(0, 1).cpu(), high, factor).item())
    return sum(figures) / len(figures)


def _initial_network(run: UpscaleTraining) -> TransformNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)  # torch.manual_seed would also seed other devices, permanently
        network = build_network(run.recipe.arch)
        if network.spec.norm == "none":
            initialize(network)
    spec = network.spec
    if spec.scale < (1 if run.recipe.degradation == REAL else 2) or spec.multiple_of != 1 or spec.out_channels != 3:
        raise InputError(f"{spec} is no upscaler; expected a scale of 2 or more, 3 channels and images of any size")
    if run.init_from is None:
        return network
    start, _ = load_network(run.init_from)
    if start.spec == spec:
        return start.requires_grad_(True)
    _take_over(network, start, run.init_from)
    return network


def _take_over(network: TransformNet, start: TransformNet, source: str | Path) -> None:
    """Copy the weights of equal stages from ``start``, a network of another factor or depth.

    Stages are compared from both ends, up to the first that differs. Residual blocks in between start as identities, so
    that a deeper network starts as ``start``.
    """
    mine, theirs = list(network.stages), list(start.stages)
    head = _alike(mine, theirs)
    tail = _alike(mine[head:][::-1], theirs[head:][::-1])
    if not head:
        raise InputError(f"{source} has nothing in common with {network.spec}: it is {start.spec}")
    last, their_last = len(mine) - tail, len(theirs) - tail
    pairs = [*zip(mine[:head], theirs[:head], strict=True), *zip(mine[last:], theirs[their_last:], strict=True)]
    for stage, their_stage in pairs:
        stage.load_state_dict(their_stage.state_dict())
    for stage in mine[head:last]:
        if isinstance(stage, ResidualStage):
            nn.init.zeros_(stage.second.conv.weight)


def _alike(stages: list[nn.Module], others: list[nn.Module]) -> int:
    """Return how many stages at the beginning have the same kind and shape."""
    shapes = [[[(type(s), t.shape) for t in s.state_dict().values()] for s in part] for part in (stages, others)]
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*shapes, strict=False)))


@torch.no_grad()
def initialize(network: TransformNet) -> None:
    """Apply He initialization to a network without norms, in which torch's default makes signals vanish.

    Residual branches and the last layer start small, so that the network starts as its base and deep networks stay stable.
    """
    for stage in network.modules():
        if isinstance(stage, ConvStage):
            nn.init.kaiming_normal_(stage.conv.weight, nonlinearity="relu")
            if stage.conv.bias is not None:
                nn.init.zeros_(stage.conv.bias)
    small = [stage.second for stage in network.stages if isinstance(stage, ResidualStage)]
    for stage in (*small, network.stages[-1]):
        if isinstance(stage, ConvStage):
            stage.conv.weight.mul_(0.1)
