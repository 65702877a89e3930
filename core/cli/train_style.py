"""The command ``train-style``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import errors
from ..images.reading import read_image
from ..images.writing import save_image
from ..network.styles import name_from
from ..training.base_styles import BASES, base_file
from ..training.style_recipes import get_recipe
from ..training.train_style import train_style
from .options import add_loss_weights
from .terminal import plain
from .training import add_training_arguments, changed, file_of, settings, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``train-style``."""
    command.description = (
        "Train a style network from a painting and a folder of photos. Several paintings give one network with several "
        "styles, or one style with --as-one. An interrupted training run resumes when you run the same command again. To "
        "share the work between GPUs or machines, start it with torchrun: torchrun --nproc-per-node=2 -m "
        "perceptual_style.core.cli train-style ..."
    )
    command.add_argument("style_images", metavar="STYLE_IMAGE", nargs="+", help="the painting, or several paintings")
    command.add_argument(
        "--as-one",
        action="store_true",
        help="train one style from all paintings, such as several by one artist: from the mean of their statistics",
    )
    command.add_argument(
        "--names",
        metavar="A,B,...",
        help="names of the styles in a network with several (default: the names of the images)",
    )
    command.add_argument(
        "--content", required=True, metavar="DIR", help="folder of photos to train on; a thousand is plenty"
    )
    command.add_argument(
        "--recipe", default="quick", help="training recipe: quick, standard, paper or authors (default: %(default)s)"
    )
    start = command.add_mutually_exclusive_group()
    start.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this style (far fewer steps are needed), from what a predictor finds for the painting (`predicted` or a "
        f"file), or `none` to start from scratch (default: `{BASES['quick']}` for the recipe quick, `none` for the others); the "
        "start's architecture is kept, and --arch can only add blurs (bd32)",
    )
    start.add_argument(
        "--add-to",
        metavar="NAME|FILE",
        help="add the painting to this network, whose own styles stay unchanged; only the new style's scales and shifts are "
        "learned; they start from the mean of the existing styles, or from one of them (FILE#STYLE)",
    )
    command.add_argument(
        "--preview",
        metavar="IMAGE",
        help="a photo to stylize every 100 steps, written to FILE with the suffix .preview.png",
    )
    add_loss_weights(command)
    changes = add_training_arguments(command)
    changes.add_argument("--width", type=int, metavar="N", help="channels of the first layer; the others in proportion")
    changes.add_argument("--size", type=int, metavar="PX", help="side of the training crops")
    changes.add_argument(
        "--style-size", type=int, metavar="PX", help="longest side of the painting; a larger one gives larger strokes"
    )
    changes.add_argument("--style-weight", type=float, metavar="X", help="factor on the style weight")
    changes.add_argument("--tv-weight", type=float, metavar="X", help="factor on the total variation weight")
    changes.add_argument(
        "--steadiness",
        type=float,
        metavar="X",
        help="weight of the difference between pictures of a photo and of the same photo with noise, moved by 1 to 3 px "
        "(default: the recipe's; 0 in all named recipes)",
    )
    changes.add_argument(
        "--weave",
        type=float,
        metavar="X",
        help="weight of the term against fine texture where the photo is flat, such as a hatch in skies (default: the recipe's)",
    )
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
            preview_image=read_image(arguments.preview).filled if arguments.preview else None,
            add_to=file_of(arguments.add_to, "style"), init_from=init_from, **settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(plain(str(path)))
    return 0


def _paintings(arguments: argparse.Namespace) -> Any:
    """Return the style image, a list of several for one style, or a dict by name for several styles or an added one."""
    paths = [Path(path) for path in arguments.style_images]
    as_one = arguments.as_one or len(paths) == 1
    alone = as_one and arguments.add_to is None
    names = [name_from(path.stem) for path in paths]
    if as_one:
        names = [name_from(Path(arguments.output).stem)] if len(paths) > 1 else names
    if arguments.names is not None:
        if alone:
            raise errors.InputError(
                "--names is for networks with several styles; a single style has the name of its file"
            )
        names = [name.strip() for name in arguments.names.split(",")]
    styles = 1 if as_one else len(paths)
    if len(names) != styles or len(set(names)) < styles:
        wanted = f"{styles} different ones: --names A,B,..." if styles > 1 else "one: --names A"
        raise errors.InputError(f"the names of the styles are {', '.join(names)}; expected {wanted}")
    images = [read_image(path).filled for path in paths]
    if as_one:
        together = images if len(images) > 1 else images[0]
        return together if alone else {names[0]: together}
    return dict(zip(names, images, strict=True))
