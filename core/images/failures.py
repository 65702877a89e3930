"""Turn the exceptions of image decoders and encoders into one-line ImageErrors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from PIL import Image

from ..errors import ImageError, first_line
from .pillow import is_unsupported


@contextlib.contextmanager
def explained(what: str, prefix: str = "") -> Iterator[None]:
    """Turn any exception into an ImageError that starts with ``what``; for ``prefix`` see `reason`.

    Decoders and encoders raise nearly anything, and have no exception type of their own.
    """
    try:
        yield
    except Exception as error:
        raise ImageError(f"{what}: {reason(error, prefix)}") from None


def reason(error: Exception, prefix: str = "") -> str:
    """Return one line for the user. ``prefix`` goes before errors whose text alone would not be understood."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, MemoryError):
        return "not enough memory for its pixels"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels for its format; PNG, TIFF and JPEG can be larger"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if is_unsupported(error):
        return f"its kind is not supported ({first_line(error)}); save it as PNG, TIFF or JPEG with 8 bits per channel"
    return prefix + first_line(error)
