"""The command ``perceptual-style``: options in, core called, answers on stdout, everything else on stderr.

Exit status: 0 done, 2 wrong arguments or bad input (one line each on stderr), 130 cancelled.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import errors

#: Name of each command: its module, which is imported only when the command runs, and its line in ``--help``.
COMMANDS = {
    "list": ("list_networks", "list networks: bundled, downloaded, and available for download"),
    "download": ("download", "download a network by name and verify it"),
    "stylize": ("stylize", "give photos a painting's style"),
    "upscale": ("upscale", "enlarge photos two, four or eight times"),
    "describe": ("describe", "say what a file of weights holds, even another program's"),
    "convert": ("convert", "write another program's checkpoint in this project's format"),
    "train-style": ("train_style", "learn a painting's style"),
    "train-upscaler": ("train_upscaler", "learn to enlarge photos"),
    "optimize": ("optimize", "optimize the pixels of one image for a painting's style: slow, no network"),
    "evaluate": ("evaluate", "measure networks as the papers do"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the program's arguments) and return its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    status = _run(_parser(given[0] if given else "").parse_args(given))
    leave = getattr(sys.modules.get(f"{__name__}.processes"), "leave", None)  # only training commands import it
    return leave(status) if leave else status


def _run(arguments: argparse.Namespace) -> int:
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the answer has gone; Python must not try to write to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (errors.PerceptualStyleError, MemoryError, OSError) as error:
        return _complain(str(error) or "out of memory")
    except RuntimeError as error:
        from ..devices import is_out_of_memory  # imports torch, which a command that got here has imported already

        if not is_out_of_memory(error):
            raise
        return _complain(f"out of memory: {error}")
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130


def _complain(message: str) -> int:
    print(f"perceptual-style: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"{message}; see {self.prog} --help"))


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Return a parser that knows the names of all commands and the options of the chosen one."""
    parser = _Parser(prog="perceptual-style", description="Fast neural style transfer and perceptual super-resolution.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line)
        if name == chosen:
            importlib.import_module(f".{module}", __name__).add_arguments(command)
    return parser
