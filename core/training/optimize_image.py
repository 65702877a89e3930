"""Image optimization, the slow way that style networks replace: the pixels themselves descend the objective (equation 5).

It minimizes what networks are trained on, so that the two can be compared (figure 5). With content alone it is feature
inversion (figure 3), with style alone style reconstruction (figure 4).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, TrainingError
from ..hub.loss_networks import loss_weights_file
from ..images.tensors import check_image
from ..losses.loss_network import LossNetwork
from ..losses.objective import Objective, ObjectiveWeights
from ..progress import Progress, ProgressCallback
from .photos import fit_style_image
from .style_recipes import StyleRecipe, get_recipe

STARTS = ("noise", "content")
_HISTORY = 20  # steps that L-BFGS remembers; torch's default of 100 brings no more and fills the memory
_LONGEST_STEP = 0.1  # root mean square over all values (ours)


def optimize_image(
    content: Tensor | None,
    style_image: Tensor | None = None,
    *,
    recipe: StyleRecipe | str = "standard",
    weights: ObjectiveWeights | None = None,
    loss_weights: str | Path | Mapping[str, Tensor] | None = None,
    iterations: int = 500,
    start: str | None = None,
    style_size: int | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Optimize images for an objective, each on its own.

    content: (N, 3, H, W) float RGB in [0, 1], on the device to compute on (float32); None: style alone
    style_image: (1, 3, h, w), likewise; None: content alone
    recipe: loss network, weights and size of the style image, as in training; terms that a recipe adds for networks only
        are not in it
    weights: instead of the recipe's; see `inversion` and `reconstruction`
    loss_weights: file of the loss network, or its tensors; None: what was downloaded by name
    iterations: of L-BFGS, each one evaluation of the objective and its gradient
    start: "noise" (the paper's) or "content"; by default content, which is sooner a good picture, and noise where content or
        style is alone
    style_size: longest side to which the style image is scaled, px, instead of the recipe's
    seed: of the noise, which is the same for each image
    progress: called after each iteration, with the objective's parts and the image as a preview; what it raises stops

    Returns (N, 3, H, W) in [0, 1] with content's dtype and device; without content the size is the scaled style image's.
    May be called in torch's inference mode. Raises ImageError or InputError for bad input, CheckpointError for a file that
    is not the loss network, TrainingError when the objective is not finite.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    weights = recipe.weights if weights is None else weights
    if start is None:
        start = "noise" if content is None or style_image is None else "content"
    style_size = recipe.style_size if style_size is None else style_size
    _check(content, style_image, weights, start)
    for name, value, least in (("iterations", iterations, 1), ("style_size", style_size, 32), ("seed", seed, 0)):
        if not least <= value < 2**63:
            raise InputError(f"{name} is {value}; expected at least {least}")
    device = (style_image if content is None else content).device
    # Autograd takes no tensors of inference mode: what came from there is copied, and all else is made outside of it.
    with torch.inference_mode(False):
        style = None
        if style_image is not None:
            style = fit_style_image(style_image.detach().clone().float().to(device), style_size)
        objective = build_objective(recipe, weights, loss_weights, style, device)
        images = [torch.empty_like(style)] if content is None else content.detach().clone().float().split(1)
        results = []
        for index, image in enumerate(images):
            first = noise(image, seed) if start == "noise" else image
            report = None if progress is None else _reporter(progress, index * iterations, len(images) * iterations)
            results.append(_optimized(objective, image, first, iterations, report))
        return torch.cat(results).to((style_image if content is None else content).dtype)


def inversion(weights: ObjectiveWeights, layers: Iterable[str]) -> ObjectiveWeights:
    """Content alone at these layers (figure 3): with the weights they had, else 1. Total variation stays."""
    return replace(weights, content={layer: weights.content.get(layer, 1.0) for layer in layers}, style={}, pixel=0.0)


def reconstruction(weights: ObjectiveWeights, layers: Iterable[str]) -> ObjectiveWeights:
    """Style alone at these layers (figure 4): with the weights they had, else 1. Total variation stays."""
    return replace(weights, content={}, style={layer: weights.style.get(layer, 1.0) for layer in layers}, pixel=0.0)


def build_objective(
    recipe: StyleRecipe,
    weights: ObjectiveWeights,
    loss_weights: str | Path | Mapping[str, Tensor] | None,
    style: Tensor | None,
    device: torch.device | str,
) -> Objective:
    """The objective for a style image that was scaled already, with the recipe's loss network on ``device``."""
    network = None
    if weights.layers:
        if loss_weights is None:
            loss_weights = loss_weights_file(recipe.loss_network, weights.layers)
        network = LossNetwork(recipe.loss_network, loss_weights, weights.layers)
        network.to(device, memory_format=torch.channels_last)
    return Objective(network, weights, style)


def noise(image: Tensor, seed: int) -> Tensor:
    """White noise of an image's shape, uniform in [0, 1]; the same on all devices."""
    return torch.rand(image.shape, generator=torch.Generator().manual_seed(seed)).to(image.device)


def descend(
    objective: Callable[[Tensor], dict[str, Tensor]], start: Tensor, iterations: int
) -> Iterator[tuple[Tensor, dict[str, float]]]:
    """Minimize the sum of the parts that ``objective`` gives by L-BFGS, projected to [0, 1] after each iteration (4.1).

    Yields the image and its parts at the start, and again after each iteration. The image (1, 3, H, W) is one and the same
    tensor, which the next iteration changes. Raises TrainingError when the objective is not finite.
    """
    image = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
    # As in the authors' code there is no line search: an iteration is one evaluation.
    optimizer = torch.optim.LBFGS([image], max_iter=1, history_size=_HISTORY, tolerance_grad=0, tolerance_change=0)
    unit = None
    for iteration in range(iterations + 1):
        with torch.enable_grad():
            parts = objective(image)
            value = sum(parts.values())
        found = {name: float(part.detach()) for name, part in parts.items()}
        if not math.isfinite(sum(found.values())):
            raise TrainingError(
                f"the objective is not finite after {iteration} iterations; try smaller loss weights or another start"
            )
        yield image.detach(), found
        if iteration < iterations:
            (gradient,) = torch.autograd.grad(value, image)
            if (
                unit is None
            ):  # torch's L-BFGS has absolute bounds, which large images and small weights are to pass, too
                unit = float(gradient.abs().mean()) or 1.0
            image.grad = (gradient / unit).contiguous()
            _projected_step(optimizer, image)


@torch.no_grad()
def _projected_step(optimizer: torch.optim.LBFGS, image: Tensor) -> None:
    """A step of the optimizer along the gradient that is there, shortened where it is too long, and clamped to [0, 1]."""
    before = image.detach().clone()
    optimizer.step(lambda: 0.0)  # without a line search the value itself is not looked at
    step = image - before
    step *= (_LONGEST_STEP / step.square().mean().sqrt()).clamp(
        max=1
    )  # the first estimate of a curvature can be far off
    image.copy_((before + step).clamp_(0, 1))
    state = optimizer.state[image]
    if torch.equal(image, before):
        state.clear()  # where its memory leads nowhere it begins anew
    else:  # curvature is the gradient's change along the way that was gone, not along the one that was meant
        state["d"] = (image - before).flatten() / state["t"]


def _optimized(
    objective: Objective, content: Tensor, start: Tensor, iterations: int,
    report: Callable[[int, Tensor, dict[str, float]], None] | None,
) -> Tensor:  # fmt: skip
    targets = objective.content_targets(content)
    for iteration, (image, parts) in enumerate(descend(lambda x: objective(x, content, targets), start, iterations)):
        if report is not None and iteration:
            report(iteration, image, parts)
    return image


def _reporter(progress: ProgressCallback, before: int, total: int) -> Callable[[int, Tensor, dict[str, float]], None]:
    """Reports iterations of one image as part of all, ``before`` of which are done."""
    started = time.monotonic()

    def report(iteration: int, image: Tensor, parts: dict[str, float]) -> None:
        left = (time.monotonic() - started) / iteration * (total - before - iteration)
        progress(Progress(before + iteration, total, parts, preview=image.clone(), seconds_left=left))

    return report


def _check(content: Tensor | None, style_image: Tensor | None, weights: ObjectiveWeights, start: str) -> None:
    for name, image in (("content", content), ("style_image", style_image)):
        if image is not None:
            check_image(image, name=name)
    if style_image is not None and len(style_image) != 1:
        raise InputError(f"there are {len(style_image)} style images; expected one")
    if content is None and (weights.content or weights.pixel or start == "content"):
        raise InputError(
            "without a content image there is nothing to compare content with, nor to start from; give one"
        )
    if style_image is None and weights.style:
        raise InputError(
            "the weights ask for a style, and there is no style image; give one, or weights of content alone"
        )
    if not (weights.layers or weights.pixel):
        raise InputError("there is no weight on content or style; expected some")
    if start not in STARTS:
        raise InputError(f"start is {start!r}; expected one of {', '.join(STARTS)}")
