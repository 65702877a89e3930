"""The command ``perceptual-style``: runs core with the given options. Answers go to stdout, everything else to stderr.

Exit status: 0 done, 2 wrong arguments or bad input (one line each on stderr), 130 cancelled (143 by SIGTERM,
129 by SIGHUP).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import errors
from ..version import version
from .ending import leave
from .terminal import plain, prepare_streams, stopped_by_signals

#: Name of each command: its module, which is imported only when the command runs, and its line in ``--help``.
COMMANDS = {
    "list": ("list_networks", "list networks: bundled, downloaded, and available for download"),
    "download": ("download", "download a network by name and verify it"),
    "stylize": ("stylize", "repaint photos or videos in the style of a painting"),
    "sheet": ("sheet", "show one photo in all styles, with their names"),
    "upscale": ("upscale", "enlarge photos or videos two, four or eight times"),
    "describe": ("describe", "show what a file of weights contains, including other programs' files"),
    "convert": ("convert", "convert another program's checkpoint to this project's format"),
    "export": ("export", "export networks for other programs, or as a web page"),
    "push": ("push", "upload a style to the Hugging Face Hub, with a model card"),
    "predict-style": ("predict_style", "find the style of any painting at once, and save it"),
    "train-style": ("train_style", "train a network on the style of a painting"),
    "train-predictor": ("train_predictor", "train a network that finds the style of any painting at once"),
    "train-upscaler": ("train_upscaler", "train a network to enlarge photos"),
    "optimize": ("optimize", "stylize one photo by optimizing its pixels: slow, needs no trained style"),
    "evaluate": ("evaluate", "measure styles and upscalers as the papers do"),
}


_TEXTS = ("title", "license", "credit", "names")  # options that may be empty


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name. If it is None, the program's own arguments are used.

    Returns:
        The exit status. A process of a group that torchrun started ends here instead of returning.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    prepare_streams()
    with stopped_by_signals(), warnings.catch_warnings():
        # What is wrong in a file is said in our own line.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        return leave(_run(given))


def _run(given: Sequence[str]) -> int:
    try:
        # Most commands import torch here, for seconds in which users change their minds.
        arguments = _parser(given[0] if given else "").parse_args(given)
        _check_names(arguments)
        status: int = arguments.run(arguments)
        _flush()
        return status
    except BrokenPipeError:  # the reader of the answer has gone
        with contextlib.suppress(OSError):
            _flush()
        return 0
    except (errors.PerceptualStyleError, MemoryError, OSError) as error:
        with contextlib.suppress(OSError):
            _flush()
        return _complain(str(error) or "out of memory")
    except RuntimeError as error:
        from ..devices import is_out_of_memory  # imports torch, which a command that got here has imported already

        if not is_out_of_memory(error):
            raise
        return _complain(f"out of memory: {error}")
    except KeyboardInterrupt as interrupt:
        print("cancelled", file=sys.stderr)
        return 128 + getattr(interrupt, "signal", 2)


def _flush() -> None:
    """Write out the answer. If that fails, Python must not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _complain(message: str) -> int:
    print(plain(f"perceptual-style: {' '.join(message.split())}"), file=sys.stderr)
    return 2


def _check_names(arguments: argparse.Namespace) -> None:
    """Raise InputError for an empty name, which would stand for the current folder."""
    for name, value in vars(arguments).items():
        if name not in _TEXTS and (value == "" or (isinstance(value, list) and "" in value)):
            raise errors.InputError(f"{name.replace('_', ' ')} is empty; expected a name")


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"{message}; see {self.prog} --help"))


class _PrintVersion(argparse.Action):
    """Print the version and exit. Unlike argparse's own action, look it up only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"{parser.prog} {version()}")
        parser.exit()


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Return a parser that knows the names of all commands and the options of the chosen one."""
    parser = _Parser(
        prog="perceptual-style",
        description="Fast neural style transfer and perceptual super-resolution.",
        epilog="`perceptual-style COMMAND --help` lists the options of a command.",
    )
    parser.add_argument("--version", action=_PrintVersion, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line)
        if name == chosen:
            importlib.import_module(f".{module}", __name__).add_arguments(command)
    return parser
