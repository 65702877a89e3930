"""Training of one network by several processes with torch.distributed, which whoever starts them sets up.

Each process handles its share of every batch, and all add up their gradients. Their weights therefore stay equal, and
equal to the weights that a single process would compute. Rank 0 writes the files. In a single process, these functions
do nothing.
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
    """Return this process's share of each batch: its rank and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return WHOLE


def is_first() -> bool:
    """Return whether this is rank 0, which writes the files."""
    return share()[0] == 0


def are_several() -> bool:
    """Return whether more than one process takes part."""
    return share()[1] > 1


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes. All must have the same dtype and device."""
    if are_several():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _together():
            distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(total.view_as(tensor))


def take_from_first(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by the one of rank 0. All must be on the same device."""
    if are_several():
        for tensor in tensors:
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            with _together():
                distributed.broadcast(values, 0)
            tensor.detach().copy_(values)


def check_same(text: str, device: torch.device) -> None:
    """Raise TrainingError unless all processes pass the same text."""
    if are_several():
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        extremes = torch.tensor([digest, -digest], device=device)
        with _together():
            distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        if extremes[0] != -extremes[1]:
            raise TrainingError(
                "the processes of this training run differ in their settings, photos or checkpoint; start all of them "
                "with the same command and the same files"
            )


def wait_for_all(device: torch.device) -> None:
    """Return once all processes have called this function."""
    add_up([torch.zeros(1, dtype=torch.float32, device=device)])


@contextmanager
def _together() -> Iterator[None]:
    """Raise TrainingError if a process does not take part in this block's work."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise TrainingError(
            "another process of this training run has ended; run the same command again to resume from the last checkpoint"
        ) from error
