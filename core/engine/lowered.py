"""Lowered networks, kept as long as their weights stay as they are: lowering takes longer than a frame on a GPU."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..network.transform_net import TransformNet
from .lowering import Operation, Window, lower


@dataclass
class Lowered:
    """The operations of a network, and what becomes known of them.

    Attributes:
        operations: as `lower` returns them
        state: what identifies the weights that they were made of
        in_float16: whether all values stay in the range of float16; None until `range_check` has looked
        weights: weights in other number formats, see `weight`
    """

    operations: list[Operation]
    state: Any
    in_float16: bool | None = None
    weights: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict)

    def weight(self, index: int, dtype: torch.dtype) -> Tensor:
        """Return the weight of the convolution at an index in a number format, channels last. It is converted once."""
        key = index, dtype
        if key not in self.weights:
            window = self.operations[index]
            if not isinstance(window, Window):
                raise TypeError(f"expected a convolution, got {type(window).__name__}")
            self.weights[key] = window.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        return self.weights[key]


_known: weakref.WeakKeyDictionary[TransformNet, Lowered] = weakref.WeakKeyDictionary()


def lowered(network: TransformNet) -> Lowered:
    """Return the lowered network: the last one as long as spec, weights and device are the same, else a new one."""
    state = network.spec, [_identity(tensor) for tensor in chain(network.parameters(), network.buffers())]
    found = _known.get(network)
    if found is None or found.state != state:
        found = _known[network] = Lowered(lower(network), state)
    return found


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Return what changes when a tensor is replaced, moved, or written to."""
    version = -1 if tensor.is_inference() else tensor._version  # inference tensors count no versions
    place = tensor.data_ptr() if type(tensor) in (Tensor, nn.Parameter) else 0  # others may have no memory
    return id(tensor), place, version, tensor.device
