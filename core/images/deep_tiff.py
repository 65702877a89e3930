"""TIFF colors with more than 8 bits per channel, which Pillow reduces to 8 or rejects.

Integers of 16 bits are read and written with Pillow, byte by byte. For floats, 32 bits and separate planes, tifffile is
asked where it is installed.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import ImageError
from .deep import TOP, full_scale, turned_upright
from .kinds import WITH_TIFFFILE, describe_tiff, has_tifffile
from .pillow import load_pixels, open_image, without_pixels
from .tensors import row_bands

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_BYTE = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}
_WIDTH, _BITS, _FORMAT = ExifTags.Base.ImageWidth, ExifTags.Base.BitsPerSample, ExifTags.Base.SampleFormat
_ORIENTATION, _PLANAR, _ICC_PROFILE, _XMP = ExifTags.Base.Orientation, 284, 34675, 700
_GREY, _RGB = 1, 2  # of PhotometricInterpretation
_PREMULTIPLIED, _STRAIGHT = 1, 2  # of ExtraSamples


def open_deep_tiff(file: BinaryIO) -> Image.Image | None:
    """Return an image without pixels for a TIFF file that Pillow rejects, or None. `read_deep_tiff` reads its colors."""
    page = _page(file, 0)
    if page is None:
        return None
    image = without_pixels("TIFF", (page.imagewidth, page.imagelength), {_BITS: (32,)})  # whatever it has, it is deep
    for tag, key in ((_ICC_PROFILE, "icc_profile"), (_XMP, "xmp")):
        if tag in page.tags:
            image.info[key] = bytes(page.tags[tag].value)
    return image


def read_deep_tiff(image: Image.Image, file: BinaryIO) -> Tensor | None:
    """Return the channels of a TIFF page with colors of more than 8 bits, upright: (C, H, W) float32 in [0, 1], C = 3 or 4.

    Return None if Pillow can read the upper 8 bits only.

    Args:
        image: the page, opened and not yet decoded.
        file: the file.

    Raises:
        ImageError: a value is nan or infinite, or the page cannot be read at all.
    """
    if (planes := _read_bytewise(image, file)) is not None:
        return planes
    page = _page(file, image.tell())
    if page is not None and (planes := _read_page(page)) is not None:
        return planes
    if page is not None and not hasattr(image, "tile"):
        raise ImageError(describe_tiff(file, unsupported=True) or "the TIFF file is damaged or incomplete")
    if image.info.get("compression") == "raw" and getattr(image, "tag_v2", {}).get(_PLANAR) == 2:
        raise ImageError(
            f"16-bit TIFF in separate planes, which Pillow misreads; {WITH_TIFFFILE}save it with interleaved channels"
        )
    return None


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
    load_pixels(image)
    load_pixels(lower)
    planes = np.empty((len(image.getbands()), image.height, image.width), np.float32)
    for rows in row_bands(image.height, image.width):
        box = (0, rows.start, image.width, rows.stop)
        high, low = (np.asarray(each.crop(box), np.uint16) for each in (image, lower))
        planes[:, rows] = (high * np.uint16(256) + low).transpose(2, 0, 1)
    planes /= np.float32(TOP)
    return turned_upright(torch.from_numpy(planes), image.getexif().get(_ORIENTATION, 1))  # 1 if Pillow has done it


def _page(file: BinaryIO, index: int) -> Any:
    """Return a page of grey or RGB of a TIFF file as tifffile sees it, or None."""
    if _from_start(file).read(4) not in _STARTS or not has_tifffile():
        return None
    import tifffile

    try:
        page: Any = tifffile.TiffFile(_from_start(file)).pages[index]
    except Exception:  # of a damaged file, Pillow says what is wrong
        return None
    return page if page.photometric in (_GREY, _RGB) and page.samplesperpixel in (1, 3, 4) else None


def _read_page(page: Any) -> Tensor | None:
    """Return a page's channels, upright. `full_scale` says which value counts as 1."""
    try:
        values = page.asarray()
    except MemoryError:
        raise
    except Exception:  # compressed in a way that tifffile needs another package for
        return None
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, 2)
    values = values[..., None].repeat(3, 2) if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (3, 4) or values.dtype.kind not in "fui":
        return None
    alpha_kind = (*page.extrasamples, 0)[0]
    parts = [values[..., :3], *([values[..., 3:]] if alpha_kind in (_PREMULTIPLIED, _STRAIGHT) else [])]
    bits = int(np.max(page.bitspersample))
    scaled = [
        np.clip(part.astype(np.float32) / np.float32(full_scale(part, bits, values.dtype.kind == "i")), 0, 1)
        for part in parts
    ]
    if alpha_kind == _PREMULTIPLIED:
        scaled[0] = np.clip(scaled[0] / np.maximum(scaled[1], 1e-6), 0, 1)
    planes = torch.from_numpy(np.concatenate(scaled, axis=2).transpose(2, 0, 1))
    tag = page.tags.get(_ORIENTATION)
    return turned_upright(planes, int(tag.value) if tag else 1)


def deep_tiff(pages: Sequence[np.ndarray], options: dict) -> bytes:
    """Return a TIFF file with 16 bits per channel.

    Pillow writes pixels of 8 bits, twice as many: the bytes are the same. Then width and bits are corrected.

    Args:
        pages: (H, W, C) uint16 each, C = 3, or 4 with alpha
        options: Pillow's options for everything but the pixels
    """
    doubled = [
        Image.fromarray(page.astype("<u2", copy=False).view(np.uint8).reshape(len(page), -1, page.shape[2]))
        for page in pages
    ]
    encoded = io.BytesIO()
    doubled[0].save(encoded, "TIFF", save_all=len(pages) > 1, append_images=doubled[1:], **options)
    content = bytearray(encoded.getvalue())
    directory = 4  # where the place of the next directory is
    for _ in pages:
        start = struct.unpack_from("<I", content, directory)[0]
        directory = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
        for at in range(start + 2, directory, 12):
            tag, kind, count, value = struct.unpack_from("<HHII", content, at)
            if tag == _WIDTH:
                struct.pack_into("<HII", content, at + 2, 4, 1, (value & 0xFFFF if kind == 3 else value) // 2)
            elif tag == _BITS:
                struct.pack_into(f"<{count}H", content, value, *[16] * count)
    return bytes(content)


def _from_start(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file
