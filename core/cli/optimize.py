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
from ..images.reading import read_image
from ..images.writing import check_target, save_image
from ..training.optimize_image import inversion, optimize_image, reconstruction
from ..training.photos import fitted
from ..training.style_recipes import get_recipe
from .options import add_device, add_loss_weights
from .training import step_bar

_PREVIEW_SECONDS = 2.0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``optimize``."""
    command.description = (
        "Optimize the pixels of an image for what style networks are trained on (Gatys et al.), by L-BFGS: "
        "minutes instead of one pass, for any painting at once. With --inversion or --reconstruction it shows what layers of "
        "the loss network keep of a photo, or of a painting's style."
    )
    command.add_argument("content", metavar="CONTENT", help="the photo; with --reconstruction alone: the painting")
    command.add_argument("style", nargs="?", metavar="STYLE", help="the painting")
    command.add_argument("-o", "--output", required=True, metavar="OUT", help="the image to write")
    command.add_argument("--recipe", default="standard", help="standard, paper or authors (default: %(default)s)")
    command.add_argument("--iterations", type=int, default=500, metavar="N", help="default: %(default)s")
    command.add_argument(
        "--size", type=int, default=512, metavar="PX",
        help="longest side of the result; smaller photos stay as they are (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--start", choices=("noise", "content"), help="default: content; for inversion and reconstruction noise"
    )
    alone = command.add_mutually_exclusive_group()
    alone.add_argument(
        "--inversion", nargs="+", metavar="LAYER", help="from noise, CONTENT's features at these layers and no style"
    )
    alone.add_argument(
        "--reconstruction", nargs="+", metavar="LAYER", help="from noise, the painting's style at these layers alone"
    )
    add_loss_weights(command)
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    add_device(command)
    command.add_argument(
        "--preview", action="store_true", help="write the image so far into OUT's .preview.png, every two seconds"
    )
    group = command.add_argument_group("instead of the recipe's")
    group.add_argument("--loss-network", metavar="NAME", help="name of the loss network")
    group.add_argument(
        "--style-size", type=int, metavar="PX", help="longest side of the painting: larger for larger strokes"
    )
    for kind in ("content", "style", "tv"):
        group.add_argument(f"--{kind}-weight", type=float, metavar="X", help=f"factor on the {kind} weights")
    command.set_defaults(run=_optimize)


def _optimize(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    check_target(output)
    photo, painting = _images(arguments)
    if arguments.size < 1:
        raise errors.InputError(f"--size is {arguments.size}; expected at least 1")
    recipe = get_recipe(arguments.recipe)
    if arguments.loss_network:
        recipe = dataclasses.replace(recipe, loss_network=arguments.loss_network)
    weights = recipe.weights.scaled(arguments.content_weight, arguments.style_weight, arguments.tv_weight)
    style_size = arguments.style_size
    if arguments.inversion:
        weights = inversion(weights, arguments.inversion)
    if arguments.reconstruction:
        weights, style_size = reconstruction(weights, arguments.reconstruction), style_size or arguments.size
    device = pick_device(arguments.device)
    image = None if photo is None else read_image(photo)
    style = None if painting is None else read_image(painting)
    with step_bar(_Preview(output) if arguments.preview else None, "iteration") as show:
        result = optimize_image(
            None if image is None else fitted(image.pixels, arguments.size).to(device),
            None if style is None else style.pixels.to(device),
            recipe=recipe, weights=weights, loss_weights=arguments.loss_weights, iterations=arguments.iterations,
            start=arguments.start, style_size=style_size, seed=arguments.seed, progress=show,
        ).cpu()  # fmt: skip
    kept = {}
    if image is not None:
        alpha = None if image.alpha is None else fitted(image.alpha, arguments.size)
        kept = {"alpha": alpha, "icc_profile": image.icc_profile, "exif": image.exif}
    warning = save_image(output, result, **kept)
    if warning:
        print(f"perceptual-style: {warning}", file=sys.stderr)
    print(output)
    return 0


def _images(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """The files of the photo and of the painting; one of them is None where the other is wanted alone."""
    alone = "--inversion" if arguments.inversion else "--reconstruction" if arguments.reconstruction else None
    if alone is None and arguments.style is None:
        raise errors.InputError("there is no painting; give one after the photo, or --inversion with layers")
    if alone is not None and arguments.style is not None:
        raise errors.InputError(f"{alone} takes one image alone; got {arguments.content} and {arguments.style}")
    if arguments.reconstruction:
        return None, arguments.content
    return arguments.content, arguments.style


class _Preview:
    """Writes the image so far, now and then."""

    def __init__(self, output: Path) -> None:
        self._path, self._last = output.with_suffix(".preview.png"), float("-inf")

    def __call__(self, image: Tensor) -> None:
        if time.monotonic() - self._last >= _PREVIEW_SECONDS:
            save_image(self._path, image)
            self._last = time.monotonic()
