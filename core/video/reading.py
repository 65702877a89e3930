"""Read the frames of a video upright and in order, and pass on the packets of its other streams.

A file is read once, from start to end, and only the current frame is held. Sound and subtitles are not decoded.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import InputError, VideoError
from .colors import Colors, Converter, to_tensor
from .failures import explained, load_av

if TYPE_CHECKING:
    import av

#: A path, or an open binary file that can seek
Source = str | Path | IO[bytes]

#: Suffixes of files that count as videos
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp",
    ".ogv", ".vob",
)  # fmt: skip
_DAMAGED = "the file is damaged or is not a video: "
_MICROSECONDS = 1_000_000  # FFmpeg's unit of a container's times
_KEPT_STREAMS = ("audio", "subtitle")


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        pixels: (1, 3, H, W) float32 RGB in [0, 1], upright, on the CPU.
        time: When it is shown, in units of the video's time base, from the start of the part that is read.
        duration: How long it is shown, in the same unit; 0 if the file does not say.
    """

    pixels: Tensor
    time: int
    duration: int


class VideoReader:
    """An open video, see `open_video`. Iterate over it once for its frames and for the packets of its other streams.

    Attributes:
        name: Name of the video in messages.
        container: PyAV's container.
        time_base: Unit of the frames' times in s.
        rate: Average frames per second.
        expected: Estimated number of frames, or None.
        height: Height of the upright frames in px.
        width: Width of the upright frames in px.
        pixel_aspect: Width of an upright pixel divided by its height.
        colors: How the video codes colors.
        others: Streams whose packets are passed on: sound and subtitles.
        damaged: Number of packets so far that could not be decoded. Their frames are missing.
        transparent: Whether a frame so far is transparent anywhere. Frames have no alpha.
    """

    def __init__(self, container: av.container.InputContainer, name: str, start: float, end: float | None) -> None:
        self.container, self.name = container, name
        stream: Any = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise VideoError(f"cannot read {name}: it has no video stream that can be decoded")
        self.stream = stream
        self.others = [each for each in container.streams if each.type in _KEPT_STREAMS]
        self.time_base = Fraction(stream.time_base or Fraction(1, 1000))
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.damaged = 0
        self.transparent = stream.metadata.get("alpha_mode") == "1"  # of WebM, whose alpha FFmpeg does not decode
        origin = Fraction(container.start_time or 0, _MICROSECONDS)  # players count from here, too
        self._start = origin + Fraction(start)
        self._end = None if end is None else origin + Fraction(end)
        self._is_cut = start > 0
        self.expected = self._estimate(start, end)
        if start:
            with contextlib.suppress(OSError, ValueError):  # without an index, everything before is decoded
                container.seek(round(self._start * _MICROSECONDS))
        self._last = -1
        self._items = self._read()
        self._ahead = self._up_to_first_frame()

    def __iter__(self) -> Iterator[Frame | av.Packet]:
        """Yield frames, and packets of `others`, in the order of the file. Packets' times are moved like the frames'.

        Raises:
            VideoError: If the file cannot be read any further.
        """
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._items

    def _estimate(self, start: float, end: float | None) -> int | None:
        if not start and end is None and self.stream.frames:
            return int(self.stream.frames)
        if self.container.duration is None:
            return None
        whole = self.container.duration / _MICROSECONDS
        return max(round((min(whole, math.inf if end is None else end) - start) * self.rate), 1)

    def _up_to_first_frame(self) -> list[Frame | av.Packet]:
        """Return all items up to the first frame, which is decoded to learn size and colors."""
        ahead = []
        for item in self._items:
            ahead.append(item)
            if isinstance(item, Frame):
                return ahead
        raise VideoError(f"cannot read {self.name}: it has no frames" + (" in this part" if self._is_cut else ""))

    def _read(self) -> Iterator[Frame | av.Packet]:
        unfinished = {self.stream, *(each for each in self.others if each.type == "audio")}
        packets = self.container.demux(self.stream, *self.others)
        while unfinished and (packet := self._next(packets)) is not None:
            if packet.stream is self.stream:
                for decoded in self._decoded(packet):
                    if self._is_after(decoded.pts, self.time_base):
                        unfinished.discard(self.stream)
                    elif not self._is_before(decoded.pts, self.time_base):
                        yield self._frame(decoded)
            elif packet.dts is None or packet.pts is None:
                continue  # the end of a stream
            elif self._is_after(packet.pts, packet.time_base):
                unfinished.discard(packet.stream)
            elif self._move(packet):
                yield packet

    def _next(self, packets: Iterator[av.Packet]) -> av.Packet | None:
        with explained(f"cannot read {self.name}", _DAMAGED):
            return next(packets, None)

    def _decoded(self, packet: av.Packet) -> list[Any]:
        try:
            return packet.decode()
        except ValueError:  # FFmpeg's InvalidDataError: other frames can be decoded
            self.damaged += 1
            return []

    def _move(self, packet: Any) -> bool:
        """Count the time of a packet from the start. Return whether the packet belongs to the part that is read."""
        start, lasts = round(self._start / packet.time_base), packet.duration or 0
        packet.pts, packet.dts = packet.pts - start, packet.dts - start
        if not self._is_cut or packet.pts >= 0:
            return True
        if packet.stream.type != "subtitle" or packet.pts + lasts <= 0:
            return False
        packet.duration, packet.pts, packet.dts = lasts + packet.pts, 0, 0
        return True

    def _is_before(self, time: int | None, time_base: Fraction) -> bool:
        return time is not None and self._is_cut and time < round(self._start / time_base)

    def _is_after(self, time: int | None, time_base: Fraction) -> bool:
        return time is not None and self._end is not None and time >= round(self._end / time_base)

    def _frame(self, decoded: Any) -> Frame:
        """Convert a decoded frame. Times always increase, even where the file has none or wrong ones."""
        if self._last < 0:
            self._look_at(decoded)
        step = max(round(1 / (self.rate * self.time_base)), 1)
        time = self._last + step if decoded.pts is None else decoded.pts - round(self._start / self.time_base)
        self._last = time = max(time, self._last + 1)
        with explained(f"cannot read {self.name}", _DAMAGED):
            array = self._converter.to_rgb(decoded, *self._size)
            self.transparent = self.transparent or is_transparent(decoded)
        return Frame(to_tensor(self._upright(array)), time, getattr(decoded, "duration", None) or step)

    def _look_at(self, decoded: Any) -> None:
        """Take size, orientation and colors from the first frame."""
        self._size = decoded.width, decoded.height
        self._transposed, self._flipped = orientation(decoded)
        self.width, self.height = self._size[::-1] if self._transposed else self._size
        aspect = Fraction(self.stream.sample_aspect_ratio or 1)
        self.pixel_aspect = 1 / aspect if self._transposed else aspect
        self.colors = Colors.of(decoded, self.stream)
        self._converter = Converter(self.colors, min(self._size))

    def _upright(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array = array.transpose(1, 0, 2) if self._transposed else array
        return np.flip(array, self._flipped)


@contextlib.contextmanager
def open_video(
    source: Source, *, start: float = 0.0, end: float | None = None, name: str | None = None
) -> Iterator[VideoReader]:
    """Open a video, or a part of it.

    Args:
        source: The video.
        start: Start of the part in s.
        end: End of the part in s, or None for the video's end.
        name: Name of the video in messages, by default its path.

    Raises:
        VideoError: If the file cannot be read, if it has no frames, or if PyAV is missing.
        InputError: If the part is empty or starts before 0.
    """
    if start < 0 or (end is not None and end <= start):
        raise InputError(f"expected a part of the video with 0 <= start < end, got {start:g} s to {end} s")
    is_path = isinstance(source, (str, Path))
    name = name or (str(source) if is_path else "the video")
    av = load_av(f"cannot read {name}")
    with explained(f"cannot read {name}", _DAMAGED):
        container = av.open(str(source) if is_path else source)
    try:
        yield VideoReader(container, name, start, end)
    finally:
        container.close()


def is_transparent(decoded: Any) -> bool:
    """Return whether a decoded frame, PyAV's, is transparent anywhere."""
    if not any(component.is_alpha for component in decoded.format.components):
        return False
    return bool(decoded.to_ndarray(format="rgba")[..., 3].min() < 255)


def orientation(decoded: Any) -> tuple[bool, tuple[int, ...]]:
    """Return how to turn a decoded frame upright: whether to transpose it, and then the axes to flip.

    Args:
        decoded: PyAV's frame, with FFmpeg's display matrix if it has one. Other angles than quarter turns are rounded.
    """
    matrix = decoded.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, ()
    right, down, _, right_of_y, down_of_y, *_ = struct.unpack("<9i", bytes(matrix)[:36])
    transposed = abs(right_of_y) > abs(right)
    x, y = (right_of_y, down) if transposed else (right, down_of_y)
    return transposed, tuple(axis for axis, sign in ((0, y), (1, x)) if sign < 0)
