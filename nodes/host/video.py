"""The host's videos: as files to read from, and made from files."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from comfy_api.latest import InputImpl

from ...core.errors import InputError, first_line
from .folders import temporary_folder


@dataclass(frozen=True)
class StreamSource:
    """A video to read from.

    Attributes:
        file: A path, or an open file.
        start: Start of the part that the host's Trim Video chose, in s.
        end: End of that part, or None for the video's end.
    """

    file: str | Path | IO[bytes]
    start: float = 0.0
    end: float | None = None


@contextlib.contextmanager
def stream_source(video: Any) -> Iterator[StreamSource]:
    """Yield a VIDEO as a file.

    Videos made of images have no file. Newer hosts encode them in memory, and for older ones a temporary file is written.

    Raises:
        InputError: If the host cannot turn the video into a file.
    """
    try:
        file = video.get_stream_source()
    except Exception:  # AttributeError, or whatever encoding raises
        file = None
    if file is not None:
        # Trim Video of newer hosts leaves the file alone.
        start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
        yield StreamSource(file, start, start + duration if duration else None)
        return
    path = temporary_video()
    try:
        _save(video, path)
        yield StreamSource(path)
    finally:
        path.unlink(missing_ok=True)


def _save(video: Any, path: Path) -> None:
    try:
        video.save_to(str(path))
    except Exception as error:
        raise InputError(
            f"this video cannot be read as a file ({first_line(error)}); use Get Video Components, Fast Stylize and Create "
            "Video instead"
        ) from None


def temporary_video() -> Path:
    """Return a path for a new video in the host's temporary folder."""
    return temporary_folder() / f"stylized-{secrets.token_hex(8)}.mp4"


def video_from_file(path: Path) -> Any:
    """Return a file as a VIDEO."""
    return InputImpl.VideoFromFile(str(path))
