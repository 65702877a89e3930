"""How a process of the command ends. Imports no torch, because ``--help`` ends here, too."""

from __future__ import annotations

import os
import sys

_in_group = False


def joined_group() -> None:
    """Note that this process has joined a process group of torchrun's."""
    global _in_group

    _in_group = True


def leave(status: int) -> int:
    """Return the exit status of a process on its own; end a process of a group at once.

    In a group, other processes are ending, too. Closing the connections in order can then crash in gloo, and hang in NCCL
    if one of the processes was killed.
    """
    if _in_group:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
