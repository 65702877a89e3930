"""Turn the exceptions of PyAV into one-line VideoErrors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from ..errors import VideoError, first_line
from ..optional import need


def load_av(what: str) -> ModuleType:
    """Return PyAV. Raise VideoError if it is not installed; ``what`` starts the message."""
    return need("av", "video", what, VideoError)


@contextlib.contextmanager
def explained(what: str, prefix: str = "") -> Iterator[None]:
    """Turn the exceptions of PyAV and of the disk into a VideoError that starts with ``what``.

    Put only calls of PyAV inside: other code's OSErrors would be reworded, too. ``prefix`` goes before texts of FFmpeg,
    which would not be understood alone.
    """
    try:
        yield
    except VideoError:
        raise
    except FileNotFoundError:
        raise VideoError(f"{what}: there is no such file") from None
    except OSError as error:
        raise VideoError(f"{what}: {error.strerror or prefix + first_line(error)}") from None
    except Exception as error:  # FFmpeg's errors have many types
        text = getattr(error, "strerror", None) or first_line(error)
        raise VideoError(f"{what}: {prefix}{text}") from None
