"""What torchrun starts: several processes of the command, which become the process group that core works in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ..errors import InputError
from ..training.processes import is_first

_joined = False


@contextmanager
def process_group(device: str) -> Iterator[Callable[[], None]]:
    """The group of torchrun's processes, each with a GPU of its own where there are any; nothing for a process alone.

    Yields what to call after every step of the first process: whoever is asked to stop, it stops there, after which the
    checkpoint is written undisturbed. The other processes stop at once.
    """
    global _joined

    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield lambda: None
        return
    on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu:
        local, gpus = distributed.get_node_local_rank(), torch.cuda.device_count()
        if local >= gpus:
            raise InputError(f"there are more processes than GPUs; expected --nproc-per-node={gpus} or --device cpu")
        torch.cuda.set_device(local)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    _joined = True
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    if is_first():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)
    yield check


def leave(status: int) -> int:
    """The exit status given, for a process alone. One of a group ends here: while others end, too, taking the connections
    down in order can crash in gloo, and hang in NCCL where one of them was killed."""
    if _joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
