"""Several processes that train one network: torch.distributed, where whoever started them has set it up.

Each takes its share of every batch, and the gradients are added up over all of them, so that their weights stay equal
and are those of a single process. The first one writes the files. In a single process nothing here does anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from ..devices import is_out_of_memory
from ..errors import TrainingError
from .photos import WHOLE, Share


def share() -> Share:
    """Which part of each batch is this process's, and of how many."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return WHOLE


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return share()[0] == 0


def are_several() -> bool:
    return share()[1] > 1


def add_up(tensors: Sequence[Tensor]) -> None:
    """Make each tensor its sum over all processes; their dtype and device are one."""
    if are_several():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _together():
            distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(total.view_as(tensor))


def take_from_first(tensors: Sequence[Tensor]) -> None:
    """Make each tensor that of the first process; their device is one."""
    if are_several():
        for tensor in tensors:
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            with _together():
                distributed.broadcast(values, 0)
            tensor.detach().copy_(values)


def check_same(text: str, device: torch.device) -> None:
    """Raise TrainingError unless all processes came here with the same text."""
    if are_several():
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        extremes = torch.tensor([digest, -digest], device=device)
        with _together():
            distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        if extremes[0] != -extremes[1]:
            raise TrainingError(
                "the processes of this training differ in their settings, photos or checkpoint; they must be started with "
                "the same command and see the same files"
            )


def wait_for_all(device: torch.device) -> None:
    """Return once all processes are here."""
    add_up([torch.zeros(1, device=device)])


@contextmanager
def _together() -> Iterator[None]:
    """Work in which all processes have to take part."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise TrainingError(
            "another process of this training has ended; give the same command again to go on from the last checkpoint"
        ) from error
