"""The command ``train-upscaler``."""

from __future__ import annotations

import argparse

from ..training.train_upscaler import train_upscaler
from ..training.upscale_recipes import upscale_recipe
from .terminal import plain
from .training import add_training_arguments, changed, file_of, settings, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``train-upscaler``."""
    command.description = (
        "Train a super-resolution network from a folder of sharp photos. An interrupted training run resumes when you run "
        "the same command again."
    )
    command.add_argument("photos", metavar="DIR", help="folder of sharp photos; a few hundred are enough")
    command.add_argument(
        "--factor",
        type=int,
        default=4,
        metavar="N",
        help="how many times to enlarge: 2, 4 or 8, or 1 to only restore (default: %(default)s)",
    )
    command.add_argument(
        "--recipe",
        default="pixel",
        help="training recipe: pixel, perceptual, restore, restore-perceptual, paper or paper-pixel (default: %(default)s)",
    )
    command.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this upscaler; for the recipes perceptual and restore, use one that was trained with pixel, and for "
        "restore-perceptual one that was trained with restore",
    )
    command.add_argument(
        "--teachers",
        nargs="+",
        default=(),
        metavar="NAME|FILE",
        help="train on the average of these upscalers' results for flipped and rotated crops, instead of the photos alone",
    )
    command.add_argument(
        "--teachers-share",
        type=float,
        default=1.0,
        metavar="X",
        help="share of the crops that are learned from the teachers (default: %(default)s)",
    )
    command.add_argument(
        "--validation", metavar="DIR", help="photos for measuring PSNR every 500 steps, never trained on"
    )
    command.add_argument(
        "--loss-weights",
        metavar="FILE",
        help="weights of the recipe's loss network (default: the weights downloaded with `perceptual-style download vgg16`)",
    )
    changes = add_training_arguments(command)
    changes.add_argument("--size", type=int, metavar="PX", help="side of the low resolution crops")
    changes.add_argument(
        "--degradation", metavar="NAME",
        help="how the low resolution crops are made: bicubic; blur (then bicubic, as in the paper); mix, one of them at "
        "random; or real, with the blur, noise and JPEG of real photos",
    )  # fmt: skip
    changes.add_argument(
        "--adversarial", metavar="X", type=float,
        help="weight of a small discriminator, such as 0.02; 0 trains without one",
    )  # fmt: skip
    changes.add_argument("--pixel-weight", type=float, metavar="X", help="factor on the weight of the pixel loss")
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
        print(plain(str(path)))
    return 0
