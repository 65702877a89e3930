"""Gradients of a batch, computed in pieces if memory is short, and added up over processes.

Losses that are means over the photos of a batch are weighted by a piece's share of the photos. Sums are not. The gradients
equal those of the whole batch up to rounding, except with batch normalization, which uses a piece's statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

from torch import Tensor, nn

from ..devices import is_out_of_memory, release_memory
from ..errors import InputError, TrainingError, first_line
from ..losses.functional import total
from . import processes
from .step_graph import StepGraph, can_record

Losses = Callable[[Any, int], dict[str, Tensor]]


class Gradients:
    """Computation of a network's gradients, batch by batch.

    Args:
        network: the network, whose parameters get the gradients.
        losses: maps a batch, or a piece of one, and the step to the parts of the objective. If it has an attribute
            ``is_fixed`` that is true, it does the same at every step and never waits for the device. Steps are then
            recorded where the device can (step_graph.py).
        batch_size: photos in a whole batch, over all processes.
        sums: names of the parts that are sums over the photos instead of means.

    Attributes:
        at_once: number of photos that pass through the network together. It is halved whenever memory runs out.

    Raises:
        InputError: The batch has fewer photos than there are processes.
    """

    def __init__(self, network: nn.Module, losses: Losses, batch_size: int, sums: Set[str] = frozenset()) -> None:
        part, parts = processes.share()
        if batch_size < parts:
            raise InputError(
                f"the batch size is {batch_size}; expected at least one photo for each of {parts} processes"
            )
        self.network, self.losses, self.batch_size, self.sums = network, losses, batch_size, sums
        self.at_once = len(range(part, batch_size, parts))
        self._graph: StepGraph | None = None
        if parts == 1 and getattr(losses, "is_fixed", False) and can_record(next(network.parameters()).device):
            self._graph = StepGraph(network, self._accumulate)
        self._notes = [f"{parts} processes share the work{self._about_batch_norm()}"] if parts > 1 else []

    def __call__(self, batch: Any, step: int) -> tuple[dict[str, Tensor], list[str]]:
        """Compute the gradients of a batch.

        Args:
            batch: this process's share of the batch, a tensor (N, ...) or a tuple of them.
            step: the step, passed to ``losses``.

        Returns:
            The parts of the objective for the whole batch, and notes for the user.

        Raises:
            TrainingError: Memory does not suffice for a single photo, or another process has ended.
        """
        notes, self._notes = self._notes, []
        while (parts := self._try(batch, step)) is None:
            # Memory can only be released here, after the error and the tensors in its traceback are gone.
            self.at_once //= 2
            self._graph = None
            release_memory(next(self.network.parameters()).device)
            notes.append(
                f"out of memory; from here on photos go through the network {self.at_once} at a time, with the gradients "
                f"of {self.batch_size} added up as before{self._about_batch_norm()}"
            )
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        processes.add_up([*parts.values(), *gradients])
        if self._graph is not None and self._graph.note:
            notes.append(self._graph.note)
            self._graph = None
        return parts, notes

    def _try(self, batch: Any, step: int) -> dict[str, Tensor] | None:
        """Return the parts of the objective, or None if memory ran out and smaller pieces may help."""
        try:
            # A batch in pieces would add its gradients to those of other pieces: it is never recorded.
            return self._accumulate(batch, step) if self._graph is None else self._graph(batch, step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.at_once == 1:
                raise TrainingError(
                    f"out of memory with a single photo at a time; try a smaller size or a narrower network ({first_line(error)})"
                ) from None
            return None

    def _accumulate(self, batch: Any, step: int) -> dict[str, Tensor]:
        self.network.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for piece, photos in _pieces(batch, self.at_once):
            weight = photos / self.batch_size
            parts = {k: v if k in self.sums else weight * v for k, v in self.losses(piece, step).items()}
            total(parts.values()).backward()
            totals = {name: value.detach() + totals.get(name, 0) for name, value in parts.items()}
        return totals

    def _about_batch_norm(self) -> str:
        has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules())
        return f"; batch normalization uses the statistics of these {self.at_once} alone" if has_batch_norm else ""


def _pieces(batch: Any, at_once: int) -> Iterator[tuple[Any, int]]:
    """Yield the pieces of a batch, each with its number of photos."""
    if isinstance(batch, Tensor):
        yield from ((piece, len(piece)) for piece in batch.split(at_once))
    else:
        pieces = zip(*(part.split(at_once) for part in batch), strict=True)
        yield from ((piece, len(piece[0])) for piece in pieces)
