"""Measure how far a style network gets in one pass, and how long optimization takes to get there (figure 5, table 1).

Both are measured by the objective that the network was trained for, on photos that it has not seen. Terms that a recipe
adds only for training networks are left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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

T = TypeVar("T")


@dataclass(frozen=True)
class PhotoValues:
    """Values of the objective for one photo.

    Attributes:
        photo: File name.
        content: Parts of the objective, by name, for the photo itself.
        network: The same for the network's picture.
        optimized: The same for the last picture of optimization.
        curve: The objective during optimization, at the start and after each iteration.
    """

    photo: str
    content: Mapping[str, float]
    network: Mapping[str, float]
    optimized: Mapping[str, float]
    curve: tuple[float, ...]

    @property
    def worth(self) -> int | None:
        """Iterations that optimization needs to be as good as the network, or None if there were too few."""
        return reached(self.curve, sum(self.network.values()))


@dataclass(frozen=True)
class Example:
    """One photo and the pictures made from it, (3, H, W) each.

    Attributes:
        values: Values of the objective.
        content: The photo.
        network: The network's picture.
        equal: The picture of optimization when it was as good as the network's, or None if it never was.
        optimized: The last picture of optimization.
    """

    values: PhotoValues
    content: Tensor
    network: Tensor
    equal: Tensor | None
    optimized: Tensor


@dataclass(frozen=True)
class Speed:
    """Times for one image.

    Attributes:
        size: Side of the image in px.
        network: Seconds of one pass of the network.
        iteration: Seconds of one iteration of optimization.
    """

    size: int
    network: float
    iteration: float


@dataclass(frozen=True)
class StyleEvaluation:
    """Results of `evaluate_style`, with the settings that they depend on.

    Attributes:
        style: Name of the style.
        title: Title of the style.
        recipe: Recipe of the objective.
        size: Side of the photos in px.
        start: What optimization started from, "noise" or "content".
        device: Device of the computation.
        photos: Values of each photo.
        speeds: Times by size.
        examples: Pictures of some photos.
        notes: Cautions: where the objective differs from the one that the style was trained for.
    """

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
        """Iterations after which optimization is as good as the network on average, or None if there were too few."""
        return reached(self.curve, self.mean("network"))


def reached(curve: Sequence[float], value: float) -> int | None:
    """Return the first iteration at which a curve is not above a value, or None."""
    return next((iteration for iteration, each in enumerate(curve) if each <= value), None)


def spread(photos: Sequence[T], number: int | None) -> list[T]:
    """Return ``number`` of the photos, evenly spread, or all if it is None. Raises InputError if there are too few."""
    number = len(photos) if number is None else number
    if not 0 < number <= len(photos):
        raise InputError(f"{number} photos were requested; expected 1 to {len(photos)}, the number of photos")
    return [photos[(2 * i + 1) * len(photos) // (2 * number)] for i in range(number)]


def square_photo(path: Path, size: int) -> Tensor:
    """Return the middle square of a photo, (1, 3, size, size) RGB in [0, 1]. Raises ImageError."""
    pixels = read_image(path).filled
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = pixels[..., top : top + side, left : left + side]
    return F.interpolate(crop, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


class TrainingObjective:
    """The objective of a recipe for one style image; see `optimize_image` for arguments and errors."""

    def __init__(
        self, recipe: StyleRecipe, style_image: Tensor, loss_weights: str | Path | Mapping[str, Tensor] | None,
        device: torch.device | str,
    ) -> None:  # fmt: skip
        style = fit_style_image(style_image.to(device), recipe.style_size)
        self._objective = build_objective(recipe, recipe.weights, loss_weights, style, device)

    def of(self, photo: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
        """Return a function from pictures of this photo to the parts of the objective by name."""
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

    Args:
        model: The style.
        style_image: (1, 3, H, W), the style image that it was trained on.
        photos: Photo files. The middle square of each is scaled to ``size`` px.
        recipe: Recipe that the style was trained with, see `style_recipes.recipe_of`.
        loss_weights: As in `optimize_image`.
        size: Side of the photos in px.
        iterations: Iterations of optimization.
        start: "noise" (as in the paper) or "content": what optimization starts from.
        sizes: Sides in px of the images for measuring time.
        examples: Number of photos, evenly spread, whose pictures are returned.
        seed: Random seed for the noise.
        device: Device to compute on.
        progress: Called after each iteration.

    Raises:
        ImageError: If a photo cannot be read (before any work), or there are none.
        InputError: If a setting is wrong, and as `optimize_image`.
        CheckpointError: As `optimize_image`.
    """
    _check_settings(
        {"iterations": (iterations, 1), "examples": (examples, 0), "size": (min([size, *sizes]), 32)}, start
    )
    contents = [square_photo(path, size) for path in photos]
    if not contents:
        raise ImageError("there are no photos to measure with")
    shown = set(spread(range(len(photos)), min(examples, len(photos)))) if examples else set()
    if loss_weights is None:
        loss_weights = loss_weights_file(recipe.loss_network, recipe.weights.layers)
    objective = TrainingObjective(recipe, style_image, loss_weights, device)

    # Measured first, so that an image too large for the memory fails before hours of work.
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


def _check_settings(least_of: Mapping[str, tuple[int, int]], start: str) -> None:
    """Raise InputError for a number below its minimum or an unknown start; least_of: (number, minimum) by name."""
    for name, (value, least) in least_of.items():
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")
    if start not in STARTS:
        raise InputError(f"start is {start!r}; expected one of {', '.join(STARTS)}")


def measure_speed(model: StyleModel, objective: TrainingObjective, photo: Tensor) -> Speed:
    """Return median times for a photo (1, 3, size, size). The machine should be idle otherwise."""
    passes, clock = [], time.perf_counter()
    for _ in range(_REPEATS + 1):
        float(model.stylize(photo).sum())  # the sum waits for the GPU
        clock, before = time.perf_counter(), clock
        passes.append(clock - before)
    steps = []
    for _ in descend(objective.of(photo), photo, _WARM_UP + _REPEATS):
        clock, before = time.perf_counter(), clock
        steps.append(clock - before)
    return Speed(photo.shape[-1], statistics.median(passes[1:]), statistics.median(steps[1 + _WARM_UP :]))


def differences(model: StyleModel, recipe: StyleRecipe, style_image: Tensor, loss_weights: str | Path) -> list[str]:
    """Return a line for each difference between this objective and the network's own, as far as its file records it."""
    run = model.facts.get("run")
    run = run if isinstance(run, Mapping) else {}
    stated = run.get("recipe")
    stated = stated if isinstance(stated, Mapping) else {}
    weights = stated.get("weights") or {}
    differing = {
        "style image": run.get("style image") not in (None, image_digest(style_image)),
        "loss network": run.get("loss network") not in (None, file_digest(loss_weights)),
        "recipe": any(getattr(recipe.weights, key, None) != value for key, value in weights.items()),
        "kind of content, photos in the painting's colors": bool(stated.get("recolor")),  # in early files only
    }
    return [
        f"Caution: {model.name} was trained with another {what}, so its objective differs from the one measured here."
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
    goal, curve, equal = sum(of_network.values()), [], None
    optimized: dict[str, float] = {}
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
