"""The command ``evaluate style``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..devices import pick_device
from ..errors import InputError
from ..evaluation import style_report, yardstick_report
from ..evaluation.sheet import write_sheet
from ..evaluation.style_figures import plotting, write_figures
from ..evaluation.styles import StyleEvaluation, evaluate_style, spread
from ..evaluation.yardstick import LOSS_NETWORK, STYLE_LAYERS, Measures, Yardstick
from ..hub.loss_networks import loss_weights_file
from ..images.folders import find_images
from ..images.reading import read_image
from ..images.writing import check_target
from ..losses.loss_network import LossNetwork
from ..models.style_model import StyleModel, load_style
from ..progress import part_of
from ..training.state import file_digest
from ..training.style_recipes import StyleRecipe, get_recipe, recipe_of
from .options import add_device, add_json, add_loss_weights, output_folder, prints, progress_bar

_SHEET_PHOTOS = 6


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate style``."""
    command.description = (
        "Measure styles on photos that they were not trained on, by a yardstick that is the same for all networks: style "
        "distance, content distance and steadiness, with VGG-16. Prints a table. --sheet also draws the pictures side by "
        "side, and --worth measures how many iterations of image optimization one pass of a style is worth."
    )
    command.add_argument("styles", metavar="STYLE", nargs="+", help="styles by name, or files of any known family")
    command.add_argument(
        "--data", required=True, nargs="+", metavar="DIR|FILE", help="photos that the styles were not trained on"
    )
    command.add_argument(
        "--style-image", required=True, nargs="+", metavar="FILE",
        help="the painting of each style, in their order, or one painting for all",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", metavar="OUTDIR", help="folder to write yardstick.md and yardstick.json into (default: none)"
    )
    command.add_argument(
        "--photos", type=int, metavar="N", help="use only N of the photos, evenly spread (default: all)"
    )
    command.add_argument(
        "--vgg16", metavar="FILE",
        help="weights of VGG-16 (default: the weights downloaded with `perceptual-style download vgg16`)",
    )  # fmt: skip
    command.add_argument(
        "--sheet", metavar="FILE", help="image to write, such as sheet.jpg: a row for each photo in all styles"
    )
    command.add_argument(
        "--sheet-photos", nargs="+", metavar="DIR|FILE",
        help=f"photos to show on the sheet (default: {_SHEET_PHOTOS} of the measured ones, evenly spread)",
    )  # fmt: skip
    add_device(command)
    add_json(command)
    _add_worth(command.add_argument_group("what one pass of a single style is worth"))
    command.set_defaults(run=prints(_evaluate_style))


def _add_worth(group: Any) -> None:
    group.add_argument(
        "--worth", action="store_true",
        help="also compare the style's training objective with that of image optimization after each iteration (figure 5 "
        "of the paper), and its speed with that of optimization (table 1); needs -o, into which style.md, style.json, "
        "style.png (with matplotlib) and example pictures are written; takes hours on a CPU with the default settings",
    )  # fmt: skip
    group.add_argument(
        "--size", type=int, default=256, metavar="PX",
        help="crop and scale photos to squares of this side (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="optimization steps (default: %(default)s)"
    )
    group.add_argument(
        "--start", default="noise", choices=("noise", "content"), help="what optimization starts from (default: noise)"
    )
    group.add_argument(
        "--sizes", nargs="*", type=int, default=[256, 512, 1024], metavar="PX",
        help="sides of the square images for measuring speed; give no numbers to skip this (default: 256 512 1024)",
    )  # fmt: skip
    group.add_argument(
        "--recipe", help="use this recipe instead of the one in the file: standard, quick, paper or authors"
    )
    add_loss_weights(group)
    group.add_argument(
        "--examples", type=int, default=3, metavar="N", help="number of example pictures (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=0, help="random seed for the noise (default: %(default)s)")


def _evaluate_style(arguments: argparse.Namespace) -> str:
    output = output_folder(arguments) if arguments.output else None
    if arguments.sheet:
        check_target(arguments.sheet)
    if arguments.worth:
        _check_worth(arguments)
        plotting(arguments.output)
    models = [load_style(each) for each in arguments.styles]
    recipe = _recipe(arguments, models[0]) if arguments.worth else None
    if recipe is not None:
        arguments.loss_weights = _loss_weights(arguments.loss_weights, recipe)
    paintings = _paintings(arguments.style_image, len(models))
    photos = spread(find_images(arguments.data), arguments.photos)
    shown = _sheet_photos(arguments, photos)
    weights = arguments.vgg16 or loss_weights_file(LOSS_NETWORK, STYLE_LAYERS)

    measures = _measured(models, paintings, photos, weights, arguments.device)
    digest = file_digest(weights)
    if output is not None:
        yardstick_report.write_report(measures, digest, output)
    if arguments.sheet:
        with progress_bar("picture") as show:
            write_sheet(arguments.sheet, models, shown, str(pick_device(arguments.device)), show)
    pages = [yardstick_report.markdown(measures, digest)]
    answer = {"yardstick": yardstick_report.as_json(measures, digest)}
    if recipe is not None and output is not None:
        evaluation = _worth(arguments, models[0], paintings[0], photos, recipe)
        style_report.write_report(evaluation, output)
        write_figures(evaluation, output)
        pages.append(style_report.markdown(evaluation))
        answer["optimization"] = style_report.as_json(evaluation)
    return json.dumps(answer, indent=2) if arguments.json else "\n".join(pages).rstrip()


def _check_worth(arguments: argparse.Namespace) -> None:
    if len(arguments.styles) > 1:
        raise InputError(f"--worth is for one style, and there are {len(arguments.styles)}; run it for each")
    if not arguments.output:
        raise InputError("--worth writes a report and pictures; give the folder for them: -o OUTDIR")


def _recipe(arguments: argparse.Namespace, model: StyleModel) -> StyleRecipe:
    return get_recipe(arguments.recipe) if arguments.recipe else recipe_of(model.facts, arguments.styles[0])


def _loss_weights(path: str | None, recipe: StyleRecipe) -> str | Path:
    """Return the file of the recipe's loss network. A file that cannot be used is reported before any work."""
    layers = recipe.weights.layers
    weights = path or loss_weights_file(recipe.loss_network, layers)
    LossNetwork(recipe.loss_network, weights, layers)
    return weights


def _paintings(paths: Sequence[str], styles: int) -> list[Tensor]:
    """Return the style image of each style."""
    if len(paths) not in (1, styles):
        raise InputError(
            f"there are {len(paths)} style images for {styles} styles; expected one for each, or one for all"
        )
    images = [read_image(path).filled for path in paths]
    return images * styles if len(images) == 1 else images


def _sheet_photos(arguments: argparse.Namespace, photos: Sequence[Path]) -> list[Path]:
    if arguments.sheet_photos:
        return find_images(arguments.sheet_photos)
    return spread(photos, min(_SHEET_PHOTOS, len(photos)))


def _measured(
    models: Sequence[StyleModel], paintings: Sequence[Tensor], photos: Sequence[Path], weights: str | Path, device: str
) -> list[Measures]:
    yardstick = Yardstick(photos, weights, pick_device(device))
    with progress_bar("photo") as show:
        return [
            yardstick.measure(model, painting, part_of(show, number, len(models)))
            for number, (model, painting) in enumerate(zip(models, paintings, strict=True))
        ]


def _worth(
    arguments: argparse.Namespace, model: StyleModel, painting: Tensor, photos: Sequence[Path], recipe: StyleRecipe
) -> StyleEvaluation:
    with progress_bar("iteration") as show:
        return evaluate_style(
            model, painting, photos, recipe=recipe, loss_weights=arguments.loss_weights,
            size=arguments.size, iterations=arguments.iterations, start=arguments.start, sizes=arguments.sizes,
            examples=arguments.examples, seed=arguments.seed, device=pick_device(arguments.device), progress=show,
        )  # fmt: skip
