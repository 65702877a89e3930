"""The command ``evaluate style``."""

from __future__ import annotations

import argparse
import json

from ..devices import pick_device
from ..evaluation.style_figures import plotting, write_figures
from ..evaluation.style_report import as_json, markdown, write_report
from ..evaluation.styles import evaluate_style, spread
from ..images.folders import find_images
from ..images.reading import read_image
from ..models.style_model import load_style
from ..training.style_recipes import get_recipe, recipe_of
from .options import add_device, add_json, add_loss_weights, output_folder, prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate style``."""
    command.description = (
        "Measure a style on photos that it was not trained on. Its training objective is compared with the objective of "
        "image optimization after each iteration (figure 5 of the paper), and its speed with the speed of optimization "
        "(table 1). Writes style.md, style.json, style.png (needs matplotlib) and example pictures side by side. With the "
        "default settings this takes hours on a CPU."
    )
    command.add_argument("style", metavar="STYLE", help="a style by name, or a file in this project's format")
    command.add_argument(
        "--data", required=True, nargs="+", metavar="DIR|FILE", help="photos that the style was not trained on"
    )
    command.add_argument(
        "--style-image", required=True, metavar="FILE", help="the painting that the style was trained on"
    )
    command.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write into")
    command.add_argument(
        "--photos", type=int, metavar="N", help="use only N of the photos, evenly spread (default: all)"
    )
    command.add_argument(
        "--size",
        type=int,
        default=256,
        metavar="PX",
        help="crop and scale photos to squares of this side (default: %(default)s)",
    )
    command.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="optimization steps (default: %(default)s)"
    )
    command.add_argument(
        "--start",
        default="noise",
        choices=("noise", "content"),
        help="what optimization starts from (default: noise)",
    )
    command.add_argument(
        "--sizes", nargs="*", type=int, default=[256, 512, 1024], metavar="PX",
        help="sides of the square images for measuring speed; give no numbers to skip this (default: 256 512 1024)",
    )  # fmt: skip
    command.add_argument(
        "--recipe", help="use this recipe instead of the one in the file: standard, quick, paper or authors"
    )
    add_loss_weights(command)
    command.add_argument(
        "--examples", type=int, default=3, metavar="N", help="number of example pictures (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, help="random seed for the noise (default: %(default)s)")
    add_device(command)
    add_json(command)
    command.set_defaults(run=prints(_evaluate_style))


def _evaluate_style(arguments: argparse.Namespace) -> str:
    output = output_folder(arguments)
    plotting(output)
    model = load_style(arguments.style)
    recipe = get_recipe(arguments.recipe) if arguments.recipe else recipe_of(model.facts, arguments.style)
    photos = spread(find_images(arguments.data), arguments.photos)
    with progress_bar("iteration") as show:
        evaluation = evaluate_style(
            model, read_image(arguments.style_image).pixels, photos, recipe=recipe, loss_weights=arguments.loss_weights,
            size=arguments.size, iterations=arguments.iterations, start=arguments.start, sizes=arguments.sizes,
            examples=arguments.examples, seed=arguments.seed, device=pick_device(arguments.device), progress=show,
        )  # fmt: skip
    write_report(evaluation, output)
    write_figures(evaluation, output)
    return json.dumps(as_json(evaluation), indent=2) if arguments.json else markdown(evaluation).rstrip()
