"""Image files for tests, also of kinds that Pillow does not write, and the tensors of their pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import ImageError
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = [(1, 1), (1, 7), (5, 3), (32, 31)]
RANDOM = np.random.default_rng(7)


def noise(*shape: int, top: int = 256, dtype=np.uint8) -> np.ndarray:
    """Random integers from 0 to top - 1."""
    return RANDOM.integers(0, top, shape, dtype=dtype)


def tensor(data: np.ndarray) -> torch.Tensor:
    """Turn bytes (H, W, C) into (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(data.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]


def array(planes: torch.Tensor) -> np.ndarray:
    """Turn (1, C, H, W) into (H, W, C) float64."""
    return planes[0].permute(1, 2, 0).double().numpy()


def needs(suffix: str) -> None:
    """Skip the test unless this Pillow writes files with the suffix."""
    if Image.registered_extensions().get(suffix.lower()) not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {suffix}")


def needs_deep_png(folder: Path) -> None:
    """Skip the test unless this torchvision reads all 16 bits of PNG files."""
    from torchvision.io import ImageReadMode, decode_png

    content = write_png(folder / "probe.png", np.zeros((1, 1, 3), np.uint16), 16, 2).read_bytes()
    try:
        found = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    except RuntimeError as error:
        pytest.skip(f"this torchvision does not read PNG files of 16 bits: {error}")
    assert found.dtype == torch.uint16


def save(path: Path, data: np.ndarray | Image.Image, mode: str | None = None, **options) -> Path:
    """Write an array or an image with Pillow, converted to a mode; returns the path."""
    image = data if isinstance(data, Image.Image) else Image.fromarray(data)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def message(call, *args, **kwargs) -> str:
    """Return the message of the ImageError that a call raises: one line without Python's own words."""
    with pytest.raises(ImageError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert not any(word in text for word in ("Traceback", "Errno", "PIL", "<_io", "0x"))
    return text


def write_png(path: Path, data: np.ndarray, depth: int, color_type: int, transparent: bytes = b"") -> Path:
    """Write (H, W, C) numbers as a PNG file of any depth and color type; ``transparent`` is the body of tRNS."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = data.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in data)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = chunk(b"tRNS", transparent) if transparent else b""
    body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body)
    return path


def write_tiff(
    path: Path,
    size: tuple[int, int],
    body: bytes,
    bits: int = 16,
    kind: int = 1,
    photometric: int = 1,
    channels: int = 1,
    planar: int = 1,
) -> Path:
    """Write an uncompressed TIFF file of (width, height); ``kind`` is 1 unsigned, 2 signed, 3 float."""
    width, height = size
    planes = channels if planar == 2 else 1
    part = len(body) // planes
    entries = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * channels),
        (259, "H", [1]),  # no compression
        (262, "H", [photometric]),
        (273, "I", [1000 + part * i for i in range(planes)]),  # where each plane starts
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, "I", [part] * planes),
        (284, "H", [planar]),
        (339, "H", [kind] * channels),
    ]
    table, extra = struct.pack("<H", len(entries)), b""
    for tag, type_, values in entries:
        packed = struct.pack(f"<{len(values)}{type_}", *values)
        if len(packed) > 4:  # does not fit in the table
            packed, extra = struct.pack("<I", 500 + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, 3 if type_ == "H" else 4, len(values)) + packed.ljust(4, b"\0")
    start = (b"II*\0\x08\0\0\0" + table + b"\0\0\0\0").ljust(500, b"\0") + extra
    path.write_bytes(start.ljust(1000, b"\0") + body)
    return path


def cmyk_profile() -> bytes:
    """Return a CMYK profile in which cyan is mid-grey: ink by ink, lightness 100, 50 (cyan), 0 (anything else)."""
    white_point = struct.pack(">3i", 63190, 65536, 54061)
    grid = bytearray()
    for corner in range(16):  # c, m, y, k as bits, k the fastest
        grid += bytes((255 if corner == 0 else 128 if corner == 8 else 0, 128, 128))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + bytes(grid) + bytes(range(256)) * 3
    lut += b"\0" * (-len(lut) % 4)
    white = b"XYZ \0\0\0\0" + white_point
    offset = 128 + 4 + 2 * 12
    tags = struct.pack(">I", 2) + b"A2B0" + struct.pack(">II", offset, len(lut))
    tags += b"wtpt" + struct.pack(">II", offset + len(lut), len(white))
    header = struct.pack(">I", offset + len(lut) + len(white)) + b"\0\0\0\0\x02\x10\0\0prtrCMYKLab "
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + white_point
    return header.ljust(128, b"\0") + tags + lut + white
