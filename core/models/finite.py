"""Check that a network's results are finite, on a GPU without making it wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ..errors import NetworkError

_Check = tuple[Tensor, "torch.cuda.Event", str]
_open: ContextVar[list[_Check] | None] = ContextVar("open checks", default=None)


def check_finite(result: Tensor, message: str) -> None:
    """Raise NetworkError with a message if an image has nan or infinite values.

    Within `checked_later`, results of a CUDA device are looked at when the next one is there, or at the end of the block.
    """
    low, high = result.aminmax()
    is_finite = low.isfinite() & high.isfinite()
    checks = _open.get()
    if checks is None or result.device.type != "cuda":
        _raise_unless(bool(is_finite), message)
        return
    flag = is_finite.to("cpu", non_blocking=True)  # in pinned memory
    ended = torch.cuda.Event()
    ended.record(torch.cuda.current_stream(result.device))
    checks.append((flag, ended, message))
    while len(checks) > 1:
        _look_at(checks.pop(0))


@contextmanager
def checked_later() -> Iterator[None]:
    """Check results within this block only when the device has computed them; at the end, all are checked."""
    if _open.get() is not None:
        yield
        return
    checks: list[_Check] = []
    token = _open.set(checks)
    try:
        yield
        for check in checks:
            _look_at(check)
    finally:
        _open.reset(token)


def _look_at(check: _Check) -> None:
    flag, ended, message = check
    ended.synchronize()
    _raise_unless(bool(flag), message)


def _raise_unless(is_finite: bool, message: str) -> None:
    if not is_finite:
        raise NetworkError(message)
