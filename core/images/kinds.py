"""Say what a file is that cannot be read as an image, and what to do about it."""

from __future__ import annotations

import importlib.util
import struct
from functools import cache
from typing import BinaryIO

from PIL import features

_SAVE = "save it as PNG, TIFF or JPEG"
_RAW = f"it is a camera's raw file; develop it and {_SAVE}"
_VIDEO = "it is a video; extract its frames (ffmpeg -i VIDEO frame%06d.png) and give their folder"

# The first bytes of kinds of files that are not read
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", f"JPEG XL is not supported; {_SAVE}"),
    (b"\0\0\0\x0cJXL ", f"JPEG XL is not supported; {_SAVE}"),
    (b"v/1\x01", f"OpenEXR is not supported; {_SAVE}"),
    (b"#?RADIANCE", f"Radiance HDR is not supported; {_SAVE}"),
    (b"#?RGBE", f"Radiance HDR is not supported; {_SAVE}"),
    (b"DDS ", f"DDS textures are not supported; {_SAVE}"),
    (b"\0\0\x01\0", f"icons (.ico) are not supported; {_SAVE}"),
    (b"\x01\xda", f"SGI images are not supported; {_SAVE}"),
    (b"%PDF", f"it is a PDF document; {_SAVE}"),
    (b"%!PS", f"it is a PostScript document; {_SAVE}"),
    (b"<svg", f"it is a drawing (SVG); {_SAVE}"),
    (b"<?xml", f"it is an XML file, perhaps a drawing (SVG); {_SAVE}"),
    (b"<", "it is a web page, not an image; download the image itself"),
    (b"version https://", "it is a Git LFS pointer, not the image; run git lfs pull"),
    (b"PK\x03\x04", "it is a ZIP archive; unpack it"),
    *((start, _RAW) for start in (b"FUJIFILM", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb")),
    (b"II\xbc", f"JPEG XR is not supported; {_SAVE}"),
    (b"gimp xcf", f"it is a project of GIMP; open it there and {_SAVE}"),
    (b"icns", f"icons (.icns) are not supported; {_SAVE}"),
    (b"SIMPLE  =", f"FITS is not supported; {_SAVE}"),
    (b"P7\n", f"PAM is not supported; {_SAVE}"),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"FLV\x01", _VIDEO),
    (b"\0\0\x01\xba", _VIDEO),
    (b"\0\0\x01\xb3", _VIDEO),
    (b"OggS", _VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", _VIDEO),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
WITH_TIFFFILE = 'pip install "perceptual-style[tiff]", or '
_SAVE_8 = "save it as PNG, TIFF or JPEG with 8 bits per channel"
# Markers of JPEG frames: None for the processes that decoders have, else the name
_JPEG_FRAMES: dict[int, str | None] = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA)),
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
    0xF7: "JPEG-LS",
}
_SAMPLE_KINDS = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}


def is_heif(start: bytes) -> bool:
    """Return whether the first 16 bytes are those of a HEIC photo."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def kind_of(start: bytes) -> str | None:
    """Return a line on a file that is no readable image, by its first 16 bytes, or None if they tell nothing."""
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start[4:8] == b"ftyp":
        if is_heif(start):
            return "HEIC photos need pillow-heif: pip install pillow-heif; or save it as JPEG"
        if start[8:12] in (b"avif", b"avis"):
            return None if features.check("avif") else "this Pillow cannot read AVIF; update it to 11.3 or newer"
        return _RAW if start[8:12] == b"crx " else _VIDEO
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return _VIDEO
    for known, line in _STARTS:
        if start.startswith(known) or (known[:1] in b"<v" and text.startswith(known)):
            return line
    return None


@cache  # the search goes through all folders of packages
def has_tifffile() -> bool:
    """Return whether tifffile, which reads more kinds of TIFF, is installed."""
    return importlib.util.find_spec("tifffile") is not None


def describe_tiff(file: BinaryIO, unsupported: bool) -> str | None:
    """Return a line on a TIFF file that is a camera's, or whose kind of pixels is ``unsupported``, or else None."""
    file.seek(0)
    head = file.read(16)
    if head[8:10] == b"CR" or head[:4] in (b"IIU\0", b"IIRO", b"MMOR"):
        return _RAW
    try:
        tags = _tiff_tags(file, head)
        width, height = tags[256][0], tags[257][0]
    except (KeyError, IndexError, struct.error, ValueError, OverflowError):
        return None
    if 50706 in tags:
        return _RAW
    if not (unsupported and width and height):
        return None
    bits, kind = tags.get(258, (1,)), tags.get(339, (1,))[0]
    channels = tags.get(277, (len(bits),))[0]
    would_help = kind in (1, 2, 3) and channels in (1, 3, 4) and tags.get(262) in ((1,), (2,))
    package = "" if not would_help else "pip install imagecodecs, or " if has_tifffile() else WITH_TIFFFILE
    return (
        f"a TIFF file of {channels} channel{'s' if channels > 1 else ''} of {max(bits)}-bit "
        f"{_SAMPLE_KINDS.get(kind, 'values')} (photometric {tags.get(262, ('unknown',))[0]}, compression "
        f"{tags.get(259, (1,))[0]}) is not supported; {package}"
        "save it as RGB or grey with 8 or 16 bits"
    )


def describe(kind: str | None, file: BinaryIO, unsupported: bool) -> str | None:
    """Return a line on a sound file whose kind of pixels is not read, or None.

    Args:
        kind: Pillow's name of the format
        file: the file
        unsupported: whether the decoder said so; TIFF has too many kinds to tell it from the file alone
    """
    if kind == "TIFF":
        return describe_tiff(file, unsupported)
    file.seek(0)
    if kind == "JPEG":
        return _describe_jpeg(file.read(1 << 20))
    return _describe_psd(file.read(26)) if kind == "PSD" else None


def _describe_jpeg(head: bytes) -> str | None:
    position = 2
    while position + 10 <= len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        if marker in _JPEG_FRAMES:
            bits, channels, process = head[position + 4], head[position + 9], _JPEG_FRAMES[marker]
            if process is None and bits == 8 and channels in (1, 3, 4):
                return None
            what = f"{channels} channel{'s' if channels > 1 else ''} of {bits} bits"
            return f"a JPEG file of {what}{f', {process},' if process else ''} is not supported; {_SAVE_8}"
        position += 1 if marker == 0xFF else 2 + length
    return None


def _describe_psd(head: bytes) -> str | None:
    if len(head) < 26 or head[:4] != b"8BPS":
        return None
    version, channels, bits = (int.from_bytes(head[at : at + 2], "big") for at in (4, 12, 22))
    if (version, bits) == (1, 8):
        return None
    what = "a large document (PSB)" if version == 2 else f"a PSD file of {channels} channels of {bits} bits"
    return f"{what} is not supported; {_SAVE_8}"


def _tiff_tags(file: BinaryIO, head: bytes) -> dict[int, tuple[int, ...]]:
    """Return the integers of the first directory by tag."""
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    big = struct.unpack(f"{order}H", head[2:4])[0] == 43
    file.seek(struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}I", head[4:8])[0])
    count = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))[0]
    size = 20 if big else 12
    tags: dict[int, tuple[int, ...]] = {}
    if count > 4096:
        raise ValueError("a directory without end")
    table = file.read(count * size)
    for i in range(count):
        entry = table[i * size : (i + 1) * size]
        tag, kind = struct.unpack(f"{order}HH", entry[:4])
        number = struct.unpack(f"{order}{'Q' if big else 'I'}", entry[4 : size // 2 + 2])[0]
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is None or not 0 < number <= 64:
            tags[tag] = ()
            continue
        layout = struct.Struct(f"{order}{number}{code}")
        value = entry[size // 2 + 2 :]
        if layout.size > len(value):
            file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", value)[0])
            value = file.read(layout.size)
        tags[tag] = layout.unpack(value[: layout.size])
    return tags
