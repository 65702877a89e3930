"""What image files hold beside pixels, profile and EXIF: resolution, XMP, comments, texts, color marks; read and written."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from .pillow import XMP_HEAD

_XMP_TEXT = "XML:com.adobe.xmp"
_NO_TEXTS = (_XMP_TEXT, "Raw profile type ")  # texts that are read as something else
_MARKS = (b"cICP", b"gAMA", b"cHRM", b"mDCV", b"cLLI")
#: marks that say the colors are sRGB
_USUAL = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
_USUAL_PRIMARIES, _USUAL_TRANSFERS = (1, 2, 5, 6, 7), (1, 2, 6, 13, 14, 15)  # of SDR, in ITU-T H.273
#: what XMP says about pictures and videos in the old file
_OTHER_PARTS = re.compile(
    rb'\s(?:hdrgm:\w+|GCamera:(?:MotionPhoto|MicroVideo)\w*)="[^"]*"|<(Container:Directory)\b.*?</\1>', re.DOTALL
)
_LONGEST_SEGMENT = 65533  # bytes of one part of a JPEG file
_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))\d')


@dataclass(frozen=True)
class Metadata:
    """Facts of an image file that do not change its pixels.

    Attributes:
        dpi: pixels per inch, horizontally and vertically
        xmp: the XMP packet, with an upright orientation
        comment: the comment of a JPEG or GIF file
        texts: the texts of a PNG file by keyword
        marks: color marks of a PNG file by chunk, such as cICP, which says that colors are HDR
    """

    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[bytes, bytes] = field(default_factory=dict)


def read_metadata(image: Image.Image, file: BinaryIO | None) -> Metadata:
    """Return the metadata of a decoded image and its file. Damaged parts count as missing."""
    info = image.info
    texts = {key: str(value) for key, value in getattr(image, "text", {}).items() if not key.startswith(_NO_TEXTS)}
    xmp = info.get("xmp") or info.get(_XMP_TEXT) or getattr(image, "tag_v2", {}).get(700)
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    comment = info.get("comment")
    return Metadata(
        dpi=_dpi(info.get("dpi")),
        xmp=_OTHER_PARTS.sub(b"", _ORIENTATION.sub(rb"\g<1>1", xmp)) if isinstance(xmp, bytes) and xmp else None,
        comment=(comment.encode() if isinstance(comment, str) else comment) or None,
        texts=texts,
        marks={} if file is None else _png_marks(file) if image.format == "PNG" else _box_marks(image, file),
    )


def _dpi(found: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(each) for each in found)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 <= across <= 1e5 and 1 <= down <= 1e5 else None


def _png_marks(file: BinaryIO) -> dict[bytes, bytes]:
    """Return the chunks of color marks, unless all of them are as usual."""
    marks: dict[bytes, bytes] = {}
    position = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = struct.unpack(">I", head[:4])[0]
        if head[4:] in _MARKS and length <= 64:
            marks[head[4:]] = file.read(length)
            length = 0
        file.seek(length + 4, 1)
    file.seek(position)  # Pillow goes on from there to the next frame
    return {} if all(_USUAL.get(mark) == body for mark, body in marks.items()) else marks


def _box_marks(image: Image.Image, file: BinaryIO) -> dict[bytes, bytes]:
    """Return the color marks of an AVIF or HEIC file as a PNG file holds them, unless they are as usual."""
    if image.format not in ("AVIF", "HEIF"):
        return {}
    position = file.tell()
    file.seek(0)
    head = file.read(1 << 16)
    file.seek(position)
    start = head.find(b"colrnclx") + 8
    if start < 8 or len(head) < start + 4:
        return {}
    primaries, transfer = struct.unpack_from(">HH", head, start)
    usual = primaries in _USUAL_PRIMARIES and transfer in _USUAL_TRANSFERS
    return {} if usual or max(primaries, transfer) > 255 else {b"cICP": bytes((primaries, transfer, 0, 1))}


def save_options(kind: str, metadata: Metadata, exif: bytes | None, lost: list[str]) -> dict[str, Any]:
    """Return Pillow's options for writing metadata and EXIF in a format; add to ``lost`` what it cannot hold."""
    dpi, xmp, comment = metadata.dpi, metadata.xmp, metadata.comment
    options: dict[str, Any] = {}
    if dpi is not None:
        if kind in ("PNG", "JPEG", "TIFF", "BMP"):
            options["dpi"] = dpi if kind != "JPEG" else tuple(max(1, round(each)) for each in dpi)
        elif kind in ("WEBP", "AVIF"):
            exif = _with_tags(exif, {282: dpi[0], 283: dpi[1], 296: 2})
        else:
            lost.append("a resolution")
    if kind == "PNG":
        options["pnginfo"] = _png_info(metadata)
    if dropped := [mark.decode() for mark in metadata.marks if kind != "PNG" or mark not in _written_marks()]:
        lost.append(f"color marks ({', '.join(dropped)})")
    if kind != "PNG" and metadata.texts:
        lost.append("PNG text")
    if kind == "JPEG" and xmp and len(xmp) + len(XMP_HEAD) + 2 <= _LONGEST_SEGMENT:
        body = XMP_HEAD + xmp
        options["extra"] = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    elif kind in ("WEBP", "AVIF") and xmp:
        options["xmp"] = xmp
    elif kind == "TIFF" and xmp:
        exif = _with_tags(exif, {700: xmp})
    elif kind != "PNG" and xmp:
        lost.append("XMP" if kind != "JPEG" else "XMP of more than 64 KB")
    if kind in ("JPEG", "GIF", "JPEG2000") and comment and len(comment) <= _LONGEST_SEGMENT:
        options["comment"] = comment
    elif kind == "TIFF" and comment:
        exif = _with_tags(exif, {ExifTags.Base.ImageDescription: comment.decode("utf-8", "replace")}, only_new=True)
    elif kind != "PNG" and comment:
        lost.append("a comment")
    if exif:
        options["exif"] = exif
    return options


@cache
def _written_marks() -> frozenset[bytes]:
    """Return the color marks that this Pillow writes to PNG files. It drops others without a word."""
    info, file = PngInfo(), BytesIO()
    for mark in _MARKS:
        info.add(mark, bytes(4))
    Image.new("L", (1, 1)).save(file, "PNG", pnginfo=info)
    return frozenset(mark for mark in _MARKS if mark in file.getvalue())


def _png_info(metadata: Metadata) -> PngInfo:
    result = PngInfo()
    for mark, body in metadata.marks.items():
        result.add(mark, body)
    texts = dict(metadata.texts)
    if metadata.comment:
        texts.setdefault("Comment", metadata.comment.decode("utf-8", "replace"))
    for key, text in texts.items():
        try:
            text.encode("latin-1", "strict")
            result.add_text(key, text)
        except UnicodeEncodeError:
            result.add_itxt(key, text)
    if metadata.xmp:
        result.add_itxt(_XMP_TEXT, metadata.xmp.decode("utf-8", "replace"))
    return result


def _with_tags(exif: bytes | None, tags: dict[int, Any], only_new: bool = False) -> bytes:
    """Return EXIF with further tags."""
    result = Image.Exif()
    if exif:
        result.load(exif)
    for tag, value in tags.items():
        if not (only_new and tag in result):
            result[tag] = value
    return result.tobytes()
