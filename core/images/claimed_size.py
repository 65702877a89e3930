"""Compare the size in the header of an image file with the rest of the file.

Pillow allocates the size in the header before it decodes. In a damaged file of a few pixels, that can be more than the
memory of the machine.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image

#: The most pixels that a byte of the file can hold, by Pillow's decoder: one bit for each pixel without compression, else
#: the longest run. A run of BMP can go up to 255 px to the right and 255 px up, in four bytes.
_MOST_PIXELS = {
    "raw": 8,
    "ppm": 1,
    "ppm_plain": 1,
    "qoi": 62,
    "tga_rle": 64,
    "packbits": 512,
    "bmp_rle": 255 * 255 // 4,
}
_CODE_STREAM = b"\xff\x4f\xff\x51"  # the markers of its start and of its size


def holds_its_size(image: Image.Image, file: BinaryIO) -> bool:
    """Return whether a file can hold as many pixels as its header says. The image is open, but not decoded."""
    if image.format == "JPEG2000":
        return _coded_size(file) == image.size
    most = max((_MOST_PIXELS.get(tile[0], 0) for tile in getattr(image, "tile", ())), default=0)
    return not most or image.width * image.height <= most * file.seek(0, io.SEEK_END)


def _coded_size(file: BinaryIO) -> tuple[int, int] | None:
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
