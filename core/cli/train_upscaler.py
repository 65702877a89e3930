"""The command ``train-upscaler``."""

from __future__ import annotations

import argparse

from ..training.train_upscaler import train_upscaler
from ..training.upscale_recipes import upscale_recipe
from .training import add_training_arguments, changed, file_of, settings, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``train-upscaler``."""
    command.description = (
        "Train a super-resolution network from a folder of sharp photos. An interrupted training goes on where it was "
        "when the same command is given again."
    )
    command.add_argument("photos", metavar="DIR", help="folder of sharp photos; a few hundred will do")
    command.add_argument("--factor", type=int, default=4, help="2, 4 or 8 (default: %(default)s)")
    command.add_argument(
        "--recipe", default="pixel", help="pixel, perceptual, paper or paper-pixel (default: %(default)s)"
    )
    command.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this upscaler, as the recipe perceptual should from pixel's",
    )
    command.add_argument(
        "--teachers",
        nargs="+",
        default=(),
        metavar="NAME|FILE",
        help="learn from these upscalers' results for flipped and turned crops, instead of from the photos alone",
    )
    command.add_argument(
        "--teachers-share", type=float, default=1.0, metavar="FLOAT", help="of the crops (default: %(default)s)"
    )
    command.add_argument(
        "--validation", metavar="DIR", help="photos to measure PSNR on every 500 steps, never trained on"
    )
    numbers = (
        ("size", int, "side of the low resolution crops, px"),
        ("degradation", str, "how low resolution is made: bicubic, blur (and bicubic, the paper's) or mix"),
        ("pixel-weight", float, "factor on the pixel loss"),
    )
    add_training_arguments(command, numbers)
    command.set_defaults(run=_train_upscaler)


def _train_upscaler(arguments: argparse.Namespace) -> int:
    weights = {"content": arguments.content_weight, "pixel": arguments.pixel_weight}
    recipe = changed(upscale_recipe(arguments.recipe, arguments.factor), arguments, weights)
    init_from = file_of(arguments.init_from, "upscale")
    with shown(arguments.device) as show:
        path = train_upscaler(
            arguments.photos, arguments.output, recipe=recipe, progress=show, validation=arguments.validation,
            validation_steps=500, init_from=init_from,
            teachers=[file_of(each, "upscale") for each in arguments.teachers],
            teachers_share=arguments.teachers_share, **settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0
