"""The error types. Mistakes of the caller are ValueErrors whose message says what was expected, what came, what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any


class PerceptualStyleError(Exception):
    """Anything that this package rejects or cannot finish. ``str()`` is one line meant for the user."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Return what pickle needs. It may not find the class in ``__module__``, which is set below."""
        kind = type(self)
        if globals().get(kind.__name__) is not kind:  # a subclass from elsewhere
            return super().__reduce__()
        return _rebuilt, (kind.__name__, self.args), vars(self)


class InputError(PerceptualStyleError, ValueError):
    """An argument of the wrong kind, shape or range."""


class ArchError(InputError):
    """An arch string that cannot be parsed, or that describes no usable network."""


class ImageError(InputError):
    """An image file that cannot be read or written, or an image tensor of the wrong form."""


class VideoError(InputError):
    """A video file that cannot be read or written."""


class CheckpointError(InputError):
    """A file of weights that cannot be read, or that lacks the requested weights."""


class DiskFullError(CheckpointError):
    """A file of weights that does not fit on the disk."""


class NetworkError(InputError):
    """A network whose result has values that are nan or infinite."""


class HubError(CheckpointError):
    """A download from the Hugging Face Hub that failed, or weights that were never downloaded."""


class TrainingError(PerceptualStyleError):
    """A training run or an optimization that cannot continue.

    Either the objective is not finite, or the checkpoint belongs to another run.
    """


class Cancelled(PerceptualStyleError):
    """Raised by a progress callback to stop the work. A training run saves a checkpoint first."""


def _rebuilt(name: str, arguments: tuple[object, ...]) -> PerceptualStyleError:
    """Return an error that was pickled."""
    error: PerceptualStyleError = globals()[name](*arguments)
    return error


# ComfyUI imports this file under a name made from the installation's path, and shows the module of an error to the user.
for _kind in [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, PerceptualStyleError)]:
    _kind.__module__ = "perceptual_style.core.errors"
del _kind


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names for a message; only the first of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def shortened(text: str, length: int = 200) -> str:
    """Return text from a file as part of one line: without control characters, and at most ``length`` characters long."""
    start = "".join(c if c.isprintable() else " " for c in text[: 4 * length])
    line = " ".join(start.split())
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 3]}..."


def quoted(value: object, length: int = 60) -> str:
    """Return the representation of a value from a file, as part of one line. Nested values are abbreviated."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother, brief.maxlong = 3, length, length, length
    return shortened(brief.repr(value), length)
