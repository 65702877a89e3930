"""What the command may send to a terminal, and how a terminal or the system stops it. Imports no torch."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any, TextIO

# Control characters but for tabs and the ends of lines, and those that turn the direction of a line around
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")


def plain(text: str) -> str:
    """Return a text with control characters shown as escapes. They may come from files, and would command a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def encodable(*streams: TextIO | None) -> None:
    """Let streams write escapes for characters that their encoding lacks, instead of failing."""
    for stream in streams:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not every stream can change
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class Stopped(KeyboardInterrupt):
    """The request to stop by another signal than Ctrl-C.

    Attributes:
        signal: its number
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C in the ``with`` block: clean up, then end.

    Signals that are ignored, as SIGHUP is under nohup, stay ignored.
    """

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    changed = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, stop)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)
