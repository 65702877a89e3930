"""What a device computes with: float32 in full, float64 where it has it, and no autocast where it knows none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return a context in which torch computes in ``dtype`` where that is safe, or in no other format for None.

    A back end without mixed precision (DirectML) raises when autocast is made, even to switch it off.
    """
    try:
        return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
    except (RuntimeError, AssertionError):
        return nullcontext()


@lru_cache(maxsize=16)
def has_float64(device: torch.device) -> bool:
    """Return whether the device computes in float64. Apple's GPUs, Intel Arc and DirectML do not."""
    if device.type in ("cpu", "cuda"):
        return True
    try:
        return bool((torch.ones(1, dtype=torch.float64, device=device) + 1).cpu() == 2)
    except (RuntimeError, TypeError, NotImplementedError, ImportError):
        return False


class _TensorFloat32:
    """The switch that lets cuDNN round the inputs of float32 convolutions to 10 bits (TF32), which is on by default.

    It is global, so the first of several threads turns it off, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._before: Any = None

    def acquire(self) -> None:
        with self._lock:
            if not self._users:
                self._before = self._value
                self._value = self._off
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._value = self._before

    @property
    def _holder(self) -> Any:
        # torch 2.9 and newer have a switch for each operation
        return getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)

    @property
    def _name(self) -> str:
        return "allow_tf32" if self._holder is torch.backends.cudnn else "fp32_precision"

    @property
    def _off(self) -> Any:
        return False if self._name == "allow_tf32" else "ieee"

    @property
    def _value(self) -> Any:
        return getattr(self._holder, self._name)

    @_value.setter
    def _value(self, value: Any) -> None:
        setattr(self._holder, self._name, value)


_tensor_float32 = _TensorFloat32()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 in full within this block: no autocast, and no TF32 in convolutions.

    Global settings are afterwards what they were.
    """
    with autocast(device, None):
        if device.type == "cpu":
            yield
            return
        _tensor_float32.acquire()
        try:
            yield
        finally:
            _tensor_float32.release()
