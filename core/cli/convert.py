"""The command ``convert``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import errors
from ..checkpoints.own_format import save_network
from ..files import is_same_file
from ..models.loading import open_network
from ..network.styles import split
from .options import HALF, add_overrides, prints


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``convert``."""
    command.description = "Convert a style or an upscaler from another program to this project's format."
    command.add_argument(
        "file",
        metavar="FILE",
        help="a checkpoint of any supported program, or FILE#STYLE for one style of a file with several",
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write, ending in .safetensors"
    )
    command.add_argument("--half", action="store_true", help=HALF)
    add_overrides(command)
    command.set_defaults(run=prints(_convert))


def _convert(arguments: argparse.Namespace) -> str:
    name, style = split(arguments.file)
    source, target = Path(name), Path(arguments.output)
    if target.suffix != ".safetensors":
        raise errors.InputError(f"the output is {target}; expected a name that ends in .safetensors")
    if is_same_file(target, source):
        raise errors.InputError(f"{target} is the file to convert and would be replaced; choose another output")
    network, pixels, facts = open_network(
        source, style=style, channel_order=arguments.channel_order, output=arguments.output_function
    )
    save_network(target, network, facts, half=arguments.half, pixels=pixels)
    return str(target)
