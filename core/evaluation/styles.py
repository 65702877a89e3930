"""Measuring styles: how far a network gets in one pass, and how long optimization takes to get there (figure 5, table 1).

Both are measured by the objective that the network was trained for, on photos that it has not seen. What a recipe adds for
the training of networks alone is left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, InputError
from ..hub.loss_networks import loss_weights_file
from ..images.reading import read_image
from ..models.style_model import StyleModel
from ..progress import Progress, ProgressCallback
from ..training.optimize_image import STARTS, build_objective, descend, noise
from ..training.photos import fit_style_image
from ..training.state import file_digest, image_digest
from ..training.style_recipes import StyleRecipe

_WARM_UP, _REPEATS = 2, 5


@dataclass(frozen=True)
class PhotoValues:
    """The objective of one photo's pictures.

    content, network, optimized: its parts for the photo itself, the network's picture and the last one of optimization
    curve: the objective of optimization at the start and after each iteration
    """

    photo: str
    content: Mapping[str, float]
    network: Mapping[str, float]
    optimized: Mapping[str, float]
    curve: tuple[float, ...]

    @property
    def worth(self) -> int | None:
        """As many iterations as it takes to be as good as the network; None: more than there were."""
        return reached(self.curve, sum(self.network.values()))


@dataclass(frozen=True)
class Example:
    """One photo and what was made of it, (3, H, W) each; equal: optimization when it was as good as the network, or None."""

    values: PhotoValues
    content: Tensor
    network: Tensor
    equal: Tensor | None
    optimized: Tensor


@dataclass(frozen=True)
class Speed:
    """Seconds of one pass of the network and of one iteration of optimization, for an image of size x size px."""

    size: int
    network: float
    iteration: float


@dataclass(frozen=True)
class StyleEvaluation:
    """What was measured, with the settings that it depends on; notes: what may make it another style's."""

    style: str
    title: str
    recipe: StyleRecipe
    size: int
    start: str
    device: str
    photos: Sequence[PhotoValues]
    speeds: Sequence[Speed] = ()
    examples: Sequence[Example] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def curve(self) -> list[float]:
        """Mean objective of optimization at the start and after each iteration."""
        return [statistics.fmean(values) for values in zip(*(photo.curve for photo in self.photos), strict=True)]

    def mean(self, what: str) -> float:
        """Mean objective of "content", "network" or "optimized"."""
        return statistics.fmean(sum(getattr(photo, what).values()) for photo in self.photos)

    @property
    def worth(self) -> int | None:
        """Iterations after which optimization is as good as the network, on the average; None: more than there were."""
        return reached(self.curve, self.mean("network"))


def reached(curve: Sequence[float], value: float) -> int | None:
    """The first place of a curve that is not above a value, None when there is none."""
    return next((iteration for iteration, each in enumerate(curve) if each <= value), None)


def spread(files: Sequence[Path], number: int | None) -> list[Path]:
    """So many of the files, evenly spread; None: all. Raises InputError when there are not so many."""
    number = len(files) if number is None else number
    if not 0 < number <= len(files):
        raise InputError(f"{number} photos were asked for; expected 1 to {len(files)}, which is how many there are")
    return [files[(2 * i + 1) * len(files) // (2 * number)] for i in range(number)]


def square_photo(path: Path, size: int) -> Tensor:
    """The middle square of a photo, (1, 3, size, size) RGB in [0, 1]. Raises ImageError when it cannot be read."""
    pixels = read_image(path).pixels
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = pixels[..., top : top + side, left : left + side]
    return F.interpolate(crop, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


class TrainingObjective:
    """What a network of a recipe is trained for, for one painting; see `optimize_image` for arguments and errors."""

    def __init__(
        self, recipe: StyleRecipe, style_image: Tensor, loss_weights: str | Path | Mapping[str, Tensor] | None,
        device: torch.device | str,
    ) -> None:  # fmt: skip
        style = fit_style_image(style_image.to(device), recipe.style_size)
        self._objective = build_objective(recipe, recipe.weights, loss_weights, style, device)

    def of(self, photo: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        """The objective of pictures of this photo."""
        targets = self._objective.content_targets(photo)
        return lambda image: self._objective(image, photo, targets)


def evaluate_style(
    model: StyleModel,
    style_image: Tensor,
    photos: Sequence[Path],
    *,
    recipe: StyleRecipe,
    loss_weights: str | Path | None = None,
    size: int = 256,
    iterations: int = 500,
    start: str = "noise",
    sizes: Sequence[int] = (),
    examples: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: ProgressCallback | None = None,
) -> StyleEvaluation:
    """Measure a style on photos that it was not trained on.

    style_image: (1, 3, H, W), the painting that it was trained on; recipe: what for, see `recipes.recipe_of`
    photos: their middle squares are taken, of ``size`` px
    iterations, start, seed: of optimization, as `optimize_image`'s; the paper starts from noise
    sizes: of the images to measure time with; examples: of so many photos, evenly spread, the pictures are kept
    progress: called after each iteration

    Raises ImageError for photos that cannot be read (before any work), InputError and CheckpointError as `optimize_image`.
    """
    least_of = {"iterations": (iterations, 1), "examples": (examples, 0), "size": (min([size, *sizes]), 32)}
    for name, (value, least) in least_of.items():
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")
    if start not in STARTS:
        raise InputError(f"start is {start!r}; expected one of {', '.join(STARTS)}")
    contents = [square_photo(path, size) for path in photos]
    if not contents:
        raise ImageError("there are no photos to measure with")
    shown = set(spread(range(len(photos)), min(examples, len(photos)))) if examples else set()
    if loss_weights is None:
        loss_weights = loss_weights_file(recipe.loss_network, recipe.weights.layers)
    objective = TrainingObjective(recipe, style_image, loss_weights, device)

    # first, so that an image too large for the memory is found out before hours of work.
    speeds = [
        measure_speed(model, objective, square_photo(photos[0], side).to(device)) for side in dict.fromkeys(sizes)
    ]
    found, kept = [], []
    for index, (path, content) in enumerate(zip(photos, contents, strict=True)):
        report = None if progress is None else _counter(progress, index * iterations, len(photos) * iterations)
        values, example = _measured(model, objective, path, content.to(device), iterations, start, seed, report)
        found.append(values)
        kept += [example] if index in shown else []
    return StyleEvaluation(
        model.name, str(model.facts.get("title", model.name)), recipe, size, start, str(device), found, speeds, kept,
        differences(model, recipe, style_image, loss_weights),
    )  # fmt: skip


def measure_speed(model: StyleModel, objective: TrainingObjective, photo: Tensor) -> Speed:
    """Median times for a photo (1, 3, size, size). The machine should have nothing else to do."""
    passes, clock = [], time.perf_counter()
    for _ in range(_REPEATS + 1):
        float(model.stylize(photo).sum())  # the sum waits for other devices
        clock, before = time.perf_counter(), clock
        passes.append(clock - before)
    steps = []
    for _ in descend(objective.of(photo), photo, _WARM_UP + _REPEATS):
        clock, before = time.perf_counter(), clock
        steps.append(clock - before)
    return Speed(photo.shape[-1], statistics.median(passes[1:]), statistics.median(steps[1 + _WARM_UP :]))


def differences(model: StyleModel, recipe: StyleRecipe, style_image: Tensor, loss_weights: str | Path) -> list[str]:
    """How what is measured differs from what the network was trained for, as far as its file says, one line each."""
    run = model.facts.get("run")
    run = run if isinstance(run, Mapping) else {}
    stated = run.get("recipe")
    stated = stated if isinstance(stated, Mapping) else {}
    weights = stated.get("weights") or {}
    differing = {
        "style image": run.get("style image") not in (None, image_digest(style_image)),
        "loss network": run.get("loss network") not in (None, file_digest(loss_weights)),
        "recipe": any(getattr(recipe.weights, key, None) != value for key, value in weights.items()),
        "kind of content, photos in the painting's colors": bool(stated.get("recolor")),  # as early files were
    }
    return [
        f"Caution: {model.name} was trained with another {what}, and so for another objective than is measured here."
        for what, differs in differing.items()
        if differs
    ]


def _measured(
    model: StyleModel, objective: TrainingObjective, path: Path, photo: Tensor, iterations: int, start: str, seed: int,
    report: Callable[[int], None] | None,
) -> tuple[PhotoValues, Example]:  # fmt: skip
    parts = objective.of(photo)
    network = model.stylize(photo)
    with torch.no_grad():
        of_photo, of_network = ({name: float(part) for name, part in parts(x).items()} for x in (photo, network))
    goal, curve, equal, optimized = sum(of_network.values()), [], None, {}
    for iteration, (image, optimized) in enumerate(
        descend(parts, noise(photo, seed) if start == "noise" else photo, iterations)
    ):
        curve.append(sum(optimized.values()))
        if equal is None and curve[-1] <= goal:
            equal = image[0].cpu().clone()
        if report is not None and iteration:
            report(iteration)
    values = PhotoValues(path.name, of_photo, of_network, optimized, tuple(curve))
    return values, Example(values, photo[0].cpu(), network[0].cpu(), equal, image[0].cpu())


def _counter(progress: ProgressCallback, before: int, total: int) -> Callable[[int], None]:
    return lambda iteration: progress(Progress(before + iteration, total))
