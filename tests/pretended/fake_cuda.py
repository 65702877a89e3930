"""A pretended CUDA device without numbers: fake tensors, and a record of what would run there.

Not together with the device of pretended/device.py in one process, as a registered back end breaks fake CUDA tensors.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_NO_LAUNCH = {
    "detach", "alias", "lift_fresh", "empty", "new_empty", "empty_like", "empty_strided", "set_", "resize_", "_unsafe_view",
}  # fmt: skip
_GRANULE = 512  # bytes; torch rounds allocations up to a multiple


class Recorder(TorchDispatchMode):
    """Records what runs on the device within a block.

    Args:
        limit: bytes of the device's memory. An operation that needs more raises torch's out of memory error.

    Attributes:
        launches: kernels by operation, copies to and from the host included
        waits: operations for which the host would wait
        peak: largest number of bytes held at once
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense":  # a number that the host asks for: some number
            self.waits[name] += args[0].device.type == "cuda"
            return _some(args[0].dtype)
        result = func(*args, **kwargs)
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)] + results
        if not func.is_view:
            for tensor in results:
                self._hold(tensor)
        on_device = any(tensor.device.type == "cuda" for tensor in tensors)
        if on_device and not func.is_view and name not in _NO_LAUNCH and any(each.numel() for each in results):
            self.launches[name] += 1
            if name in ("_to_copy", "copy_"):
                source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
                waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
                self.waits[name] += source.device != target.device and source.dim() > 0 and waits
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type != "cuda" or key in self._known:
            return
        size = -(-storage.nbytes() // _GRANULE) * _GRANULE
        if self.limit is not None and self.held + size > self.limit:
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / 2**20:.0f} MiB")
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def _some(dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Make ``device="cuda"`` work in this block, with tensors that have no numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def put(network: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Move parameters and buffers of a network to the device, and return it. ``to`` the device then changes nothing."""
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    there = mode.from_tensor(tensor.detach()).to("cuda")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    tensors[name] = nn.Parameter(there, requires_grad=tensor.requires_grad) if is_parameter else there
    network.to = lambda *arguments, **options: network
    return network
