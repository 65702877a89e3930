"""What the command may send to a terminal, and how a terminal or the system stops it. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Control characters but for tabs and the ends of lines, and those that turn the direction of a line around
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")


def plain(text: str) -> str:
    """Return a text with control characters shown as escapes. They may come from files, and would command a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """Return a text as `plain` does, with ends of lines shown as escapes, too: names of files may have them."""
    return plain(text.replace("\n", "\\n"))


def prepare_streams() -> None:
    """Let stdout and stderr write escapes for characters that their encoding lacks, instead of failing.

    A null device stands in for one that is closed. Otherwise the next file to be opened would take its number, and get
    what libraries print.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not every stream can change
            getattr(sys, name).reconfigure(errors="backslashreplace")


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
