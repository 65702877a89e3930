"""Image optimization, the slow method that style networks replace: gradient descent on pixels (equation 5).

It minimizes the objective on which networks are trained, so that both can be compared (figure 5). With content alone it is
feature inversion (figure 3), with style alone style reconstruction (figure 4).
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
from ..losses.functional import total
from ..losses.loss_network import LossNetwork
from ..losses.objective import Objective, ObjectiveWeights
from ..progress import Progress, ProgressCallback
from .photos import fit_style_image
from .style_recipes import StyleRecipe, get_recipe

STARTS = ("noise", "content")
_HISTORY = 20  # steps that L-BFGS remembers: torch's default of 100 is no better and needs much memory
_LONGEST_STEP = 0.1  # largest root mean square of a step over all values (ours)


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

    May be called in torch's inference mode.

    Args:
        content: (N, 3, H, W) float RGB in [0, 1], on the device to compute on (in float32). None optimizes for style alone.
        style_image: (1, 3, h, w), likewise. None optimizes for content alone.
        recipe: recipe, or its name, for loss network, weights and size of the style image. Terms that a recipe adds only
            for networks are not used.
        weights: weights to use instead of the recipe's, see `inversion` and `reconstruction`.
        loss_weights: file of the loss network, or its tensors. If None, the weights downloaded by name are used.
        iterations: iterations of L-BFGS, each one evaluation of the objective and its gradient.
        start: "noise" (as in the paper) or "content". By default, optimization starts from content, which gives a good
            picture sooner, and from noise if content or style is alone.
        style_size: longest side to which the style image is scaled, px, instead of the recipe's.
        seed: random seed of the noise, which is the same for each image.
        progress: called after each iteration with the objective's parts, and with the image as a preview. An exception that
            it raises stops the work and reaches the caller.

    Returns:
        (N, 3, H, W) in [0, 1] with the dtype and device of content. Without content, the result has the size, dtype and
        device of the scaled style image.

    Raises:
        ImageError: An image tensor is invalid.
        InputError: Another argument is invalid.
        CheckpointError: The file is not the loss network.
        TrainingError: The objective is not finite.
    """
    given = style_image if content is None else content
    if given is None:
        raise InputError("there is neither a content image nor a style image; give at least one")
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    weights = recipe.weights if weights is None else weights
    if start is None:
        start = "noise" if content is None or style_image is None else "content"
    style_size = recipe.style_size if style_size is None else style_size
    _check(content, style_image, weights, start)
    for name, value, least in (("iterations", iterations, 1), ("style_size", style_size, 32), ("seed", seed, 0)):
        if not least <= value < 2**63:
            raise InputError(f"{name} is {value}; expected at least {least}")
    # Autograd refuses tensors of inference mode. Tensors made there are copied, and all others are made outside of it.
    with torch.inference_mode(False):
        style = None
        if style_image is not None:
            style = fit_style_image(style_image.detach().clone().float().to(given.device), style_size)
        objective = build_objective(recipe, weights, loss_weights, style, given.device)
        images = [] if style is None else [torch.empty_like(style)]  # without content, the result has the style's size
        if content is not None:
            images = [*content.detach().clone().float().split(1)]
        results = []
        for index, image in enumerate(images):
            first = noise(image, seed) if start == "noise" else image
            report = None if progress is None else _reporter(progress, index * iterations, len(images) * iterations)
            results.append(_optimize(objective, image, first, iterations, report))
        return torch.cat(results).to(given.dtype)


def inversion(weights: ObjectiveWeights, layers: Iterable[str]) -> ObjectiveWeights:
    """Return weights for content alone at these layers (figure 3). Layers without a weight get 1, and tv is kept."""
    return replace(weights, content={layer: weights.content.get(layer, 1.0) for layer in layers}, style={}, pixel=0.0)


def reconstruction(weights: ObjectiveWeights, layers: Iterable[str]) -> ObjectiveWeights:
    """Return weights for style alone at these layers (figure 4). Layers without a weight get 1, and tv is kept."""
    return replace(weights, content={}, style={layer: weights.style.get(layer, 1.0) for layer in layers}, pixel=0.0)


def build_objective(
    recipe: StyleRecipe,
    weights: ObjectiveWeights,
    loss_weights: str | Path | Mapping[str, Tensor] | None,
    style: Tensor | None,
    device: torch.device | str,
) -> Objective:
    """Return the objective for a style image that is already scaled.

    Args:
        recipe: recipe of the loss network.
        weights: weights of the objective.
        loss_weights: file of the loss network, or its tensors. If None, the weights downloaded by name are used.
        style: (1, 3, H, W) RGB in [0, 1], or None without style weights.
        device: device of the loss network.
    """
    network = None
    if weights.layers:
        if loss_weights is None:
            loss_weights = loss_weights_file(recipe.loss_network, weights.layers)
        network = LossNetwork(recipe.loss_network, loss_weights, weights.layers)
        network.to(device).to(memory_format=torch.channels_last)
    return Objective(network, weights, style)


def noise(image: Tensor, seed: int) -> Tensor:
    """Return white noise of an image's shape, uniform in [0, 1] and the same on all devices."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.rand(image.shape, generator=generator, dtype=torch.float32, device="cpu")
    return noise.to(image.device)


def descend(
    objective: Callable[[Tensor], dict[str, Tensor]], start: Tensor, iterations: int
) -> Iterator[tuple[Tensor, dict[str, float]]]:
    """Minimize an objective by L-BFGS, projected to [0, 1] after each iteration (section 4.1).

    Args:
        objective: maps an image to the parts of the objective, whose sum is minimized.
        start: (1, 3, H, W), the image to start from.
        iterations: number of iterations.

    Yields:
        The image and its parts, at the start and after each iteration. The image (1, 3, H, W) is always the same tensor,
        which the next iteration changes.

    Raises:
        TrainingError: The objective is not finite.
    """
    image = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
    # No line search, as in the authors' code: an iteration is one evaluation.
    optimizer = torch.optim.LBFGS([image], max_iter=1, history_size=_HISTORY, tolerance_grad=0, tolerance_change=0)
    unit = None
    for iteration in range(iterations + 1):
        with torch.enable_grad():
            parts = objective(image)
            value = total(parts.values())
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
            ):  # torch's L-BFGS has absolute thresholds that large images or small weights would not reach
                unit = float(gradient.abs().mean()) or 1.0
            image.grad = (gradient / unit).contiguous()
            _projected_step(optimizer, image)


@torch.no_grad()
def _projected_step(optimizer: torch.optim.LBFGS, image: Tensor) -> None:
    """Take an optimizer step along the image's gradient, shortened if it is too long, and clamp to [0, 1]."""
    before = image.detach().clone()
    optimizer.step(lambda: 0.0)  # without a line search the value is not used
    step = image - before
    # The first estimate of the curvature can be far off.
    step *= (_LONGEST_STEP / step.square().mean().sqrt()).clamp(max=1)
    image.copy_((before + step).clamp_(0, 1))
    state = optimizer.state[image]
    if torch.equal(image, before):
        state.clear()  # if its history leads nowhere, it starts over
    else:  # curvature is the gradient's change along the step actually taken, not along the intended one
        state["d"] = (image - before).flatten() / state["t"]


def _optimize(
    objective: Objective, content: Tensor, start: Tensor, iterations: int,
    report: Callable[[int, Tensor, dict[str, float]], None] | None,
) -> Tensor:  # fmt: skip
    targets = objective.content_targets(content)
    for iteration, (image, parts) in enumerate(descend(lambda x: objective(x, content, targets), start, iterations)):
        if report is not None and iteration:
            report(iteration, image, parts)
    return image


def _reporter(
    progress: ProgressCallback, before: int, iterations: int
) -> Callable[[int, Tensor, dict[str, float]], None]:
    """Return a function that reports iterations of one image out of ``iterations``, ``before`` of which are done."""
    started = time.monotonic()

    def report(iteration: int, image: Tensor, parts: dict[str, float]) -> None:
        left = (time.monotonic() - started) / iteration * (iterations - before - iteration)
        progress(Progress(before + iteration, iterations, parts, preview=image.clone(), seconds_left=left))

    return report


def _check(content: Tensor | None, style_image: Tensor | None, weights: ObjectiveWeights, start: str) -> None:
    for name, image in (("content", content), ("style_image", style_image)):
        if image is not None:
            check_image(image, name=name)
    if style_image is not None and len(style_image) != 1:
        raise InputError(f"there are {len(style_image)} style images; expected one")
    if content is None and (weights.content or weights.pixel or start == "content"):
        raise InputError("without a content image there is nothing to compare content with or to start from; give one")
    if style_image is None and weights.style:
        raise InputError(
            "the weights ask for a style, and there is no style image; give one, or weights of content alone"
        )
    if not (weights.layers or weights.pixel):
        raise InputError("there is no weight on content or style; give at least one")
    if start not in STARTS:
        raise InputError(f"start is {start!r}; expected one of {', '.join(STARTS)}")
