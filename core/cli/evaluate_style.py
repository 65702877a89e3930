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
from .options import add_device, add_loss_weights, output_folder, prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate style``."""
    command.description = (
        "Measure a style on photos that it was not trained on: its training objective, beside that of image "
        "optimization after each iteration (the paper's figure 5), and times (its table 1). Writes style.md, style.json, "
        "style.png (needs matplotlib) and pictures side by side. Optimization takes long: with the defaults, hours on a CPU."
    )
    command.add_argument("style", metavar="STYLE", help="a style by name or a file of this project")
    command.add_argument("--data", required=True, nargs="+", metavar="DIR|FILE", help="photos it was not trained on")
    command.add_argument("--style-image", required=True, metavar="FILE", help="the painting it was trained on")
    command.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write into")
    command.add_argument("--photos", type=int, metavar="N", help="so many of the photos, evenly spread (default: all)")
    command.add_argument(
        "--size", type=int, default=256, metavar="PX", help="side of the photos (default: %(default)s)"
    )
    command.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="of optimization (default: %(default)s)"
    )
    command.add_argument(
        "--start", default="noise", choices=("noise", "content"), help="of optimization (default: noise, the paper's)"
    )
    command.add_argument(
        "--sizes", nargs="*", type=int, default=[256, 512, 1024], metavar="PX",
        help="sides of the images to measure time with, if any (default: 256 512 1024)",
    )  # fmt: skip
    command.add_argument("--recipe", help="instead of the file's own: standard, paper or authors")
    add_loss_weights(command)
    command.add_argument("--examples", type=int, default=3, metavar="N", help="pictures (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    add_device(command)
    command.add_argument("--json", action="store_true", help="answer as JSON")
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
