"""A copy of everything that training steps change, to go back to if one of them turns out to have failed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class Backup:
    """A copy of a network, its optimizer and the moving average of its weights, where they are.

    Args:
        network: the network
        optimizer: its optimizer
        average: the average of its weights by name, or None
    """

    @torch.no_grad()
    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, average: Mapping[str, Tensor] | None
    ) -> None:
        self.optimizer = optimizer
        self._tensors = [*chain(network.parameters(), network.buffers()), *(average or {}).values()]
        self._values = [tensor.detach().clone() for tensor in self._tensors]
        self._state = {key: _copied(values) for key, values in optimizer.state.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Set everything to what it was. The backup can be restored once."""
        for tensor, value in zip(self._tensors, self._values, strict=True):
            tensor.copy_(value)
        self.optimizer.state.clear()
        self.optimizer.state.update(self._state)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}
