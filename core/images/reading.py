"""Read image files upright, with alpha, color profile and EXIF.

Only the first frame is read, with 8 bits per channel: Pillow reads the upper 8 of the 16 bits of an RGB file. Grey of
12, 16 or 32 bits and of floats is read in full.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from ..errors import ImageError
from .failures import explained
from .tensors import row_bands

# Plugins of Pillow that decode pixels and nothing else; EPS and WMF, for instance, run other programs.
_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI", "PSD", "TGA")

_UPRIGHT = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), start=2))  # by EXIF orientation

# Tags on how a file stores its own pixels: size, strips, tables, thumbnails, orientation. Not for another file.
_LAYOUT_TAGS = frozenset((*range(254, 269), 273, 274, *range(277, 282), 284, *range(288, 294), 301, *range(317, 348)))

_LAYOUT_TAGS |= frozenset((*range(512, 533), 700, 34377, 34675, 37724))

_SIZE_TAGS = (40962, 40963)

_DAMAGED = "the file is damaged or incomplete: "


@dataclass(frozen=True)
class ImageFile:
    """What `read_image` finds and `save_image` can keep.

    pixels:       (1, 3, H, W) float32 RGB in [0, 1], upright
    alpha:        (1, 1, H, W) float32, 0 is transparent, or None
    icc_profile:  the color profile of these pixels, or None: sRGB
    exif:         without the orientation and whatever described the old file's layout, or None
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None


def read_image(path: str | Path) -> ImageFile:
    """Read an image file, of as many pixels as fit in memory (Pillow's own limit does not apply).

    CMYK becomes sRGB by its profile (relative colorimetric, black point compensated), without one by plain inversion.
    Only profiles of RGB are kept. Grey is scaled by the range of its type: integers of 32 bits count as 16 if all fit
    in there, floats are 0..1, or 0..255, 0..65535, 0..maximum if they exceed that. Raises ImageError in one line.
    """
    with open_file(path) as file:
        return decode_image(file, path)


def open_file(path: str | Path) -> BinaryIO:
    """An image file, for `image_size` and `decode_image`. Raises ImageError."""
    with explained(f"cannot read {path}"):
        if Path(path).is_dir():
            raise ImageError("it is a folder; expected an image file")
        return Path(path).open("rb")


def image_size(file: BinaryIO, name: str | Path) -> tuple[int, int]:
    """Height and width of the image in ``file``, before it is turned upright. Raises ImageError with ``name`` in it."""
    with explained(f"cannot read {name}", _DAMAGED):
        width, height = open_image(file).size
        return height, width


def decode_image(file: BinaryIO, name: str | Path) -> ImageFile:
    """`read_image` of an open file, from its start; messages call it ``name``."""
    with explained(f"cannot read {name}", _DAMAGED):
        file.seek(0)
        return _decode(open_image(file))


def open_image(file: BinaryIO) -> Image.Image:
    """As PIL.Image.open, without its limit on pixels: that is one setting for the whole process, not ours to change."""
    Image.init()
    start = file.read(16)
    if not start:
        raise ImageError("the file is empty (0 bytes); copy or download it again")
    known = None
    for kind in _READABLE:
        factory, accepts = Image.OPEN.get(kind, (None, lambda _: False))
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # the plugins' ways to say no
            accepted = accepts is None or accepts(start)
            if accepted and not isinstance(accepted, str):
                known = kind if accepts else known
                file.seek(0)
                return factory(file, "")  # a name would let Pillow map the file to memory, wrongly for a rotated TIFF
    if known:
        raise ImageError(f"the {known} file is damaged or incomplete")
    raise ImageError(f"expected an image such as PNG, JPEG, WebP or TIFF, but the file starts with {start!r}")


def _decode(image: Image.Image) -> ImageFile:
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF":
        if tags.get(284) == 2 and max(tags.get(258, (8,))) > 8 and image.info.get("compression") == "raw":
            raise ImageError("16-bit TIFF in separate planes, which Pillow misreads; save it with interleaved channels")
        # Left to Pillow, this allocation comes after another check of its limit.
        image.im = Image.new(image.mode, getattr(image, "_tile_size", image.size), None).im
    image.load()
    orientation, exif = _read_exif(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    profile = image.info.get("icc_profile") or b""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels, alpha = _read_numbers(image, tags)
    else:
        pixels, alpha = _read_bytes(image, profile)
    keeps_profile = image.mode not in ("CMYK", "LAB") and profile[16:20] == b"RGB "
    return ImageFile(pixels, alpha, profile if keeps_profile else None, exif)


def _read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    orientation = 1
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _SIZE_TAGS:
            details.pop(tag, None)
        for tag in _LAYOUT_TAGS.intersection(exif):
            del exif[tag]
        return orientation, exif.tobytes() if len(exif) else None
    except Exception:  # damaged metadata are no reason to refuse the pixels
        return orientation, None


def _read_bytes(image: Image.Image, profile: bytes) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of 8 bits per channel."""
    width, height = image.size
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # the transparent color of an RGB file with 16 bits
        image.info["transparency"] = tuple(value >> 8 for value in key)
    convert = _converter(image, profile)
    planes = np.empty((4 if image.has_transparency_data else 3, height, width), np.float32)
    for rows in row_bands(height, width):
        band = convert(image.crop((0, rows.start, width, rows.stop)))
        planes[:, rows] = np.asarray(band).transpose(2, 0, 1)
    planes /= 255
    tensor = torch.from_numpy(planes)[None]
    return tensor[:, :3], tensor[:, 3:] if len(planes) == 4 else None


def _converter(image: Image.Image, profile: bytes) -> Callable[[Image.Image], Image.Image]:
    """What turns a band of rows into RGB or RGBA."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError):  # an unusable profile counts as none
        source = None
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif image.mode == "CMYK" and profile[16:20] == b"CMYK":
            source = io.BytesIO(profile)
        if source is not None:
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            target = ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(source, target, image.mode, "RGB", intent, flags)
            return lambda band: ImageCms.applyTransform(band, transform)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return lambda band: band.convert(mode)


def _read_numbers(image: Image.Image, tags: dict) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of grey with more than 8 bits, or of floats; ``tags`` are those of a TIFF file."""
    values = np.asarray(image)
    if image.mode == "F":
        top = float(values.max())
        if not np.isfinite([top, values.min()]).all():
            raise ImageError("some of its values are nan or infinite")
        full = next((limit for limit in (1, 255, 65535) if top <= limit), top)
    else:
        bits, signed = int(np.max(tags.get(258, 16))), int(np.max(tags.get(339, 1))) == 2
        if bits == 32 and not signed:
            values = values.view(np.uint32)
        full = 65535 if bits == 32 and values.max() <= 65535 else 2 ** (bits - signed) - 1
    grey = np.clip(values.astype(np.float32) / np.float32(full), 0, 1)
    if image.mode.startswith("I;16") and tags.get(262) == 0:  # white is 0, which Pillow heeds up to 8 bits only
        grey = 1 - grey
    key = image.info.get("transparency")
    alpha = None if key is None else torch.from_numpy((values != key).astype(np.float32))[None, None]
    return torch.from_numpy(grey)[None, None].repeat(1, 3, 1, 1), alpha
