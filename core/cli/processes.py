"""Several processes of the command, started by torchrun: the process group in which core trains."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ..errors import InputError
from ..training.processes import is_first
from .ending import joined_group


@contextmanager
def process_group(device: str) -> Iterator[Callable[[], None]]:
    """Join the group of torchrun's processes, each with a GPU of its own if there are any.

    A process that torchrun did not start joins nothing.

    Args:
        device: What ``--device`` says.

    Yields:
        A function for rank 0 to call after every step. If that process was asked to stop (SIGINT, SIGTERM), it raises
        KeyboardInterrupt there, and the checkpoint is then written undisturbed. The other processes stop at once.

    Raises:
        InputError: If there are more processes than GPUs.
    """
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
    joined_group()
    asked_to_stop: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked_to_stop.append(number)

    def check() -> None:
        if asked_to_stop:
            raise KeyboardInterrupt

    if is_first():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)
    else:  # Python's handlers would wait for a collective operation to end
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield check
