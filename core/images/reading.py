"""Read image files upright, with alpha, color profile and EXIF.

Animations and files of several pages are read frame by frame. Of colors with more than 8 bits per channel, all bits are
read from PNG and TIFF files, and the upper 8 from others. Grey is read in full, whether it has 12, 16 or 32 bits or is
made of floats.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from ..errors import ImageError
from .deep import full_scale, holds_numbers, is_deep, is_deep_png, read_deep_png
from .deep_tiff import open_deep_tiff, read_deep_tiff
from .failures import explained
from .kinds import describe
from .left_out import UPPER_BITS, left_out
from .metadata import Metadata, read_metadata
from .pillow import BLACKPOINT_COMPENSATION, has_transparency, load_pixels, open_image
from .tensors import row_bands
from .transparency import fill_transparent

#: How to turn an image upright, by its EXIF orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Tags that describe how a file stores its own pixels: size, strips, tables, thumbnails, orientation. They would be wrong
# in another file.
_LAYOUT_TAGS = frozenset((
    *range(254, 269), 273, 274, *range(277, 282), 284, *range(288, 294), 301, *range(317, 348),
    *range(512, 533), 700, 34377, 34675, 37724,
))  # fmt: skip

_SIZE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)

_FORMATS_WITH_FRAMES = ("GIF", "WEBP", "PNG", "TIFF", "AVIF")

_PHOTOMETRIC = ExifTags.Base.PhotometricInterpretation

# of TIFF files: some versions of Pillow cannot decompress them
_RARE_COMPRESSIONS = ("lzma", "tiff_jpeg", "webp", "zstd")

_DAMAGED = "the file is damaged or incomplete: "


@dataclass(frozen=True)
class ImageFile:
    """The contents of an image file: what `read_image` returns and `save_image` can write.

    Attributes:
        pixels: (1, 3, H, W) float32 RGB in [0, 1], upright
        alpha: (1, 1, H, W) float32 in [0, 1], 0 is transparent, or None
        icc_profile: the color profile of the pixels; None means sRGB
        exif: EXIF without the orientation and without tags on the old file's layout, or None
        metadata: resolution, XMP, comments, texts and color marks
        duration: milliseconds that a frame of an animation is shown, or None, also for the first picture of an APNG file
            that is no part of its animation
        loop: how often an animation is shown, 0 for without end, or None
        bits: 8, or 16 if the channels of the file have more than 8 bits
        notes: lines for the user on what was left out
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    duration: float | None = None
    loop: int | None = None
    bits: int = 8
    notes: tuple[str, ...] = ()

    @property
    def filled(self) -> Tensor:
        """The pixels as a network should see them, without colors that are hidden by transparency."""
        return fill_transparent(self.pixels, self.alpha)


def read_image(path: str | Path) -> ImageFile:
    """Read an image file with as many pixels as fit in memory (Pillow's own limit does not apply).

    CMYK is converted to sRGB by its profile (relative colorimetric, with black point compensation), or by plain inversion
    if it has none. Only RGB profiles are kept.

    Grey is scaled by the range of its type. Integers of 32 bits count as 16 bits if all of them fit. Floats count as 0..1,
    or as 0..255, 0..65535 or 0..maximum if they exceed that.

    Raises:
        ImageError: the file cannot be read; the message is one line.
    """
    with open_file(path) as file:
        return decode_image(file, path)


def open_file(path: str | Path) -> BinaryIO:
    """Open an image file for `image_size` and `decode_image`. Raises ImageError."""
    with explained(f"cannot read {path}"):
        if Path(path).is_dir():
            raise ImageError("it is a folder; expected an image file")
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe waits for whoever writes to it
            raise ImageError("it is a pipe or a device; expected an image file")
        return Path(path).open("rb")


def image_size(file: BinaryIO, name: str | Path) -> tuple[int, int]:
    """Return height and width of the image in ``file``, before it is turned upright.

    Raises:
        ImageError: the file cannot be read; the message calls it ``name``.
    """
    with explained(f"cannot read {name}", _DAMAGED):
        width, height = _open(file).size
        return height, width


def decode_image(file: BinaryIO, name: str | Path) -> ImageFile:
    """Read an open file from its start as `read_image` does, the first frame only. Messages call it ``name``."""
    with explained(f"cannot read {name}", _DAMAGED):
        file.seek(0)
        return _decode(_open(file), file)


def count_frames(file: BinaryIO, name: str | Path) -> int:
    """Return the number of frames of an animation, or of pages, in an open file. Messages call it ``name``."""
    with explained(f"cannot read {name}", _DAMAGED):
        file.seek(0)
        return len(_frames(_open(file)))


def decode_frames(file: BinaryIO, name: str | Path) -> Iterator[ImageFile]:
    """Yield the frames or pages of an open file, each read as `read_image` does.

    Raises:
        ImageError: a frame cannot be read; the message calls the file ``name``.
    """
    with explained(f"cannot read {name}", _DAMAGED):
        file.seek(0)
        image = _open(file)
        frames = _frames(image)
    if len(frames) == 1:
        yield decode_image(file, name)
        return
    for index in frames:
        with explained(f"cannot read frame {index + 1} of {name}", _DAMAGED):
            image.seek(index)
            frame = _decode(image, file)
            duration, loop = image.info.get("duration"), image.info.get("loop")
            if image.format != "TIFF":
                shown = index > 0 or not image.info.get("default_image")  # viewers without animation show that one
                frame = replace(
                    frame, duration=float(duration or 0) if shown else None, loop=loop if isinstance(loop, int) else 1
                )
        yield frame


def _open(file: BinaryIO) -> Image.Image:
    """Open an image with Pillow, or else with tifffile."""
    try:
        return open_image(file)
    except ImageError:
        if (image := open_deep_tiff(file)) is None:
            raise
        return image


def _frames(image: Image.Image) -> list[int]:
    """Return the indices of the frames or pages of an image."""
    if image.format not in _FORMATS_WITH_FRAMES:
        return [0]
    frames = list(range(getattr(image, "n_frames", 1)))
    if image.format == "TIFF" and len(frames) > 1:
        frames = [index for index in frames if index == 0 or not _is_thumbnail(image, index)]
        image.seek(0)
    return frames


def _is_thumbnail(image: Image.Image, index: int) -> bool:
    image.seek(index)
    return bool(getattr(image, "tag_v2", {}).get(ExifTags.Base.NewSubfileType, 0) & 1)


def _decode(image: Image.Image, file: BinaryIO | None = None) -> ImageFile:
    tags, deep, notes = getattr(image, "tag_v2", {}), None, left_out(image, file)
    if image.format == "TIFF" and file is not None and is_deep(image) and not holds_numbers(image):
        deep = read_deep_tiff(image, file)
        if deep is None:
            notes += (UPPER_BITS,)
    if deep is None:
        _load(image, file)
    orientation, exif = _read_exif(image)
    if image.format == "PNG" and file is not None and is_deep_png(file):
        deep = read_deep_png(image, file, orientation)
        if deep is None:
            notes += (UPPER_BITS,)
    bits = 16 if deep is not None or is_deep(image) else 8
    metadata = read_metadata(image, file)
    if deep is None and orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    profile = image.info.get("icc_profile") or b""
    if deep is not None:
        pixels, alpha = deep[None, :3], deep[None, 3:] if len(deep) == 4 else None
    elif holds_numbers(image):
        pixels, alpha = _read_numbers(image, tags)
    else:
        pixels, alpha = _read_bytes(image, profile)
    keeps_profile = image.mode not in ("CMYK", "LAB") and profile[16:20] == b"RGB "
    return ImageFile(pixels, alpha, profile if keeps_profile else None, exif, metadata, bits=bits, notes=notes)


def _load(image: Image.Image, file: BinaryIO | None) -> None:
    """Decode the pixels. Of a sound file of an unsupported kind, some decoders notice only here."""
    try:
        load_pixels(image)
    except (OSError, ValueError):
        if file is not None and image.format == "JPEG" and (line := describe("JPEG", file, unsupported=True)):
            raise ImageError(line) from None
        if image.format == "PSD" or image.info.get("compression") in _RARE_COMPRESSIONS:
            raise ImageError("it is damaged, or its compression is not supported; save it as PNG") from None
        raise


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
    except Exception:  # damaged EXIF is no reason to reject the pixels
        return orientation, None


def _read_bytes(image: Image.Image, profile: bytes) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of an image with 8 bits per channel."""
    width, height = image.size
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # the transparent color of an RGB file with 16 bits
        image.info["transparency"] = tuple(value >> 8 for value in key)
    convert = _converter(image, profile)
    planes = np.empty((4 if has_transparency(image) else 3, height, width), np.float32)
    for rows in row_bands(height, width):
        band = convert(image.crop((0, rows.start, width, rows.stop)))
        planes[:, rows] = np.asarray(band).transpose(2, 0, 1)
    planes /= 255
    tensor = torch.from_numpy(planes)[None]
    return tensor[:, :3], tensor[:, 3:] if len(planes) == 4 else None


def _converter(image: Image.Image, profile: bytes) -> Callable[[Image.Image], Image.Image]:
    """The function that converts a band of rows to RGB or RGBA."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError):  # an unusable profile counts as none
        source: ImageCms.core.CmsProfile | io.BytesIO | None = None
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif image.mode == "CMYK" and profile[16:20] == b"CMYK":
            source = io.BytesIO(profile)
        if source is not None:
            intent, target = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(source, target, image.mode, "RGB", intent, BLACKPOINT_COMPENSATION)
            return transform.apply
    mode = "RGBA" if has_transparency(image) else "RGB"
    return lambda band: band.convert(mode)


def _read_numbers(image: Image.Image, tags: Mapping) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of grey with more than 8 bits or of floats. ``tags`` are a TIFF file's, else empty."""
    values = np.asarray(image)
    bits = int(np.max(tags.get(ExifTags.Base.BitsPerSample, 16)))
    signed = int(np.max(tags.get(ExifTags.Base.SampleFormat, 1))) == 2
    if image.mode != "F" and bits == 32 and not signed:
        values = values.view(np.uint32)
    full = full_scale(values, bits, signed)
    grey = np.clip(values.astype(np.float32) / np.float32(full), 0, 1)
    if (
        image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0
    ):  # white is 0, which Pillow respects only up to 8 bits
        grey = 1 - grey
    key = image.info.get("transparency")
    alpha = None if key is None else torch.from_numpy((values != key).astype(np.float32))[None, None]
    return torch.from_numpy(grey)[None, None].repeat(1, 3, 1, 1), alpha
