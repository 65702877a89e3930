"""Open and decode image files with Pillow, but without its limit on pixels.

That limit is one setting for the whole process, so it is not ours to change. Pillow has no public way around it. The
parts of Pillow that are not its documented interface are used here and nowhere else.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from functools import cache
from types import ModuleType
from typing import Any, BinaryIO

from PIL import Image, ImageCms

from ..errors import ImageError
from .claimed_size import holds_its_size
from .kinds import describe, is_heif, kind_of

# Plugins of Pillow that decode pixels and nothing else. EPS and WMF, for instance, run other programs.
_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI", "PSD", "TGA")

_LARGEST_PROFILE = 64 << 20  # bytes of a color profile
#: Start of the segment of a JPEG file that holds XMP
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_LONGEST_TEXT = 1 << 20  # bytes of a text that Pillow accepts
LONG_TEXTS = "long texts"  #: key of ``Image.info`` for the number of texts of a PNG file that were left out
_UNSUPPORTED = ("unknown pixel mode", "unknown data organization", "unsupported", "not supported", "not yet supported")

#: Flag of ImageCms.buildTransform. Pillow has no ImageCms.Flags before 10.3.
BLACKPOINT_COMPENSATION: Any = getattr(ImageCms, "Flags", int)(0x2000)


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image as PIL.Image.open does, without the limit on pixels and only for formats that are safe to read.

    Image.OPEN holds each format's factory and its test of a file's first 16 bytes. PIL.Image.open would call the same
    factories, and then check its limit.

    Raises:
        ImageError: the file is empty, damaged, or not an image.
    """
    Image.init()
    start = file.read(16)
    if not start:
        raise ImageError("the file is empty (0 bytes); copy or download it again")
    known, unsupported = None, ""
    for kind in _READABLE:
        if kind not in Image.OPEN:
            continue
        factory, accepts = Image.OPEN[kind]
        try:
            accepted = accepts is None or accepts(start)
            if accepted and not isinstance(accepted, str):
                known = kind if accepts else known
                return _opened(kind, factory, file)
        except (SyntaxError, IndexError, TypeError, ValueError, struct.error) as error:  # how plugins reject a file
            unsupported = unsupported or (str(error) if known and is_unsupported(error) else "")
    if is_heif(start) and (heif := _heif()) is not None:
        file.seek(0)
        return heif.HeifImageFile(file)
    if known and (line := describe(known, file, bool(unsupported))):
        raise ImageError(line)
    if unsupported:
        raise ImageError(f"a {known} file of this kind is not supported ({unsupported}); save it as 8-bit RGB")
    if known:
        raise ImageError(f"the {known} file is damaged or incomplete")
    if line := kind_of(start):
        raise ImageError(line)
    raise ImageError(f"expected an image such as PNG, JPEG, WebP or TIFF, but the file starts with {start!r}")


@cache
def read_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that can be read, such as .png."""
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in (*_READABLE, "MPO"))


def is_known(start: bytes) -> bool:
    """Return whether the first 16 bytes of a file are those of a format that can be read."""
    Image.init()
    tests = [Image.OPEN[kind][1] for kind in _READABLE if kind in Image.OPEN]
    return any(accepts is not None and accepts(start) is True for accepts in tests)


def reads_heif() -> bool:
    """Return whether HEIC photos can be read."""
    return "HEIF" in Image.OPEN or _has_pillow_heif()


@cache  # the search goes through all folders of packages, for each photo
def _has_pillow_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _heif() -> ModuleType | None:
    """Return the optional package that reads HEIC photos, without registering it for the whole process."""
    try:
        return importlib.import_module("pillow_heif")
    except ImportError:
        return None


def is_unsupported(error: Exception) -> bool:
    """Return whether a decoder says that it does not know a kind of file, rather than that the file is damaged."""
    text = str(error).lower()
    return any(words in text for words in _UNSUPPORTED)


def _opened(kind: str, factory: Any, file: BinaryIO) -> Image.Image:
    """Return the image of a file by its format's factory."""
    file.seek(0)
    try:
        # A name would let Pillow map the file to memory, wrongly for a rotated TIFF.
        image: Image.Image = factory(file, "")
        if not holds_its_size(image, file):
            raise SyntaxError("the size in the header is not that of the pixels")
        return _with_xmp(image)
    except ValueError as error:
        if kind != "PNG" or "too large" not in str(error).lower():
            raise
    content, profile, texts = _without_long_chunks(file)
    image = factory(content, "")
    image.info |= {"icc_profile": profile} if profile else {}
    image.info[LONG_TEXTS] = texts
    return image


def _with_xmp(image: Image.Image) -> Image.Image:
    """Return an image with the XMP of a JPEG file in its info, where Pillow below 11 does not put it."""
    for name, body in getattr(image, "applist", ()):
        if name == "APP1" and body.startswith(XMP_HEAD):
            image.info.setdefault("xmp", body[len(XMP_HEAD) :])
    return image


def _without_long_chunks(file: BinaryIO) -> tuple[BinaryIO, bytes, int]:
    """Return a PNG file without its profile and long compressed texts, the profile, and the number of these texts.

    Pillow accepts no more than 1 MB of each, by a setting for the whole process.
    """
    file.seek(0)
    result, profile, texts = [file.read(8)], b"", 0
    while len(head := file.read(8)) == 8:
        (length,) = struct.unpack(">I", head[:4])
        body = file.read(length + 4)
        if head[4:] == b"iCCP":
            compressed = body[body.find(b"\0") + 2 : -4]
            profile = zlib.decompressobj().decompress(compressed, _LARGEST_PROFILE)
        elif head[4:] in (b"zTXt", b"iTXt") and _is_long_text(head[4:], body[:-4]):
            texts += 1
        else:
            result += [head, body]
    return io.BytesIO(b"".join(result)), profile, texts


def _is_long_text(kind: bytes, body: bytes) -> bool:
    """Return whether a chunk of text is compressed, and more than Pillow accepts."""
    _, _, packed = body.partition(b"\0")
    if kind == b"iTXt":
        if packed[:1] != b"\1":
            return False
        packed = b"-" + packed[2:].split(b"\0", 2)[-1]  # after a byte like zTXt's
    try:
        return len(zlib.decompressobj().decompress(packed[1:], _LONGEST_TEXT + 1)) > _LONGEST_TEXT
    except zlib.error:
        return True


def without_pixels(kind: str, size: tuple[int, int], tags: dict[int, Any]) -> Image.Image:
    """Return an RGB image with nothing but format, width and height, and TIFF tags."""
    image: Any = Image.Image()
    image._mode, image._size = "RGB", size
    image.format, image.tag_v2 = kind, tags
    return image


def load_pixels(image: Image.Image) -> None:
    """Decode the pixels of an image from `open_image`, without the limit that TIFF's decoder checks once more.

    The decoder allocates the pixels, after that check, only if the image has none yet. ``_tile_size`` is the size before
    the image is turned upright; older versions of Pillow do not have it.
    """
    if image.format == "TIFF":
        image.im = Image.new(image.mode, getattr(image, "_tile_size", image.size), None).im
    image.load()


def has_transparency(image: Image.Image) -> bool:
    """Return whether an image has alpha or a transparent color, as ``has_transparency_data`` of Pillow 10.1 and newer."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
