"""The size of the picture in a JPEG 2000 file, which a damaged header can contradict.

Pillow allocates the size that the header has (ISO 15444-1, I.5.3.1) before it decodes. For a few pixels, that can be more
than the memory of the machine.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

_CODE_STREAM = b"\xff\x4f\xff\x51"  # the markers of its start and of its size


def coded_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return width and height, px, by the marker of sizes (ISO 15444-1, A.5.1), or None if there is no code stream."""
    end, position = file.seek(0, io.SEEK_END), 0
    while position + 24 <= end:
        file.seek(position)
        head = file.read(24)
        if head.startswith(_CODE_STREAM):
            right, bottom, left, top = struct.unpack(">4I", head[8:])
            return right - left, bottom - top
        length, kind, long_length = struct.unpack(">I4sQ", head[:16])
        begin = 8
        if length == 1:
            length, begin = long_length, 16
        if kind != b"jp2c" and length < begin:  # 0: up to the end of the file
            break
        position += begin if kind == b"jp2c" else length
    return None
