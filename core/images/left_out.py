"""Say what an image file holds beside the picture that is read: finer colors, more pictures, a video, damaged EXIF."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import Image

from .pillow import LONG_TEXTS

UPPER_BITS = "only the upper 8 bits of each channel are read"
_HEAD = 1 << 16  # bytes at the start of a file that say how its picture is stored
_EMPTY_EXIF = 20  # bytes
_NUMBER_OF_IMAGES = 0xB001  # in the index of a JPEG file with several pictures


def left_out(image: Image.Image, file: BinaryIO | None) -> tuple[str, ...]:
    """Return lines for the user on what is not read of an opened image and its file; for TIFF, bits are not looked at."""
    info, notes = image.info, []
    xmp = bytes(info["xmp"]) if isinstance(info.get("xmp"), bytes) else b""
    if others := _other_pictures(image):
        what = f"{others} more picture{'s' if others > 1 else ''} in the file"
        notes.append(f"{what} (preview, second view or gain map) left out")
    elif b"hdrgm:Version" in xmp:
        notes.append("the HDR gain map in the file left out")
    if b'MotionPhoto="1"' in xmp or b'MicroVideo="1"' in xmp:
        notes.append("the video in the file (motion photo) left out")
    if info.get("depth_images") or any("hdrgainmap" in str(kind).lower() for kind in info.get("aux") or ()):
        notes.append("the depth or HDR gain map in the file left out")
    if file is not None and _bits(image, file) > 8:
        notes.append(UPPER_BITS)
    if texts := info.get(LONG_TEXTS):
        notes.append(f"{texts} text{'s' if texts > 1 else ''} of more than 1 MB left out")
    if len(info.get("exif") or b"") > _EMPTY_EXIF and _is_damaged(image):
        notes.append("its EXIF is damaged and left out")
    return tuple(notes)


def _other_pictures(image: Image.Image) -> int:
    """Return the number of pictures after the first, which is the photo, in files that are no animations."""
    if image.format in ("MPO", "HEIF"):
        return getattr(image, "n_frames", 1) - 1
    if image.format != "JPEG" or "mp" not in image.info:
        return 0
    try:
        index: Any = image._getmp()  # type: ignore[attr-defined]
        return max(0, int(index[_NUMBER_OF_IMAGES]) - 1)
    except Exception:  # a damaged index
        return 0


def _bits(image: Image.Image, file: BinaryIO) -> int:
    """Return the bits per channel of a file in a format of which Pillow gives 8."""
    if image.mode not in ("RGB", "RGBA", "L", "LA"):
        return 8  # or all of them are read
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(position)
    try:
        if image.format == "PPM":
            words = [word for line in head[:1000].splitlines() for word in line.split(b"#")[0].split()]
            return int(words[3]).bit_length() if words[0] in (b"P2", b"P3", b"P5", b"P6") else 8
        if image.format == "JPEG2000":
            start = head.index(b"\xff\x51") + 40  # of the channels in the codestream's header
            return (head[start] & 0x7F) + 1
        if image.format in ("AVIF", "HEIF"):
            start = head.index(b"pixi") + 8
            return max(head[start + 1 : start + 1 + head[start]])
    except (ValueError, IndexError):
        pass
    return 8


def _is_damaged(image: Image.Image) -> bool:
    try:
        return not len(image.getexif())
    except Exception:  # damaged data fails in many ways
        return True
