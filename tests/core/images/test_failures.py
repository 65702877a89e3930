"""Files that are not images, or are damaged, give errors that a user can act on."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import numpy as np
import pytest
from image_files import message, noise, save
from perceptual_style.core.errors import ImageError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.tensors import check_image


def test_files_that_are_not_images_give_one_line_errors(tmp_path):
    path = tmp_path / "a.png"
    assert message(read_image, path) == f"cannot read {path}: there is no such file"
    assert message(read_image, tmp_path) == f"cannot read {tmp_path}: it is a folder; expected an image file"
    path.write_text("hello world, this is no image")
    assert "expected an image such as PNG, JPEG, WebP or TIFF, but the file starts with b'hello" in message(
        read_image, path
    )
    path.write_bytes(b"")
    assert message(read_image, path) == f"cannot read {path}: the file is empty (0 bytes); copy or download it again"
    assert "null" in message(read_image, "a\0b.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif", "jp2", "tga", "ppm"])
def test_truncated_files_are_rejected_wherever_they_end(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 16, 3))
    whole = path.read_bytes()
    for kept in (1, 2, 5, 12, 20, 40, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert message(read_image, path).startswith(f"cannot read {path}: ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "jp2", "bmp", "tga"])
def test_damaged_files_give_an_image_or_a_one_line_error(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 16, 3))
    whole = path.read_bytes()
    for _ in range(20 if suffix in ("jp2", "tif") else 100):  # their decoders take long
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[noise(3, top=min(len(whole), 400), dtype=np.int64)] = noise(3)
        path.write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_image(read_image(path).pixels)
            except ImageError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("side", [0, 4])
def test_jpeg_2000_with_a_wrong_size_in_its_header_is_rejected_before_it_takes_memory(tmp_path, side):
    path = save(tmp_path / "a.jp2", noise(16, 16, 3))
    content = bytearray(path.read_bytes())
    at = content.index(b"ihdr") + 4 + side
    content[at : at + 4] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(content)
    assert message(read_image, path) == f"cannot read {path}: the JPEG2000 file is damaged or incomplete"


QOI = b"qoif\0\0\0\x10\0\0\0\x10\3\0" + b"\xc0" * 256 + b"\0" * 7 + b"\1"
PSD = b"8BPS\0\1" + b"\0" * 7 + b"\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + b"\0" * 14 + b"\x7f" * 768


@pytest.mark.parametrize(
    ("suffix", "content", "width", "order"),
    [("bmp", b"", 18, "little"), ("qoi", QOI, 4, "big"), ("psd", PSD, 18, "big"), ("ppm", b"", 3, "text")],
)
def test_file_that_cannot_hold_the_size_in_its_header_is_rejected_before_it_takes_memory(
    tmp_path, suffix, content, width, order
):
    path = tmp_path / f"a.{suffix}"
    whole = content or save(path, noise(16, 16, 3)).read_bytes()
    path.write_bytes(whole)
    assert read_image(path).pixels.shape[-2:] == (16, 16)
    old, new = (b"16", b"99999999") if order == "text" else (whole[width : width + 4], (2**27).to_bytes(4, order))
    path.write_bytes(whole[:width] + new + whole[width + len(old) :])
    assert message(read_image, path).endswith(f"the {suffix.upper()} file is damaged or incomplete")


def test_jpeg_2000_box_beyond_the_end_of_the_file_is_rejected(tmp_path):
    path = save(tmp_path / "a.jp2", noise(16, 16, 3))
    content = path.read_bytes()
    at = content.index(b"jp2c") - 4
    path.write_bytes(content[:at] + b"\0\0\0\1uuid" + b"\xff" * 8 + content[at:])
    assert message(read_image, path) == f"cannot read {path}: the JPEG2000 file is damaged or incomplete"


def test_damaged_file_is_named_by_its_format(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert message(read_image, path) == f"cannot read {path}: the PNG file is damaged or incomplete"
    path.write_bytes(b"\xff\xd8\xff")
    assert message(read_image, path) == f"cannot read {path}: the JPEG file is damaged or incomplete"


def test_eps_and_wmf_are_not_opened(tmp_path):
    for start in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xd7\xcd\xc6\x9a" + b"\0" * 60):
        (tmp_path / "a.png").write_bytes(start)
        assert any(each in message(read_image, tmp_path / "a.png") for each in ("expected an image", "PostScript"))


def test_read_without_permission(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(2, 2, 3))

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert message(read_image, path) == f"cannot read {path}: Permission denied"


def test_read_without_enough_memory(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(2, 2, 3))

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    assert message(read_image, path) == f"cannot read {path}: not enough memory for its pixels"
