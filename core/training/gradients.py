"""Gradients of a batch: in pieces where memory does not suffice for the whole, and added up over processes.

The losses are means over the photos of a batch, so that a piece counts by its share of them; what is a sum counts as it
is. Gradients are those of the whole batch to rounding, but for batch normalization, whose statistics are a piece's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

from torch import Tensor, nn

from ..devices import is_out_of_memory, release_memory
from ..errors import InputError, TrainingError, first_line
from . import processes

Losses = Callable[[Any, int], dict[str, Tensor]]


class Gradients:
    """Computes them for one batch after the other, into the network's parameters.

    losses: from (a piece of) a batch and the step to the parts of the objective; sums: those that are sums over its photos
    batch_size: photos of a whole batch, over all processes
    at_once: photos that go through the network together, halved each time that memory runs out

    Raises InputError when there are fewer photos than processes.
    """

    def __init__(self, network: nn.Module, losses: Losses, batch_size: int, sums: Set[str] = frozenset()) -> None:
        part, parts = processes.share()
        if batch_size < parts:
            raise InputError(
                f"the batch size is {batch_size}; expected at least one photo for each of {parts} processes"
            )
        self.network, self.losses, self.batch_size, self.sums = network, losses, batch_size, sums
        self.at_once = len(range(part, batch_size, parts))
        self._notes = [f"{parts} processes share the work{self._about_batch_norm()}"] if parts > 1 else []

    def __call__(self, batch: Any, step: int) -> tuple[dict[str, Tensor], list[str]]:
        """batch: this process's share of the whole batch, a tensor (N, ...) or a tuple of them

        Returns the parts of the objective for the whole batch, and notes for the user. Raises TrainingError when memory
        does not suffice for a single photo, or another process has ended.
        """
        notes, self._notes = self._notes, []
        while (parts := self._tried(batch, step)) is None:
            # Only here the failed attempt is gone, and with it what the error's traceback held in memory.
            self.at_once //= 2
            release_memory(next(self.network.parameters()).device)
            notes.append(
                f"out of memory; from here on photos go through the network {self.at_once} at a time, with the gradients "
                f"of {self.batch_size} added up as before{self._about_batch_norm()}"
            )
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        processes.add_up([*parts.values(), *gradients])
        return parts, notes

    def _tried(self, batch: Any, step: int) -> dict[str, Tensor] | None:
        """The parts of the objective; None when memory ran out and fewer photos at a time may help."""
        try:
            return self._accumulated(batch, step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.at_once == 1:
                raise TrainingError(
                    f"out of memory with a single photo at a time; try a smaller size or a narrower network ({first_line(error)})"
                ) from None
            return None

    def _accumulated(self, batch: Any, step: int) -> dict[str, Tensor]:
        self.network.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for piece, photos in _pieces(batch, self.at_once):
            weight = photos / self.batch_size
            parts = {k: v if k in self.sums else weight * v for k, v in self.losses(piece, step).items()}
            sum(parts.values()).backward()
            total = {name: value.detach() + total.get(name, 0) for name, value in parts.items()}
        return total

    def _about_batch_norm(self) -> str:
        has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules())
        return f"; batch normalization has the statistics of these {self.at_once} alone" if has_batch_norm else ""


def _pieces(batch: Any, at_once: int) -> Iterator[tuple[Any, int]]:
    """Pieces of a batch and how many photos each has."""
    if isinstance(batch, Tensor):
        yield from ((piece, len(piece)) for piece in batch.split(at_once))
    else:
        pieces = zip(*(part.split(at_once) for part in batch), strict=True)
        yield from ((piece, len(piece[0])) for piece in pieces)
