"""The commands that train: train-style and train-upscaler."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli_processes import process_group


def add_training_commands(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    _add_train_style(commands)
    _add_train_upscaler(commands)


def _add_common(command: Any, numbers: tuple[tuple[str, type, str], ...]) -> None:
    """What both commands ask."""
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the network to write, .safetensors")
    command.add_argument(
        "--loss-weights",
        metavar="FILE",
        help="weights of the recipe's loss network (default: those downloaded by name)",
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--half", action="store_true", help="write float16: half the size, the same picture to 1/255")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: %(default)s)")
    command.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="default: %(default)s")
    for fact in ("title", "license", "credit"):
        command.add_argument(f"--{fact}", help=f"the network's {fact}, kept in the file")
    group = command.add_argument_group("instead of the recipe's")
    common = (
        ("arch", str, "arch string with options"), ("loss-network", str, "name of the loss network"),
        ("steps", int, "number of steps"), ("batch-size", int, "photos a step"),
        ("learning-rate", float, "Adam's rate"), ("content-weight", float, "factor on the content weights"),
    )  # fmt: skip
    for name, kind, text in (*common, *numbers):
        group.add_argument(f"--{name}", type=kind, metavar=kind.__name__.upper(), help=text)


def _add_train_style(commands: Any) -> None:
    command = commands.add_parser(
        "train-style",
        help="learn a painting's style",
        description="Train a style network from one painting and a folder of photos. An interrupted training goes on "
        "where it was when the same command is given again. Several GPUs or machines share the work when torchrun starts "
        "it: torchrun --nproc-per-node=2 -m perceptual_style.core.cli train-style ...",
    )
    command.add_argument("style_image", metavar="STYLE_IMAGE", help="the painting")
    command.add_argument(
        "--content", required=True, metavar="DIR", help="folder of photos to learn on; a thousand is plenty"
    )
    command.add_argument(
        "--recipe", default="standard", help="quick, standard, paper or authors (default: %(default)s)"
    )
    command.add_argument(
        "--init-from",
        metavar="NAME|FILE",
        help="start from this style, or none: a fraction of the steps will do (default: a bundled one for quick, else none)",
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

    preview = Path(arguments.output).with_suffix(".preview.png")
    weights = {"content": arguments.content_weight, "style": arguments.style_weight, "tv": arguments.tv_weight}
    recipe = _changed(get_recipe(arguments.recipe), arguments, weights)
    start = "none" if arguments.arch and not arguments.init_from else arguments.init_from
    init_from = base_file(start, recipe.name, arguments.width)
    with _shown(arguments.device, lambda image: save_image(preview, image)) as show:
        path = train_style(
            read_image(arguments.style_image).pixels, arguments.content, arguments.output, recipe=recipe, progress=show,
            preview_steps=100 if arguments.preview else 0,
            preview_image=read_image(arguments.preview).pixels if arguments.preview else None,
            init_from=init_from, **_settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0


def _train_upscaler(arguments: argparse.Namespace) -> int:
    from .manifest import names
    from .models import network_file
    from .upscale_recipes import upscale_recipe
    from .upscale_training import train_upscaler

    weights = {"content": arguments.content_weight, "pixel": arguments.pixel_weight}
    recipe = _changed(upscale_recipe(arguments.recipe, arguments.factor), arguments, weights)
    init_from = arguments.init_from
    if init_from in names("upscale"):
        init_from = network_file(init_from, "upscale")
    with _shown(arguments.device) as show:
        path = train_upscaler(
            arguments.photos, arguments.output, recipe=recipe, progress=show, validation=arguments.validation,
            validation_steps=500, init_from=init_from, **_settings(arguments),
        )  # fmt: skip
    if show is not None:
        print(path)
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    facts = {key: getattr(arguments, key) for key in ("title", "license", "credit") if getattr(arguments, key)}
    names_ = ("loss_weights", "seed", "half", "device", "precision")
    return {"facts": facts, **{name: getattr(arguments, name) for name in names_}}


def _changed(recipe: Any, arguments: argparse.Namespace, weights: dict[str, float | None]) -> Any:
    """The recipe with the numbers given on the command line in place of its own."""
    from .recipes import adjusted

    names = {field.name for field in dataclasses.fields(recipe)} - {"name", "weights"} | {"width"}
    return adjusted(recipe, weights, **{name: getattr(arguments, name, None) for name in names})


@contextmanager
def _shown(device: str, save_preview: Callable[[Any], Any] | None = None) -> Iterator[Callable[[Any], None] | None]:
    """What shows the progress, in the process group that there may be; None in all its processes but the first."""
    from .processes import is_first

    with process_group(device) as check, _bar(save_preview) as show:

        def shown(progress: Any) -> None:
            show(progress)
            check()

        yield shown if is_first() else None


@contextmanager
def _bar(save_preview: Callable[[Any], Any] | None = None) -> Iterator[Callable[[Any], None]]:
    """A bar of steps, with the objective and its parts by kind."""
    from tqdm import tqdm

    with tqdm(total=None, unit="step", file=sys.stderr, delay=1e-3) as bar:  # no bar where arguments are refused

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
