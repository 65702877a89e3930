"""Files that are no readable image: the message says what they are, and "damaged" means damaged."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO

import numpy as np
import PIL
import pytest
from image_files import SRGB, array, message, noise, write_png, write_tiff
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.writing import save_images
from PIL import Image, features

STARTS = {
    "clip.mp4": (b"\0\0\0\x20ftypisom", "extract its frames"),
    "clip.mov": (b"\0\0\0\x14ftypqt  ", "extract its frames"),
    "clip.mkv": (b"\x1aE\xdf\xa3\x01\0\0\0", "extract its frames"),
    "clip.avi": (b"RIFF\x10\0\0\0AVI LIST", "extract its frames"),
    "a.jxl": (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    "a.exr": (b"v/1\x01\x02\0\0\0", "OpenEXR"),
    "a.hdr": (b"#?RADIANCE\n", "Radiance"),
    "a.dds": (b"DDS |\0\0\0", "DDS"),
    "a.ico": (b"\0\0\x01\0\x01\0", "icons"),
    "a.svg": (b"<svg xmlns=", "SVG"),
    "a.pdf": (b"%PDF-1.4", "PDF"),
    "page.jpg": (b"\n<!DOCTYPE html>", "web page"),
    "pointer.png": (b"version https://git-lfs", "git lfs pull"),
    "a.zip": (b"PK\x03\x04", "ZIP"),
    "raw.cr2": (b"II*\0\x10\0\0\0CR\x02\0", "raw file"),
}


@pytest.mark.parametrize("name", STARTS)
def test_message_names_the_kind_of_file(name, tmp_path):
    start, words = STARTS[name]
    (tmp_path / name).write_bytes(start + bytes(100))
    text = message(read_image, tmp_path / name)
    assert words in text and "damaged" not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 8, "channels": 5, "photometric": 2}, "5 channels of 8-bit integers"),
        ({"bits": 64, "kind": 3}, "1 channel of 64-bit floats"),
        ({"bits": 24, "channels": 3, "photometric": 2}, "3 channels of 24-bit integers"),
    ],
)
@pytest.mark.usefixtures("no_tifffile")
def test_sound_tiff_of_another_kind_is_not_called_damaged(options, words, tmp_path):
    size = options["bits"] // 8 * options.get("channels", 1) * 20
    text = message(read_image, write_tiff(tmp_path / "a.tif", (5, 4), bytes(size), **options))
    assert words in text and "not supported" in text and "damaged" not in text


def jpeg(marker=0xC0, bits=8, channels=3) -> bytes:
    file = BytesIO()
    Image.fromarray(noise(16, 16, 3)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    start = content.index(b"\xff\xc0")
    content[start + 1], content[start + 4], content[start + 9] = marker, bits, channels
    return bytes(content)


def psd(bits=8, version=1, compression=0) -> bytes:
    head = b"8BPS" + struct.pack(">H6xHIIHH", version, 3, 4, 5, bits, 3) + bytes(12)
    return head + struct.pack(">H", compression) + bytes(4 * 5 * 3 * bits // 8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (jpeg(bits=12), "a JPEG file of 3 channels of 12 bits is not supported"),
        (jpeg(marker=0xC3), "lossless, is not supported"),
        (jpeg(marker=0xF7), "JPEG-LS, is not supported"),
        (jpeg(channels=2), "a JPEG file of 2 channels of 8 bits is not supported"),
        (psd(bits=16), "a PSD file of 3 channels of 16 bits is not supported"),
        (psd(version=2), "a large document (PSB) is not supported"),
        (psd(compression=2), "its compression is not supported"),
        (b"\0\0\0\x18ftypcrx " + bytes(20), "raw file"),
        (b"IIRO\x08\0\0\0" + bytes(20), "raw file"),
    ],
)
def test_sound_file_of_another_kind_is_not_called_damaged(content, words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    text = message(read_image, tmp_path / "a.jpg")
    assert words in text and "damaged or incomplete" not in text


def test_truncated_files_are_called_damaged(tmp_path):
    for suffix in ("png", "tif", "jpg"):
        file = BytesIO()
        Image.fromarray(noise(40, 50, 3)).save(file, {"tif": "TIFF", "jpg": "JPEG"}.get(suffix, "PNG"))
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
        assert "damaged" in message(read_image, path)
    (tmp_path / "start.tif").write_bytes(b"II*\0\x08\0\0\0\x05\0")
    assert "damaged" in message(read_image, tmp_path / "start.tif")


def test_png_with_large_profile_and_text_is_read(tmp_path):
    data = noise(6, 5, 3)
    path = write_png(tmp_path / "a.png", data, 8, 2)
    profile = SRGB + bytes(1_300_000 - len(SRGB))

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    content = path.read_bytes()
    extra = [
        chunk(b"iCCP", b"large\0\0" + zlib.compress(profile)),
        chunk(b"zTXt", b"x\0\0" + zlib.compress(b"x" * (2 << 20))),
        chunk(b"iTXt", b"y\0\1\0de\0y\0" + zlib.compress(b"y" * (2 << 20))),
        chunk(b"zTXt", b"short\0\0" + zlib.compress(b"one")),
        chunk(b"iTXt", b"packed\0\1\0de\0\0" + zlib.compress(b"two")),
        chunk(b"iTXt", b"plain\0\0\0\0\0three"),
        chunk(b"tEXt", b"workflow\0" + b"w" * (2 << 20)),
    ]
    path.write_bytes(content[:33] + b"".join(extra) + content[33:])
    image = read_image(path)
    texts = {"short": "one", "packed": "two", "plain": "three", "workflow": "w" * (2 << 20)}
    assert image.metadata.texts == texts and image.notes == ("2 texts of more than 1 MB left out",)
    assert save_images(tmp_path / "b.png", [image]) is None
    assert read_image(tmp_path / "b.png").metadata.texts == texts
    assert np.array_equal((array(image.pixels) * 255).round(), data)
    assert image.icc_profile == profile


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipes_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert "a pipe or a device" in message(read_image, tmp_path / "a.png")
    if os.path.exists("/dev/zero"):
        assert "a pipe or a device" in message(read_image, "/dev/zero")


@pytest.mark.shared
def test_known_hard_images_are_read_or_named(shared_data):
    pytest.importorskip("tifffile")
    folder = shared_data / "hard_inputs" / "images"
    damaged = {"trunc.jpg"}
    unreadable = {"empty.png", "html.jpg", "text.png", "a.dds", "a.ico", "a.pcx", "a.sgi"}
    unreadable |= {
        "x.CR2",
        "x.exr",
        "x.hdr",
        "x.jxl",
        "x.svg",
        "t_rgb8_5ch.tif",
        *damaged,
    }
    if not features.check("avif"):
        assert "update" in message(read_image, folder / "alpha.avif")
        unreadable |= {path.name for path in folder.glob("*.avif")}
    older = {"ycc.tif"} if int(PIL.__version__.split(".")[0]) < 12 else set()  # which older Pillow calls truncated
    for path in sorted(path for path in folder.iterdir() if path.name not in older):
        if path.name in unreadable:
            assert ("damaged" in message(read_image, path)) == (path.name in damaged)
        else:
            read_image(path)
