"""TIFF colors with more than 8 bits per channel, which Pillow reduces to 8 or rejects.

Integers of 16 bits are read and written with Pillow, byte by byte. For floats, 32 bits and separate planes, tifffile is
asked where it is installed.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import ImageError
from .pillow import open_image
from .tensors import row_bands

_TOP = 65535
_OTHER_BYTE = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}
_WIDTH, _BITS, _FORMAT = ExifTags.Base.ImageWidth, ExifTags.Base.BitsPerSample, ExifTags.Base.SampleFormat
_ORIENTATION, _ICC_PROFILE, _XMP = ExifTags.Base.Orientation, 34675, 700


def has_tifffile() -> bool:
    """Return whether tifffile is installed."""
    return importlib.util.find_spec("tifffile") is not None


def is_deep_color(image: Image.Image) -> bool:
    """Return whether an opened page is a TIFF's with colors of more than 8 bits per channel."""
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    return len(bits) >= 3 and max(bits) > 8


def open_deep_tiff(file: BinaryIO) -> Image.Image | None:
    """Return an empty image with size, profile and orientation of a TIFF file that Pillow rejects, or None.

    `read_deep_tiff` reads its colors.
    """
    page = _page(file, 0)
    if page is None or page.photometric not in (1, 2) or page.samplesperpixel not in (1, 3, 4):
        return None
    image = Image.new("RGB", (page.imagewidth, page.imagelength))
    image.format = "TIFF"
    for tag, key in ((_ICC_PROFILE, "icc_profile"), (_XMP, "xmp")):
        if tag in page.tags:
            image.info[key] = bytes(page.tags[tag].value)
    if _ORIENTATION in page.tags:
        image.getexif()[_ORIENTATION] = int(page.tags[_ORIENTATION].value)
    return image


def read_deep_tiff(image: Image.Image, file: BinaryIO) -> Tensor | None:
    """Return the channels of a TIFF page with colors of more than 8 bits, (C, H, W) float32 in [0, 1], C = 3 or 4.

    Return None if not all bits can be read.

    Args:
        image: the page, opened and not yet decoded.
        file: the file.

    Raises:
        ImageError: a value is nan or infinite.
    """
    if (planes := _read_bytewise(image, file)) is not None:
        return planes
    page = _page(file, image.tell())
    return None if page is None else _read_page(page)


def _read_bytewise(image: Image.Image, file: BinaryIO) -> Tensor | None:
    """Read integers of 16 bits as two pictures: Pillow takes the upper byte of each, or the lower one if told to."""
    tags: Any = getattr(image, "tag_v2", {})
    if set(tags.get(_BITS, ())) != {16} or set(tags.get(_FORMAT, (1,))) != {1} or image.mode not in ("RGB", "RGBA"):
        return None
    lower: Any = open_image(_from_start(file))
    lower.seek(image.tell())
    tiles = []
    for codec, extents, offset, (raw, *more) in lower.tile:
        layout, _, order = raw.partition(";")
        if layout not in ("RGB", "RGBA", "RGBX") or order not in _OTHER_BYTE:
            return None
        tiles.append((codec, extents, offset, (f"{layout};{_OTHER_BYTE[order]}", *more)))
    lower.tile = [
        type(old)(*new) if hasattr(old, "_fields") else new for old, new in zip(lower.tile, tiles, strict=True)
    ]
    planes = np.empty((len(image.getbands()), image.height, image.width), np.float32)
    for rows in row_bands(image.height, image.width):
        box = (0, rows.start, image.width, rows.stop)
        high, low = (np.asarray(each.crop(box), np.uint16) for each in (image, lower))
        planes[:, rows] = (high * np.uint16(256) + low).transpose(2, 0, 1)
    return torch.from_numpy(planes / np.float32(_TOP))


def _page(file: BinaryIO, index: int) -> Any:
    """Return a page of a TIFF file as tifffile sees it, or None."""
    if not has_tifffile():
        return None
    import tifffile

    try:
        return tifffile.TiffFile(_from_start(file)).pages[index]
    except Exception:  # of a damaged file, Pillow says what is wrong
        return None


def _read_page(page: Any) -> Tensor | None:
    """Return a page's channels. Floats count as 0..1, or as 0..255, 0..65535 or 0..maximum if they exceed that."""
    try:
        values = page.asarray()
    except Exception:  # compressed in a way that tifffile needs another package for
        return None
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, 2)
    values = values[..., None].repeat(3, 2) if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (3, 4):
        return None
    if values.dtype.kind == "f":
        top = float(values.max())
        if not np.isfinite([top, values.min()]).all():
            raise ImageError("some of its values are nan or infinite")
        full = next((limit for limit in (1, 255, _TOP) if top <= limit), top)
    elif values.dtype.kind == "u":
        bits = int(np.max(page.bitspersample))
        full = _TOP if bits == 32 and values.max() <= _TOP else 2**bits - 1
    else:
        return None
    scaled = np.clip(values.astype(np.float32) / np.float32(full), 0, 1)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def deep_tiff(pixels: Tensor, alpha: Tensor | None, options: dict) -> bytes:
    """Return a TIFF file with 16 bits per channel.

    Pillow writes pixels of 8 bits, twice as many: the bytes are the same. Then width and bits are corrected.

    Args:
        pixels: (3, H, W) in [0, 1]
        alpha: (1, H, W) in [0, 1], or None
        options: Pillow's options for everything but the pixels
    """
    channels, (height, width) = 3 if alpha is None else 4, pixels.shape[-2:]
    data = np.empty((height, width, channels), "<u2")
    for rows in row_bands(height, width):
        band = pixels[:, rows] if alpha is None else torch.cat([pixels[:, rows], alpha[:, rows].to(pixels)])
        data[rows] = (band.cpu().double().clamp(0, 1) * _TOP).round().permute(1, 2, 0).numpy()
    encoded = io.BytesIO()
    doubled = data.reshape(height, -1).view(np.uint8).reshape(height, 2 * width, channels)
    Image.fromarray(doubled).save(encoded, "TIFF", **options)
    content = bytearray(encoded.getvalue())
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        at = start + 2 + 12 * entry
        tag, kind, count, value = struct.unpack_from("<HHII", content, at)
        if tag == _WIDTH:
            struct.pack_into("<HII", content, at + 2, 4, 1, width)
        elif tag == _BITS:
            struct.pack_into(f"<{count}H", content, value, *[16] * count)
    return bytes(content)


def _from_start(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file
