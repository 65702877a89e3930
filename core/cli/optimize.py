"""The command ``optimize``: image optimization, feature inversion and style reconstruction."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from torch import Tensor

from .. import errors
from ..devices import pick_device
from ..images.filters import fitted
from ..images.reading import read_image
from ..images.writing import check_format, check_target, save_image, save_images
from ..losses.objective import ObjectiveWeights
from ..training.optimize_image import inversion, optimize_image, reconstruction
from ..training.style_recipes import StyleRecipe, get_recipe
from .options import add_device, add_loss_weights, check_not_read
from .terminal import plain
from .training import step_bar

_PREVIEW_SECONDS = 2.0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``optimize``."""
    command.description = (
        "Stylize a photo by optimizing its pixels with L-BFGS (Gatys et al.). The objective is the one that style networks "
        "are trained on. This takes minutes instead of one pass, but works for any painting without training. "
        "--inversion and --reconstruction show what layers of the loss network keep of a photo or of a painting's style."
    )
    command.add_argument("content", metavar="CONTENT", help="the photo; with --reconstruction, the painting")
    command.add_argument(
        "style", nargs="?", metavar="STYLE", help="the painting; not with --inversion or --reconstruction"
    )
    command.add_argument("-o", "--output", required=True, metavar="OUT", help="the image to write")
    command.add_argument(
        "--recipe",
        default="standard",
        help="recipe of the objective: standard, quick, paper or authors (default: %(default)s)",
    )
    command.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="optimization steps (default: %(default)s)"
    )
    command.add_argument(
        "--size", type=int, default=512, metavar="PX",
        help="longest side of the result; smaller photos keep their size (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--start",
        choices=("noise", "content"),
        help="what optimization starts from (default: content; with --inversion and --reconstruction, noise)",
    )
    alone = command.add_mutually_exclusive_group()
    alone.add_argument(
        "--inversion", nargs="+", metavar="LAYER", help="match only CONTENT's features at these layers, without a style"
    )
    alone.add_argument(
        "--reconstruction", nargs="+", metavar="LAYER", help="match only the painting's style at these layers"
    )
    add_loss_weights(command)
    command.add_argument("--seed", type=int, default=0, help="random seed for the noise (default: %(default)s)")
    add_device(command)
    command.add_argument(
        "--preview",
        action="store_true",
        help="write the current image every two seconds, to OUT with the suffix .preview.png",
    )
    group = command.add_argument_group("changes to the recipe")
    group.add_argument("--loss-network", metavar="NAME", help="name of the loss network")
    group.add_argument(
        "--style-size", type=int, metavar="PX", help="longest side of the painting; a larger one gives larger strokes"
    )
    for option, kind in (("content", "content"), ("style", "style"), ("tv", "total variation")):
        group.add_argument(f"--{option}-weight", type=float, metavar="X", help=f"factor on the {kind} weight")
    command.set_defaults(run=_optimize)


def _optimize(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    check_target(output)
    photo, painting = _images(arguments)
    check_not_read(output, photo, painting)
    if arguments.size < 1:
        raise errors.InputError(f"--size is {arguments.size}; expected at least 1")
    recipe, weights, style_size = _objective(arguments)
    device = pick_device(arguments.device)
    image = None if photo is None else read_image(photo)
    style = None if painting is None else read_image(painting)
    if (given := image or style) is not None:
        side = min(max(given.pixels.shape), arguments.size)
        check_format(output, side, side)
    with step_bar(_Preview(output) if arguments.preview else None, "iteration") as show:
        result = optimize_image(
            None if image is None else fitted(image.filled, arguments.size).to(device),
            None if style is None else style.filled.to(device),
            recipe=recipe, weights=weights, loss_weights=arguments.loss_weights, iterations=arguments.iterations,
            start=arguments.start, style_size=style_size, seed=arguments.seed, progress=show,
        ).cpu()  # fmt: skip
    if image is None:
        warning = save_image(output, result)
    else:
        alpha = None if image.alpha is None else fitted(image.alpha, arguments.size)
        warning = save_images(output, [dataclasses.replace(image, pixels=result, alpha=alpha)])
    if warning:
        print(plain(f"perceptual-style: {warning}"), file=sys.stderr)
    print(plain(str(output)))
    return 0


def _objective(arguments: argparse.Namespace) -> tuple[StyleRecipe, ObjectiveWeights, int | None]:
    """Return the recipe, the weights of the objective, and the size of the painting if it is not the recipe's."""
    recipe = get_recipe(arguments.recipe)
    if arguments.loss_network:
        recipe = dataclasses.replace(recipe, loss_network=arguments.loss_network)
    weights = recipe.weights.scaled(arguments.content_weight, arguments.style_weight, arguments.tv_weight)
    if arguments.inversion:
        weights = inversion(weights, arguments.inversion)
    if arguments.reconstruction:
        return recipe, reconstruction(weights, arguments.reconstruction), arguments.style_size or arguments.size
    return recipe, weights, arguments.style_size


def _images(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the files of the photo and the painting. One is None for inversion or reconstruction."""
    alone = "--inversion" if arguments.inversion else "--reconstruction" if arguments.reconstruction else None
    if alone is None and arguments.style is None:
        raise errors.InputError("expected a painting; give one after the photo, or use --inversion with layers")
    if alone is not None and arguments.style is not None:
        raise errors.InputError(f"{alone} takes one image; got {arguments.content} and {arguments.style}")
    if arguments.reconstruction:
        return None, arguments.content
    return arguments.content, arguments.style


class _Preview:
    """A callback that writes the current image every few seconds."""

    def __init__(self, output: Path) -> None:
        self._path, self._last = output.with_suffix(".preview.png"), float("-inf")

    def __call__(self, image: Tensor) -> None:
        if time.monotonic() - self._last >= _PREVIEW_SECONDS:
            save_image(self._path, image)
            self._last = time.monotonic()
