"""The commands that train: train-style and train-upscaler."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli_options import add_device, add_loss_weights
from .cli_processes import process_group


def add_training_commands(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    _add_train_style(commands)
    _add_train_upscaler(commands)


def _add_common(command: Any, numbers: tuple[tuple[str, type, str], ...]) -> None:
    """What both commands ask."""
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the network to write, .safetensors")
    add_loss_weights(command)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--half", action="store_true", help="write float16: half the size, the same picture to 1/255")
    add_device(command)
    command.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="default: %(default)s")
    for fact in ("title", "license", "credit"):
        command.add_argument(f"--{fact}", help=f"the network's {fact}, kept in the file")
    group = command.add_argument_group("instead of the recipe's")
    common = (
        ("arch", str, "arch string with options"), ("loss-network", str, "name of the loss network"),
        ("steps", int, "number of steps"), ("batch-size", int, "photos a step"),
        ("learning-rate", float, "the optimizer's rate"), ("content-weight", float, "factor on the content weights"),
    )  # fmt: skip
    for name, kind, text in (*common, *numbers):
        group.add_argument(f"--{name}", type=kind, metavar=kind.__name__.upper(), help=text)


def _add_train_style(commands: Any) -> None:
    command = commands.add_parser(
        "train-style",
        help="learn a painting's style",
        description="Train a style network from one painting and a folder of photos; from several paintings, one network "
        "of several styles. An interrupted training goes on where it was when the same command is given again. Several GPUs "
        "or machines share the work when torchrun starts it: torchrun --nproc-per-node=2 -m perceptual_style.core.cli "
        "train-style ...",
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
    _add_common(command, numbers)
    command.set_defaults(run=_train_style)


def _add_train_upscaler(commands: Any) -> None:
    command = commands.add_parser(
        "train-upscaler",
        help="learn to enlarge photos",
        description="Train a super-resolution network from a folder of sharp photos. An interrupted training goes on "
        "where it was when the same command is given again.",
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
    _add_common(command, numbers)
    command.set_defaults(run=_train_upscaler)


def _train_style(arguments: argparse.Namespace) -> int:
    from .bases import base_file
    from .images import read_image, save_image
    from .recipes import get_recipe
    from .style_training import train_style

    style_image = _paintings(arguments)
    preview = Path(arguments.output).with_suffix(".preview.png")
    weights = {"content": arguments.content_weight, "style": arguments.style_weight, "tv": arguments.tv_weight}
    recipe = _changed(get_recipe(arguments.recipe), arguments, weights)
    unbased = arguments.arch or arguments.add_to
    start = "none" if unbased and not arguments.init_from else arguments.init_from
    init_from = base_file(start, recipe.name, arguments.width)
    with _shown(arguments.device, lambda image: save_image(preview, image)) as show:
        path = train_style(
            style_image, arguments.content, arguments.output, recipe=recipe, progress=show,
            preview_steps=100 if arguments.preview else 0,
            preview_image=read_image(arguments.preview).pixels if arguments.preview else None,
            add_to=_file_of(arguments.add_to, "style"), init_from=init_from, **_settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0


def _paintings(arguments: argparse.Namespace) -> Any:
    """The style image; several, or one that is added to others, by name."""
    from . import errors
    from .images import read_image
    from .styles import name_from

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


def _train_upscaler(arguments: argparse.Namespace) -> int:
    from .upscale_recipes import upscale_recipe
    from .upscale_training import train_upscaler

    weights = {"content": arguments.content_weight, "pixel": arguments.pixel_weight}
    recipe = _changed(upscale_recipe(arguments.recipe, arguments.factor), arguments, weights)
    init_from = _file_of(arguments.init_from, "upscale")
    with _shown(arguments.device) as show:
        path = train_upscaler(
            arguments.photos, arguments.output, recipe=recipe, progress=show, validation=arguments.validation,
            validation_steps=500, init_from=init_from,
            teachers=[_file_of(each, "upscale") for each in arguments.teachers],
            teachers_share=arguments.teachers_share, **_settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    facts = {key: getattr(arguments, key) for key in ("title", "license", "credit") if getattr(arguments, key)}
    names_ = ("loss_weights", "seed", "half", "device", "precision")
    return {"facts": facts, **{name: getattr(arguments, name) for name in names_}}


def _file_of(name: str | None, task: str) -> str | None:
    """The file of a network with a name, keeping the choice of a style in it; anything else as it is."""
    from .manifest import names
    from .models import network_file

    if name is None:
        return None
    base, mark, style = name.partition("#")
    return f"{network_file(base, task)}{mark}{style}" if base in names(task) else name


def _changed(recipe: Any, arguments: argparse.Namespace, weights: dict[str, float | None]) -> Any:
    """The recipe with the numbers given on the command line in place of its own."""
    from .recipes import adjusted

    names = {field.name for field in dataclasses.fields(recipe)} - {"name", "weights"} | {"width"}
    return adjusted(recipe, weights, **{name: getattr(arguments, name, None) for name in names})


@contextmanager
def _shown(device: str, save_preview: Callable[[Any], Any] | None = None) -> Iterator[Callable[[Any], None] | None]:
    """What shows the progress, in the process group that there may be; None in all its processes but the first."""
    from .processes import is_first

    with process_group(device) as check, step_bar(save_preview) as show:

        def shown(progress: Any) -> None:
            show(progress)
            check()

        yield shown if is_first() else None


@contextmanager
def step_bar(save_preview: Callable[[Any], Any] | None = None, unit: str = "step") -> Iterator[Callable[[Any], None]]:
    """A bar of steps, with the objective and its parts by kind."""
    from tqdm import tqdm

    with tqdm(total=None, unit=unit, file=sys.stderr, delay=1e-3) as bar:  # no bar where arguments are refused

        def show(progress: Any) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            parts: dict[str, float] = {}
            for name, value in progress.losses.items():
                kind = name.split()[0]
                parts[kind] = parts.get(kind, 0.0) + value
            objective = sum(parts.values())
            bar.set_postfix_str(
                f"objective {objective:.3f}, " + ", ".join(f"{k} {v:.3f}" for k, v in parts.items()), refresh=False
            )
            for note in progress.notes:
                tqdm.write(f"perceptual-style: {note}", file=sys.stderr)
            if progress.preview is not None and save_preview is not None:
                save_preview(progress.preview)

        yield show
