"""Training steps as a CUDA graph: forward and backward are recorded once, then started with a single launch.

A step is hundreds of small operations. Launching them one by one takes longer than the work on small images. A recording
repeats the same operations on the same memory, and nothing of what Python did in between. So it is for objectives that do
the same at every step, and for batches of one shape. Everything else is computed as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..devices import release_memory
from ..engine.graph import recording
from ..errors import first_line
from .photos import on_device

T = TypeVar("T")

_WARM_UP = 3  # steps after which libraries have chosen their algorithms
_TOLERANCE = 0.05  # of losses and gradients; half precision and sums in any order differ by less than a tenth of it


def can_record(device: torch.device) -> bool:
    """Return whether a device has graphs."""
    return device.type == "cuda"


def record(run: Callable[[], T], device: torch.device) -> tuple[T, Callable[[], None]]:
    """Record what ``run`` does on a device, without doing it. The recording keeps the memory that ``run`` needs.

    Args:
        run: the work. It must not wait for the device.
        device: the device.

    Returns:
        What ``run`` returns, whose tensors have no values yet, and a function that does the work and fills them.

    Raises:
        RuntimeError: The work cannot be recorded, or not as much memory would be left for everything else.
    """
    release_memory(device)
    before = torch.cuda.memory_reserved(device)
    with recording(device) as graph:
        result = run()
    if torch.cuda.mem_get_info(device)[0] < torch.cuda.memory_reserved(device) - before:
        raise RuntimeError("there is not enough memory")

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return result, replay


class StepGraph:
    """The gradients of batches, from a recording once a few batches of one shape have been seen.

    The first replay is compared with the usual computation. If it differs, or the recording fails, there is none.

    Args:
        network: the network, whose parameters get the gradients.
        compute: computes the gradients of a whole batch at a step, and returns the parts of the objective.

    Attributes:
        note: for the user, if steps cannot be recorded. Empty otherwise.
    """

    def __init__(self, network: nn.Module, compute: Callable[[Any, int], dict[str, Tensor]]) -> None:
        self.network, self.compute = network, compute
        self.device = next(network.parameters()).device
        self.note = ""
        self._shapes: list[Any] = []
        self._seen = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: list[Tensor] = []
        self._parts: dict[str, Tensor] = {}
        self._gradients: list[Tensor | None] = []

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Compute the gradients of a batch, as ``compute`` does. The parts are valid until the next call."""
        shapes = [(tensor.shape, tensor.dtype) for tensor in _tensors(batch)]
        if self._replay is not None and shapes == self._shapes:
            self._fill(batch)
            self._replay()
            self._give(self._gradients)
            return dict(self._parts)
        parts = self.compute(batch, step)
        if self._replay is None and not self.note:
            self._seen = self._seen + 1 if shapes == self._shapes else 1
            self._shapes = shapes
            if self._seen > _WARM_UP:
                self._record(batch, step, parts)
        return parts

    def _record(self, batch: Any, step: int, parts: dict[str, Tensor]) -> None:
        """Record this step, whose gradients have just been computed."""
        gradients = self._taken()
        if not _are_finite([*parts.values(), *gradients]):
            return  # nothing to compare with; the next step will do
        buffers = [(buffer, buffer.detach().clone()) for buffer in self.network.buffers()]  # running statistics
        problem = ""
        try:
            self._inputs = [on_device(tensor, self.device).clone() for tensor in _tensors(batch)]
            inputs = tuple(self._inputs) if isinstance(batch, tuple) else self._inputs[0]
            self._parts, self._replay = record(lambda: self.compute(inputs, step), self.device)
            self._gradients = self._taken()
            self._replay()
            if not self._agrees(parts, gradients):
                problem = "its results differ"
        except RuntimeError as error:
            problem = first_line(error)
        self._give(gradients)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        if problem:  # outside of "except", whose error holds on to tensors
            self._replay, self.note = None, f"training steps are not recorded as a CUDA graph: {problem}"
            self._inputs, self._parts, self._gradients = [], {}, []
            release_memory(self.device)

    def _agrees(self, parts: dict[str, Tensor], gradients: list[Tensor | None]) -> bool:
        """Return whether the replay gave these losses and gradients."""
        if [each is None for each in gradients] != [each is None for each in self._gradients]:
            return False
        pairs = [(self._parts[name], value) for name, value in parts.items()]
        found, expected = (
            torch.cat([each.float().flatten() for each in some if each is not None])
            for some in (self._gradients, gradients)
        )
        pairs.append((found, expected))
        return all(bool((one - other).norm() <= _TOLERANCE * other.norm()) for one, other in pairs)

    def _fill(self, batch: Any) -> None:
        for target, tensor in zip(self._inputs, _tensors(batch), strict=True):
            target.copy_(on_device(tensor, self.device))

    def _taken(self) -> list[Tensor | None]:
        return [parameter.grad for parameter in self.network.parameters()]

    def _give(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient


def _tensors(batch: Any) -> tuple[Tensor, ...]:
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def _are_finite(tensors: list[Tensor | None]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor is not None)
