"""Waiting when the Hub asks for it, and callbacks whose exceptions must not be taken for errors of a download."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from ..progress import Progress, ProgressCallback

_LONGEST = 60.0  # seconds to wait in all, before giving up
_SHORTEST = 1.0  # for a server that asks to wait 0 s again and again

Result = TypeVar("Result")


class CallbackError(Exception):
    """An exception of the progress callback, which reaches the caller as it is.

    Attributes:
        error: The exception.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def guarded(progress: ProgressCallback | None) -> ProgressCallback | None:
    """Return the callback with its exceptions as CallbackError."""
    if progress is None:
        return None

    def call(state: Progress) -> None:
        try:
            progress(state)
        except Exception as error:
            raise CallbackError(error) from None

    return call


class Patience:
    """The time that a download may still wait for a busy server.

    Args:
        progress: Called about once a second while waiting, first with a note. It can stop the download.
        total: Bytes of the download, 0 if unknown.

    Attributes:
        done: Bytes received so far.
    """

    def __init__(self, progress: ProgressCallback | None = None, total: int = 0) -> None:
        self.progress, self.total, self.done = progress, max(total, 1), 0
        self.left = _LONGEST

    def call(self, ask: Callable[[], Result]) -> Result:
        """Return the result of ``ask``, which is called again after each wait."""
        while True:
            try:
                return ask()
            except Exception as error:
                if not self.waits(error):
                    raise

    def waits(self, error: Exception) -> bool:
        """Wait if the server refused a request for now and said for how long. Return whether to try again."""
        seconds = retry_after(error)
        if seconds is None or (seconds := max(seconds, _SHORTEST)) > self.left:
            return False
        self.left -= seconds
        notes: tuple[str, ...] = (f"the server is busy and asks to wait {math.ceil(seconds)} s",)
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if self.progress is not None:
                self.progress(Progress(min(self.done, self.total), self.total, notes=notes))
            notes = ()
            time.sleep(min(rest, 1.0))
        return True


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that a server asks to wait, or None if it asks for no wait or the time cannot be read."""
    answer: Any = getattr(error, "response", None)
    if getattr(answer, "status_code", None) not in (429, 503):
        return None
    text = str(answer.headers.get("Retry-After", "")).strip()
    try:
        if text.isdecimal():
            return float(text[:9])
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
