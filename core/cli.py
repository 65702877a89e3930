"""The command ``perceptual-style``: arguments in, core called, answers on stdout, everything else on stderr.

Exit status: 0 done, 2 wrong arguments or bad input (one line each on stderr), 130 cancelled.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import errors
from .cli_checkpoints import add_checkpoint_commands
from .cli_hub import add_hub_commands
from .cli_images import add_image_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the program's arguments) and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the answer has gone; Python must not try to write to it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (errors.PerceptualStyleError, MemoryError, OSError) as error:
        return _complain(str(error) or "out of memory")
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130


def _complain(message: str) -> int:
    print(f"perceptual-style: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"{message}; see {self.prog} --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="perceptual-style", description="Fast neural style transfer and perceptual super-resolution.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_hub_commands(commands, _printed)
    add_image_commands(commands)
    add_checkpoint_commands(commands, _printed)
    _add_train_style(commands)
    return parser


def _printed(answer: Callable[[argparse.Namespace], str]) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        print(answer(arguments))
        return 0

    return run


def _add_train_style(commands: Any) -> None:
    command = commands.add_parser(
        "train-style",
        help="learn a painting's style",
        description="Train a style network from one painting and a folder of photos. An interrupted training goes on "
        "where it was when the same command is given again.",
    )
    command.add_argument("style_image", metavar="STYLE_IMAGE", help="the painting")
    command.add_argument(
        "--content", required=True, metavar="DIR", help="folder of photos to learn on; a thousand is plenty"
    )
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the style to write, .safetensors")
    command.add_argument(
        "--loss-weights",
        metavar="FILE",
        help="weights of the recipe's loss network (default: those downloaded by name)",
    )
    command.add_argument("--recipe", default="standard", help="standard, paper or authors (default: %(default)s)")
    command.add_argument(
        "--init-from", metavar="NAME|FILE", help="start from this style: a fraction of the steps will do"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--half", action="store_true", help="write float16: half the size, the same picture to 1/255")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: %(default)s)")
    command.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="default: %(default)s")
    command.add_argument(
        "--preview", metavar="IMAGE", help="a photo to stylize every 100 steps, into FILE's .preview.png"
    )
    for fact in ("title", "license", "credit"):
        command.add_argument(f"--{fact}", help=f"the style's {fact}, kept in the file")
    numbers = command.add_argument_group("instead of the recipe's")
    for name, kind, text in (
        ("arch", str, "arch string with options"), ("loss-network", str, "name of the loss network"),
        ("steps", int, "number of steps"), ("batch-size", int, "photos a step"), ("size", int, "crop side, px"),
        ("style-size", int, "longest side of the painting, px: larger for larger strokes"),
        ("learning-rate", float, "Adam's rate"), ("content-weight", float, "factor on the content weights"),
        ("style-weight", float, "factor on the style weights"), ("tv-weight", float, "factor on the total variation weight"),
    ):  # fmt: skip
        numbers.add_argument(f"--{name}", type=kind, metavar=kind.__name__.upper(), help=text)
    command.set_defaults(run=_train_style)


def _train_style(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .images import read_image, save_image
    from .models import list_styles, network_file
    from .style_training import train_style

    init_from = arguments.init_from
    if init_from in list_styles():
        init_from = network_file(init_from, "style")
    facts = {key: getattr(arguments, key) for key in ("title", "license", "credit") if getattr(arguments, key)}
    preview = Path(arguments.output).with_suffix(".preview.png")
    with tqdm(total=None, unit="step", file=sys.stderr, delay=1e-3) as bar:  # no bar where arguments are refused

        def show(progress: Any) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            objective = sum(progress.losses.values())
            parts: dict[str, float] = {}
            for name, value in progress.losses.items():
                kind = name.split()[0]
                parts[kind] = parts.get(kind, 0.0) + value
            bar.set_postfix_str(
                f"objective {objective:.3f}, " + ", ".join(f"{k} {v:.3f}" for k, v in parts.items()), refresh=False
            )
            for note in progress.notes:
                tqdm.write(f"perceptual-style: {note}", file=sys.stderr)
            if progress.preview is not None:
                save_image(preview, progress.preview)

        path = train_style(
            read_image(arguments.style_image).pixels, arguments.content, arguments.output,
            loss_weights=arguments.loss_weights, recipe=_recipe(arguments), init_from=init_from, seed=arguments.seed,
            half=arguments.half, facts=facts, device=arguments.device, precision=arguments.precision, progress=show,
            preview_steps=100 if arguments.preview else 0,
            preview_image=read_image(arguments.preview).pixels if arguments.preview else None,
        )  # fmt: skip
    print(path)
    return 0


def _recipe(arguments: argparse.Namespace) -> Any:
    """The named recipe with the numbers given on the command line in place of its own."""
    from .recipes import get_recipe

    recipe = get_recipe(arguments.recipe)
    names = ("arch", "loss_network", "steps", "batch_size", "size", "style_size", "learning_rate")
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    weights = recipe.weights.scaled(arguments.content_weight, arguments.style_weight, arguments.tv_weight)
    return dataclasses.replace(recipe, weights=weights, **changes)
