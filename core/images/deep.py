"""More than 8 bits per channel: what counts as white, and PNG colors, which Pillow reduces to 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import ImageError
from .tensors import row_bands

TOP = 65535  # the largest number of 16 bits


def is_deep_png(file: BinaryIO) -> bool:
    """Return whether a PNG file has colors, or grey with alpha, of 16 bits."""
    position = file.tell()
    file.seek(24)
    depth, kind = file.read(2)
    file.seek(position)
    return depth == 16 and kind in (2, 4, 6)


def read_deep_png(image: Image.Image, file: BinaryIO, orientation: int) -> Tensor | None:
    """Return the channels of a deep PNG file, upright: (C, H, W) float32 in [0, 1], C = 3 or 4.

    Return None for animations, and if the installed torchvision reads 8 bits only.
    """
    if getattr(image, "is_animated", False):
        return None
    file.seek(0)
    try:
        from torchvision.io import ImageReadMode, decode_png  # deprecated since 0.29

        found = decode_png(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    except (ImportError, RuntimeError):  # of a damaged file, Pillow says what is wrong
        return None
    if found.dtype == torch.uint8 or found.shape[0] not in (2, 3, 4):
        return None
    values = found.numpy().astype(np.float32)
    if len(values) == 2:
        values = np.concatenate([values[:1], values[:1], values])
    key = image.info.get("transparency")
    if len(values) == 3 and isinstance(key, tuple) and len(key) == 3:
        opaque = (values != np.array(key, np.float32)[:, None, None]).any(axis=0, keepdims=True)
        values = np.concatenate([values, opaque * np.float32(TOP)])
    return turned_upright(torch.from_numpy(values / np.float32(TOP)), orientation)


def full_scale(values: np.ndarray, bits: int, signed: bool = False) -> float:
    """Return the value that counts as 1.

    Integers are scaled by the range of their type; those of 32 bits count as 16 bits if all of them fit. Floats count as
    0..1, or as 0..255, 0..65535 or 0..maximum if they exceed that.

    Args:
        values: the numbers of an image
        bits: bits of each
        signed: whether integers have a sign

    Raises:
        ImageError: a value is nan or infinite.
    """
    top = float(values.max())
    if values.dtype.kind != "f":
        return TOP if bits == 32 and top <= TOP else 2 ** (bits - signed) - 1
    if not np.isfinite([top, values.min()]).all():
        raise ImageError("some of its values are nan or infinite")
    return next((limit for limit in (1, 255, TOP) if top <= limit), top)


def turned_upright(planes: Tensor, orientation: int) -> Tensor:
    """Return (C, H, W) turned upright, by its EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        planes = planes.transpose(1, 2)
    axes = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation, ())
    return planes.flip(axes).contiguous()


def deep_png(values: np.ndarray, options: dict) -> bytes:
    """Return a PNG file with 16 bits per channel.

    Args:
        values: (H, W, C) uint16, C = 3, or 4 with alpha
        options: Pillow's options for everything but the pixels
    """
    small = io.BytesIO()  # Pillow writes the other chunks, around a single pixel
    height, width, channels = values.shape
    Image.new("RGB" if channels == 3 else "RGBA", (1, 1)).save(small, "PNG", **options)
    content, position, result = small.getvalue(), 8, [small.getvalue()[:8]]
    while position < len(content):
        length, kind = struct.unpack(">I", content[position : position + 4])[0], content[position + 4 : position + 8]
        if kind == b"IHDR":
            result.append(_chunk(kind, struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)))
        elif kind == b"IDAT":
            result.append(_chunk(kind, _compressed(values)))
        else:
            result.append(content[position : position + length + 12])
        position += length + 12
    return b"".join(result)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _compressed(values: np.ndarray) -> bytes:
    """Return the compressed rows. Each byte is the difference from the same byte of the pixel to the left."""
    packer, parts = zlib.compressobj(6), []
    for rows in row_bands(*values.shape[:2]):
        band = values[rows].astype(">u2")
        data = band.reshape(len(band), -1).view(np.uint8).reshape(len(band), band.shape[1], -1)
        lines = np.empty((len(data), 1 + data[0].size), np.uint8)
        lines[:, 0] = 1
        lines[:, 1:] = np.diff(data, axis=1, prepend=np.uint8(0)).reshape(len(data), -1)
        parts.append(packer.compress(lines.tobytes()))
    return b"".join([*parts, packer.flush()])


def holds_numbers(image: Image.Image) -> bool:
    """Return whether an image is grey, of integers or floats with more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_deep(image: Image.Image) -> bool:
    """Return whether an image of numbers, or a TIFF file, has more than 8 bits per channel."""
    bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (8,))
    return holds_numbers(image) or max(bits) > 8
