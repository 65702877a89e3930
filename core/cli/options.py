"""Options and helpers shared by several commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import errors
from ..files import check_writable, is_same_file
from ..progress import Progress
from .terminal import one_line, plain

HALF = "write float16: half the size; pictures differ by at most 1/255"


def prints(answer: Callable[[argparse.Namespace], str]) -> Callable[[argparse.Namespace], int]:
    """Return a function that runs a command whose ``answer`` is text, prints the text, and returns exit status 0."""

    def run(arguments: argparse.Namespace) -> int:
        print(plain(answer(arguments)))
        return 0

    return run


def add_device(command: Any) -> None:
    """Add ``--device``."""
    command.add_argument(
        "--device", default="auto", help="device to compute on: auto, cpu, cuda, mps, ... (default: %(default)s)"
    )


def add_json(command: Any) -> None:
    """Add ``--json``."""
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def add_loss_weights(command: Any) -> None:
    """Add ``--loss-weights`` for the loss network of a style recipe."""
    command.add_argument(
        "--loss-weights", metavar="FILE",
        help="weights of the recipe's loss network (default: the bundled ones for `standard` and `quick`, and those "
        "downloaded with `perceptual-style download vgg16` for `paper` and `authors`)",
    )  # fmt: skip


def add_overrides(command: Any) -> None:
    """Add ``--channel-order`` and ``--output-function``, which override what is usual in a file's family."""
    group = command.add_argument_group("facts that checkpoints do not record")
    group.add_argument(
        "--channel-order",
        choices=("rgb", "bgr"),
        help="overrides the usual order of the file's family (e.g. if reds and blues look swapped)",
    )
    group.add_argument(
        "--output-function",
        metavar="NAME",
        help="overrides the usual output function of the file's family: linear, sigmoid, tanh150, ...",
    )


def check_not_read(output: Path, *inputs: str | None) -> None:
    """Raise InputError if the output is one of the files that are read."""
    if any(each is not None and is_same_file(output, each) for each in inputs):
        raise errors.InputError(f"{output} is read and would be replaced; choose another output")


@contextmanager
def progress_bar(unit: str, **options: Any) -> Iterator[Callable[[Progress], None]]:
    """Yield a progress callback that draws a bar on stderr, once there is something to report."""
    with tqdm(total=None, unit=unit, delay=1e-3, **options) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            show_notes(progress)

        yield show


def show_notes(progress: Progress) -> None:
    """Print the notes of a progress report above the bar."""
    for note in progress.notes:
        tell(note)


def tell(text: str) -> None:
    """Print a line on stderr, above a bar if there is one."""
    tqdm.write(one_line(f"perceptual-style: {text}"), file=sys.stderr)


def output_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder to write into. Raises InputError if it is a file, OSError if it is not writable."""
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise errors.InputError(f"{output} is a file; expected a folder to write into")
    check_writable(output / "table.md")
    return output
