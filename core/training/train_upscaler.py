"""Train an upscaler, from a folder of photos to a file; trainer.py has the loop."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.own_format import load_network
from ..devices import autocast_dtype, pick_device
from ..errors import InputError
from ..hub.loss_networks import loss_weights_file
from ..images.folders import find_images
from ..images.reading import read_image
from ..images.resample import crop_to_multiple, degrade
from ..losses.functional import grid_loss, mesh_loss
from ..losses.loss_network import LossNetwork
from ..losses.metrics import psnr
from ..losses.objective import Objective
from ..network.stages import ConvStage, ResidualStage
from ..network.transform_net import TransformNet, build_network
from ..progress import ProgressCallback
from . import state as training_state
from .photo_pairs import PairFolder
from .teachers import Teachers
from .trainer import Training, check_name, checkpoint_path, prepare, train
from .upscale_recipes import UpscaleRecipe, upscale_recipe


@dataclass
class UpscaleTraining:
    """Everything that defines one run; fields that StyleTraining has mean the same here.

    photos: folder of high resolution photos
    init_from: file of a network to start from, of the same architecture, another depth or factor, or None
    teachers: file or files of upscalers of the same factor, whose results stand for the photos in ``teachers_share`` of the
        crops (0 to 1); see teacher.py
    validation: folder of photos to measure PSNR on every ``validation_steps`` steps (0: never), never trained on
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

    def __post_init__(self) -> None:
        if isinstance(self.teachers, (str, Path)):  # one file, not its letters
            self.teachers = [self.teachers]

    @property
    def checkpoint(self) -> Path:
        return checkpoint_path(self.out)


def train_upscaler(
    photos: str | Path, out: str | Path, *, factor: int = 4, recipe: UpscaleRecipe | str = "pixel",
    progress: ProgressCallback | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """Train an upscaler from a folder of photos; arguments and ``settings`` are those of `UpscaleTraining`.

    recipe: a name, taken for ``factor``, or a recipe, whose arch says the factor. Returns the path of the finished file,
    ready for `load_upscaler`; see `run_upscale_training` for errors.
    """
    recipe = upscale_recipe(recipe, factor) if isinstance(recipe, str) else recipe
    return run_upscale_training(UpscaleTraining(photos, out, recipe, **settings), progress)


def run_upscale_training(run: UpscaleTraining, progress: ProgressCallback | None = None) -> Path:
    """Run a training, or go on with one that was interrupted, and write ``run.out``; see trainer.train.

    Raises InputError and ImageError for unusable settings, CheckpointError for unusable files or a full disk,
    TrainingError as trainer.train.
    """
    out, recipe = check_name(run.out), run.recipe
    device = pick_device(run.device)
    amp = autocast_dtype(device, run.precision)
    layers = recipe.weights.layers
    if layers and run.loss_weights is None:
        run = replace(run, loss_weights=loss_weights_file(recipe.loss_network, layers))
    network = _initial_network(run)
    factor = network.spec.scale
    photos = PairFolder(
        run.photos, factor, recipe.size, recipe.batch_size, recipe.degradation, run.seed, recipe.candidates
    )
    weights_file = run.loss_weights if layers else None
    identity = training_state.identity(recipe, photos.files, amp, run.seed, weights_file, run.init_from)
    teachers = Teachers(run.teachers, run.teachers_share, network, run.seed, device)
    if run.teachers:
        identity["teachers"] = [*map(training_state.file_digest, run.teachers), run.teachers_share]
    if not prepare(out, identity):
        return out
    network.to(device, memory_format=torch.channels_last).train()
    loss_network = None
    if layers:
        loss_network = LossNetwork(recipe.loss_network, run.loss_weights, layers)
        loss_network.to(device, memory_format=torch.channels_last)
    objective = Objective(loss_network, recipe.weights)

    def losses(batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        low, high = (images.to(device, memory_format=torch.channels_last) for images in batch)
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            output = network(low)
            parts = objective(output, teachers.targets(low, high, step))
            if recipe.grid:  # the paper's networks show the loss network's grid, section 4.2; ours are not to
                parts["grid"] = recipe.grid * grid_loss(output, high, factor)
            if recipe.mesh:
                parts["mesh"] = recipe.mesh * sum(mesh_loss(output, high, period) for period in recipe.mesh_periods)
            return parts

    def report(step: int, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        if not run.validation or not run.validation_steps or step % run.validation_steps:
            return {}
        figure = validate(network, weights, find_images([run.validation]))
        return {"notes": (f"step {step}: {figure:.2f} dB on the photos for validation",)}

    facts = {"task": "upscale", "scale": factor, "name": out.stem, **run.facts}
    if layers and run.init_from is not None:
        facts.setdefault("partner", Path(run.init_from).stem)  # what it can be blended with
    return train(
        Training(
            out, identity, recipe, network, photos, losses, recipe.weights.sums, report=report, average=recipe.average,
            half=run.half, facts={**facts, "recipe": training_state.as_json(recipe)}, checkpoint_seconds=run.checkpoint_seconds,
        ),
        progress,
    )  # fmt: skip


@torch.no_grad()
def validate(network: TransformNet, weights: Mapping[str, Tensor], photos: list[Path]) -> float:
    """Mean PSNR (dB, Y channel, border of factor px cropped) of ``weights`` over photos, reduced by bicubic."""
    network = copy.deepcopy(network).eval()
    network.load_state_dict(weights)
    device, factor = next(network.parameters()).device, network.spec.scale
    figures = []
    for photo in photos:
        high = crop_to_multiple(read_image(photo).pixels[:, :3], factor).to(device)
        figures.append(psnr(network(degrade(high, factor)).clamp(0, 1), high, factor).item())
    return sum(figures) / len(figures)


def _initial_network(run: UpscaleTraining) -> TransformNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)  # torch.manual_seed would seed other devices for good
        network = build_network(run.recipe.arch)
        if network.spec.norm == "none":
            initialize(network)
    spec = network.spec
    if spec.scale < 2 or spec.multiple_of != 1 or spec.out_channels != 3:
        raise InputError(f"{spec} is no upscaler: expected 3 channels, 2 or more times as large, of any size")
    if run.init_from is None:
        return network
    start, _ = load_network(run.init_from)
    if start.spec == spec:
        return start.requires_grad_(True)
    _take_over(network, start, run.init_from)
    return network


def _take_over(network: TransformNet, start: TransformNet, source: str | Path) -> None:
    """Take what is alike from ``start``, a network of another factor or depth: stages from the first on and from the last
    back, up to one that differs. Residual blocks in between begin as identities, so a deeper network begins as ``start``.
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
    """How many stages, from the first on, are of the same kind and shape."""
    shapes = [[[(type(s), t.shape) for t in s.state_dict().values()] for s in part] for part in (stages, others)]
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*shapes, strict=False)))


@torch.no_grad()
def initialize(network: TransformNet) -> None:
    """He initialization, for networks without norms, which torch's default leaves with vanishing signals.

    Residual branches and the last layer start small: the network begins as its base, and deep ones stay stable.
    """
    for stage in network.modules():
        if isinstance(stage, ConvStage):
            nn.init.kaiming_normal_(stage.conv.weight, nonlinearity="relu")
            nn.init.zeros_(stage.conv.bias)
    small = [stage.second for stage in network.stages if isinstance(stage, ResidualStage)]
    for stage in (*small, network.stages[-1]):
        stage.conv.weight.mul_(0.1)
