"""What the training commands share: options, the recipe's changes, and showing progress."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from ..hub.manifest import names
from ..models.loading import network_file
from ..training.processes import is_first
from ..training.style_recipes import adjusted
from .options import add_device, add_loss_weights
from .processes import process_group


def add_training_arguments(command: Any, numbers: tuple[tuple[str, type, str], ...]) -> None:
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


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    facts = {key: getattr(arguments, key) for key in ("title", "license", "credit") if getattr(arguments, key)}
    names_ = ("loss_weights", "seed", "half", "device", "precision")
    return {"facts": facts, **{name: getattr(arguments, name) for name in names_}}


def file_of(name: str | None, task: str) -> str | None:
    """The file of a network with a name, keeping the choice of a style in it; anything else as it is."""
    if name is None:
        return None
    base, mark, style = name.partition("#")
    return f"{network_file(base, task)}{mark}{style}" if base in names(task) else name


def changed(recipe: Any, arguments: argparse.Namespace, weights: dict[str, float | None]) -> Any:
    """The recipe with the numbers given on the command line in place of its own."""
    names = {field.name for field in dataclasses.fields(recipe)} - {"name", "weights"} | {"width"}
    return adjusted(recipe, weights, **{name: getattr(arguments, name, None) for name in names})


@contextmanager
def shown(device: str, save_preview: Callable[[Any], Any] | None = None) -> Iterator[Callable[[Any], None] | None]:
    """What shows the progress, in the process group that there may be; None in all its processes but the first."""

    with process_group(device) as check, step_bar(save_preview) as show:

        def show_and_check(progress: Any) -> None:
            show(progress)
            check()

        yield show_and_check if is_first() else None


@contextmanager
def step_bar(save_preview: Callable[[Any], Any] | None = None, unit: str = "step") -> Iterator[Callable[[Any], None]]:
    """A bar of steps, with the objective and its parts by kind."""

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
