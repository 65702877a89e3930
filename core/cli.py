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
from .cli_checkpoints import add_checkpoint_commands, add_overrides
from .cli_evaluate import add_evaluate_command
from .cli_hub import add_hub_commands


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
    parser = _Parser(prog="perceptual-style", description="Fast neural style transfer.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_hub_commands(commands, _printed)
    command = commands.add_parser("stylize", help="give photos a painting's style")
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="for one photo a file (its suffix chooses the format) or a folder, for several a folder",
    )  # fmt: skip
    command.add_argument(
        "--style", default="starry_night", metavar="NAME|FILE", help="a style by name or a file (default: %(default)s)"
    )
    command.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="default: %(default)s"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: %(default)s)")
    command.add_argument(
        "--memory", type=_size, metavar="SIZE", help="memory to work in beside the photo itself, as 800M or 2G"
    )
    command.add_argument("-v", "--verbose", action="store_true", help="say what each photo will take")
    add_overrides(command)
    command.set_defaults(run=_stylize)

    add_checkpoint_commands(commands, _printed)
    _add_train_style(commands)
    add_evaluate_command(commands, _printed)
    return parser


def _size(text: str) -> int:
    """Bytes from a number with K, M or G."""
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 0)
    try:
        size = int(float(text[:-1]) * unit) if unit else int(text)
    except ValueError:
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected something like 800M or 2G")
    return size


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


def _stylize(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .devices import pick_device
    from .images import find_images, read_image, save_image
    from .models import load_style

    model = load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)
    device = pick_device(arguments.device)
    jobs = _plan(arguments.photos, Path(arguments.output), find_images)
    failed = 0
    for photo, target in tqdm(jobs, unit="photo", disable=len(jobs) == 1, file=sys.stderr):
        try:
            image = read_image(photo)
            if arguments.verbose:
                height, width = image.pixels.shape[-2:]
                need = model.working_bytes(height, width, device, arguments.precision, arguments.memory) / 2**20
                tqdm.write(f"{photo}: {width}x{height} px, working in {need:,.0f} MiB", file=sys.stderr)
            pixels = image.pixels.to(device)
            pixels = model.stylize(pixels, precision=arguments.precision, memory=arguments.memory).cpu()
            warning = save_image(target, pixels, image.alpha, image.icc_profile, image.exif)
            if warning:
                tqdm.write(f"perceptual-style: {warning}", file=sys.stderr)
        except errors.PerceptualStyleError as error:
            failed += 1
            tqdm.write(f"perceptual-style: {error}", file=sys.stderr)
    return 2 if failed else 0


def _plan(sources: Sequence[str], output: Path, find_images: Any) -> list[tuple[Path, Path]]:
    """Pairs of photo and target. A photo in a folder keeps its path below that folder."""
    single = len(sources) == 1 and not Path(sources[0]).is_dir()
    if single and output.suffix and not output.is_dir():
        jobs = [(Path(sources[0]), output)]
    elif output.suffix and output.is_file():
        raise errors.InputError(
            f"{output} is a file; with more than one photo, or a folder, give a folder as the output"
        )
    else:
        jobs = []
        for source in map(Path, sources):
            for photo in find_images([source]):
                below = photo.relative_to(source) if source.is_dir() else Path(photo.name)
                jobs.append((photo, output / below))
    photos = {photo.resolve() for photo, _ in jobs}
    targets: dict[Path, Path] = {}
    for photo, target in jobs:
        if target.resolve() in photos or (target.exists() and target.samefile(photo)):
            raise errors.InputError(
                f"{target} is one of the photos itself and would be replaced; choose another output"
            )
        if targets.setdefault(target, photo) != photo:
            raise errors.InputError(
                f"{photo} and {targets[target]} would both be written to {target}; stylize them separately"
            )
    return jobs


def _train_style(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .images import read_image, save_image
    from .models import list_styles, style_file
    from .trainer import train_style

    init_from = arguments.init_from
    if init_from in list_styles():
        init_from = style_file(init_from)
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
