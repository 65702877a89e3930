"""The command ``train-style``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import errors
from ..images.reading import read_image
from ..images.writing import save_image
from ..network.styles import name_from
from ..training.base_styles import base_file
from ..training.style_recipes import get_recipe
from ..training.train_style import train_style
from .training import add_training_arguments, changed, file_of, settings, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``train-style``."""
    command.description = (
        "Train a style network from one painting and a folder of photos; from several paintings, one network "
        "of several styles. An interrupted training goes on where it was when the same command is given again. Several GPUs "
        "or machines share the work when torchrun starts it: torchrun --nproc-per-node=2 -m perceptual_style.core.cli "
        "train-style ..."
    )
    command.add_argument("style_images", metavar="STYLE_IMAGE", nargs="+", help="the painting, or several")
    command.add_argument(
        "--names", metavar="A,B,...", help="names of the styles in a file of several (default: the images' names)"
    )
    command.add_argument(
        "--content", required=True, metavar="DIR", help="folder of photos to learn on; a thousand is plenty"
    )
    command.add_argument(
        "--recipe", default="standard", help="quick, standard, paper or authors (default: %(default)s)"
    )
    start = command.add_mutually_exclusive_group()
    start.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this style, or none: a fraction of the steps will do (default: a bundled one for quick, else none)",
    )
    start.add_argument(
        "--add-to",
        metavar="NAME|FILE",
        help="add the style to this network, whose own styles stay as they are: only a row of scales and shifts is learned, "
        "from the mean of its rows, or from a style of it, given as FILE#STYLE",
    )
    command.add_argument(
        "--preview", metavar="IMAGE", help="a photo to stylize every 100 steps, into FILE's .preview.png"
    )
    numbers = (
        ("width", int, "channels of the first layer, the others in proportion"), ("size", int, "crop side, px"),
        ("style-size", int, "longest side of the painting, px: larger for larger strokes"),
        ("style-weight", float, "factor on the style weights"), ("tv-weight", float, "factor on the total variation weight"),
    )  # fmt: skip
    add_training_arguments(command, numbers)
    command.set_defaults(run=_train_style)


def _train_style(arguments: argparse.Namespace) -> int:
    style_image = _paintings(arguments)
    preview = Path(arguments.output).with_suffix(".preview.png")
    weights = {"content": arguments.content_weight, "style": arguments.style_weight, "tv": arguments.tv_weight}
    recipe = changed(get_recipe(arguments.recipe), arguments, weights)
    unbased = arguments.arch or arguments.add_to
    start = "none" if unbased and not arguments.init_from else arguments.init_from
    init_from = base_file(start, recipe.name, arguments.width)
    with shown(arguments.device, lambda image: save_image(preview, image)) as show:
        path = train_style(
            style_image, arguments.content, arguments.output, recipe=recipe, progress=show,
            preview_steps=100 if arguments.preview else 0,
            preview_image=read_image(arguments.preview).pixels if arguments.preview else None,
            add_to=file_of(arguments.add_to, "style"), init_from=init_from, **settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0


def _paintings(arguments: argparse.Namespace) -> Any:
    """The style image; several, or one that is added to others, by name."""
    paths = [Path(path) for path in arguments.style_images]
    alone = len(paths) == 1 and arguments.add_to is None
    names = [name_from(path.stem) for path in paths]
    if arguments.names is not None:
        if alone:
            raise errors.InputError("--names is for files of several styles; a single one has the name of its file")
        names = [name.strip() for name in arguments.names.split(",")]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise errors.InputError(
            f"the names of the styles are {', '.join(names)}; expected {len(paths)}, each its own: --names A,B,..."
        )
    if alone:
        return read_image(paths[0]).pixels
    return {name: read_image(path).pixels for name, path in zip(names, paths, strict=True)}
