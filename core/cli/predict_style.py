"""The command ``predict-style``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import errors
from ..checkpoints.own_format import save_network
from ..network.styles import name_from
from .options import HALF, check_not_read, prints
from .paintings import add_prediction_arguments, predicted


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``predict-style``."""
    command.description = (
        "Find the style of a painting, or a mixture of several, at once and without training, and write it as a style "
        "like any other. To use it only once, `stylize --style-image` is enough."
    )
    command.add_argument("paintings", nargs="+", metavar="PAINTING", help="an image file, at least 64 px on each side")
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write, ending in .safetensors"
    )
    add_prediction_arguments(command)
    command.add_argument("--half", action="store_true", help=HALF)
    command.set_defaults(run=prints(_predict))


def _predict(arguments: argparse.Namespace) -> str:
    target = Path(arguments.output)
    if target.suffix != ".safetensors":
        raise errors.InputError(f"the output is {target}; expected a name that ends in .safetensors")
    check_not_read(target, *arguments.paintings, *filter(None, [arguments.predictor]))
    model = predicted(arguments.paintings, arguments.weights, arguments.predictor, name_from(target.stem))
    save_network(target, model.network, model.facts, half=arguments.half, pixels=model.pixels)
    return str(target)
