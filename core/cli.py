"""The command ``perceptual-style``: arguments in, core called, answers on stdout, everything else on stderr.

Exit status: 0 done, 2 wrong arguments or bad input (one line each on stderr), 130 cancelled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import errors
from .cli_checkpoints import add_checkpoint_commands
from .cli_evaluate import add_evaluate_command
from .cli_hub import add_hub_commands
from .cli_images import add_image_commands
from .cli_optimize import add_optimize_command
from .cli_processes import leave
from .cli_training import add_training_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the program's arguments) and return its exit status."""
    return leave(_run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the answer has gone; Python must not try to write to it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (errors.PerceptualStyleError, MemoryError, OSError) as error:
        return _complain(str(error) or "out of memory")
    except RuntimeError as error:
        from .devices import is_out_of_memory

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
    """Complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"{message}; see {self.prog} --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="perceptual-style", description="Fast neural style transfer and perceptual super-resolution.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_hub_commands(commands, _printed)
    add_image_commands(commands)
    add_checkpoint_commands(commands, _printed)
    add_training_commands(commands)
    add_optimize_command(commands)
    add_evaluate_command(commands, _printed)
    return parser


def _printed(answer: Callable[[argparse.Namespace], str]) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        print(answer(arguments))
        return 0

    return run


if __name__ == "__main__":  # as torchrun -m starts it
    sys.exit(main())
