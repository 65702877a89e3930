"""Options of the training commands, changes to a recipe, and the progress of a training run."""

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
from .options import HALF, add_device, show_notes
from .processes import process_group


def add_training_arguments(command: Any) -> Any:
    """Add the options that both training commands have.

    Returns:
        The argument group for changes to the recipe, to which a command adds its own.
    """
    command.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the network file to write, ending in .safetensors"
    )
    command.add_argument("--seed", type=int, default=0, help="random seed of the training run (default: %(default)s)")
    command.add_argument("--half", action="store_true", help=HALF)
    add_device(command)
    command.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16"),
        help="number format to train with; auto is bf16 if the hardware has it (default: %(default)s)",
    )
    for fact in ("title", "license", "credit"):
        command.add_argument(f"--{fact}", metavar="TEXT", help=f"the network's {fact}, stored in the file")
    changes = command.add_argument_group("changes to the recipe")
    changes.add_argument("--arch", help="architecture, e.g. c9s1-16,d32,... (see core/network/arch.py)")
    changes.add_argument("--loss-network", metavar="NAME", help="name of the loss network")
    changes.add_argument("--steps", type=int, metavar="N", help="number of steps")
    changes.add_argument("--batch-size", type=int, metavar="N", help="photos in each step")
    changes.add_argument("--learning-rate", type=float, metavar="X", help="learning rate of the optimizer")
    changes.add_argument("--content-weight", type=float, metavar="X", help="factor on the content weight")
    return changes


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that both training functions take."""
    facts = {key: getattr(arguments, key) for key in ("title", "license", "credit") if getattr(arguments, key)}
    shared = ("loss_weights", "seed", "half", "device", "precision")
    return {"facts": facts, **{name: getattr(arguments, name) for name in shared}}


def file_of(name: str | None, task: str) -> str | None:
    """Return the file for a network's name, with any ``#STYLE`` kept. Return anything else unchanged."""
    if name is None:
        return None
    base, mark, style = name.partition("#")
    return f"{network_file(base, task)}{mark}{style}" if base in names(task) else name


def changed(recipe: Any, arguments: argparse.Namespace, weights: dict[str, float | None]) -> Any:
    """Return the recipe with the numbers from the command line.

    Args:
        recipe: A style recipe or an upscale recipe.
        arguments: Parsed options. Those that are None leave the recipe's number unchanged.
        weights: Factors on the weights of the objective by group.

    Raises:
        InputError: If a number is out of range.
    """
    names = {field.name for field in dataclasses.fields(recipe)} - {"name", "weights"} | {"width"}
    return adjusted(recipe, weights, **{name: getattr(arguments, name, None) for name in names})


@contextmanager
def shown(device: str, save_preview: Callable[[Any], Any] | None = None) -> Iterator[Callable[[Any], None] | None]:
    """Join torchrun's process group, if any. Yield the progress callback on rank 0 and None on other ranks."""
    with process_group(device) as check, step_bar(save_preview) as show:

        def show_and_check(progress: Any) -> None:
            show(progress)
            check()

        yield show_and_check if is_first() else None


@contextmanager
def step_bar(save_preview: Callable[[Any], Any] | None = None, unit: str = "step") -> Iterator[Callable[[Any], None]]:
    """Yield a progress callback that draws a bar of steps with the objective and its parts."""
    with tqdm(total=None, unit=unit, file=sys.stderr, delay=1e-3) as bar:  # no bar if arguments are rejected

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
            show_notes(progress)
            if progress.preview is not None and save_preview is not None:
                save_preview(progress.preview)

        yield show
