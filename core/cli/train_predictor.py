"""The command ``train-predictor``."""

from __future__ import annotations

import argparse

from ..training.base_styles import base_file
from ..training.predictor_recipes import BASE, PREDICTOR_RECIPE
from ..training.train_predictor import train_predictor
from .options import add_loss_weights
from .terminal import plain
from .training import add_training_arguments, changed, settings, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``train-predictor``."""
    command.description = (
        "Train a predictor, which finds the style of any painting at once, from a folder of paintings and a folder of "
        "photos. An interrupted training run resumes when you run the same command again. To share the work between GPUs or "
        "machines, start it with torchrun, as train-style."
    )
    command.add_argument(
        "paintings", metavar="PAINTINGS", help="folder of paintings; several hundred of many kinds are needed"
    )
    command.add_argument(
        "--content", required=True, metavar="DIR", help="folder of photos to train on; a thousand is plenty"
    )
    command.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this style, or from a predictor to train it further, or `none` to start from scratch (default: "
        f"{BASE})",
    )
    add_loss_weights(command)
    changes = add_training_arguments(command)
    changes.add_argument("--size", type=int, metavar="PX", help="side of the crops of photos")
    changes.add_argument("--style-size", type=int, metavar="PX", help="side of the crops of paintings")
    changes.add_argument("--style-weight", type=float, metavar="X", help="factor on the style weight")
    changes.add_argument("--tv-weight", type=float, metavar="X", help="factor on the total variation weight")
    changes.add_argument(
        "--average", type=float, metavar="X",
        help="decay of the moving average of the weights, which becomes the result; 0 uses the last weights",
    )  # fmt: skip
    command.set_defaults(run=_train_predictor)


def _train_predictor(arguments: argparse.Namespace) -> int:
    weights = {"content": arguments.content_weight, "style": arguments.style_weight, "tv": arguments.tv_weight}
    recipe = changed(PREDICTOR_RECIPE, arguments, weights)
    init_from = base_file(arguments.init_from or ("none" if arguments.arch else BASE), recipe.name)
    with shown(arguments.device) as show:
        path = train_predictor(
            arguments.paintings, arguments.content, arguments.output, recipe=recipe, progress=show,
            init_from=init_from, **settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(plain(str(path)))
    return 0
