"""Options that several commands have, each said once."""

from __future__ import annotations

from typing import Any


def add_device(command: Any) -> None:
    """Add ``--device``."""
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: %(default)s)")


def add_loss_weights(command: Any) -> None:
    """Add ``--loss-weights``, of a recipe's loss network."""
    command.add_argument(
        "--loss-weights",
        metavar="FILE",
        help="weights of the recipe's loss network (default: those downloaded by name)",
    )
