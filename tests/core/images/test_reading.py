"""Reading image files of all modes and depths, compared with Pillow and numpy."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
import torch
from image_files import SIZES, array, cmyk_profile, message, needs_deep_png, noise, save, tensor, write_png, write_tiff
from perceptual_style.core.errors import ImageError
from perceptual_style.core.images import reading, tensors
from perceptual_style.core.images.reading import read_image
from PIL import Image, ImageCms

MODES = [
    ("1", "png"), ("1", "tif"), ("L", "png"), ("L", "jpg"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("PA", "tif"),
    ("RGB", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("RGBA", "tif"), ("CMYK", "tif"), ("CMYK", "jpg"),
    ("YCbCr", "tif"), ("YCbCr", "jpg"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "suffix"), MODES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_read_converts_each_mode_like_pillow(tmp_path, mode, suffix, height, width, monkeypatch):
    monkeypatch.setattr(tensors, "_BAND_PIXELS", 40)
    path = save(tmp_path / f"a.{suffix}", noise(height, width, 4 if "A" in mode else 3), mode)
    with Image.open(path) as image:
        try:
            want = image.convert("RGBA" if image.has_transparency_data else "RGB")
        except OSError:
            pytest.skip("this Pillow cannot read its own file")
    found = read_image(path)
    assert np.array_equal(array(found.pixels), np.asarray(want)[..., :3] / np.float32(255))
    assert (found.alpha is None) == (want.mode == "RGB")
    if found.alpha is not None:
        assert np.array_equal(array(found.alpha), np.asarray(want)[..., 3:] / np.float32(255))


def test_read_converts_hsv_like_pillow():
    image = Image.fromarray(noise(5, 4, 3)).convert("HSV")
    assert np.array_equal(array(reading._decode(image).pixels), np.asarray(image.convert("RGB")) / np.float32(255))


def test_lab_keeps_its_colors(tmp_path):
    data = np.uint8([[(200, 30, 60), (90, 120, 200), (255, 255, 255), (0, 0, 0), (128, 128, 128)]])
    profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(Image.fromarray(data), *profiles, outputMode="LAB")
    found = read_image(save(tmp_path / "a.tif", lab))
    assert np.abs(array(found.pixels) * 255 - data).max() <= 3


def test_transparent_palette_entries_and_colors_become_alpha(tmp_path):
    palette = Image.fromarray(np.uint8([[0, 1, 2]])).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = read_image(save(tmp_path / "a.png", palette, transparency=1))
    assert found.alpha.flatten().tolist() == [1, 0, 1]
    assert torch.equal(found.pixels, tensor(np.uint8([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]])))
    found = read_image(save(tmp_path / "b.png", palette, transparency=bytes([255, 51, 0])))
    assert torch.equal(found.alpha.flatten(), torch.tensor([255.0, 51, 0]) / 255)

    def alpha(*png):
        return read_image(write_png(tmp_path / "c.png", *png)).alpha.flatten().tolist()

    assert alpha(np.uint8([[[3], [4], [255]]]), 8, 0, struct.pack(">H", 4)) == [1, 0, 1]
    assert alpha(np.uint16([[[3], [4], [65535]]]), 16, 0, struct.pack(">H", 4)) == [1, 0, 1]
    assert alpha(np.uint8([[[1, 2, 3], [4, 5, 6]]]), 8, 2, struct.pack(">3H", 4, 5, 6)) == [1, 0]
    rgb = np.uint16([[[256, 2000, 30000], [4000, 50000, 65535]]])
    assert alpha(rgb, 16, 2, struct.pack(">3H", 4000, 50000, 65535)) == [1, 0]


def test_16_bit_colors_are_read_in_full(tmp_path):
    needs_deep_png(tmp_path)
    data = noise(4, 5, 4, top=65536, dtype=np.uint16)
    found = read_image(write_png(tmp_path / "a.png", data, 16, 6))
    assert np.array_equal(array(found.pixels), data[..., :3] / np.float32(65535))
    assert np.array_equal(array(found.alpha), data[..., 3:] / np.float32(65535))
    found = read_image(write_png(tmp_path / "b.png", data[..., :2], 16, 4))
    assert np.array_equal(array(found.pixels), data[..., [0, 0, 0]] / np.float32(65535))
    assert np.array_equal(array(found.alpha), data[..., 1:2] / np.float32(65535))
    body = data[..., :3].astype("<u2").tobytes()
    found = read_image(write_tiff(tmp_path / "c.tif", (5, 4), body, channels=3, photometric=2))
    assert np.array_equal(array(found.pixels), data[..., :3] / np.float32(65535))


def test_16_bit_tiff_in_separate_planes_needs_a_package(tmp_path, no_tifffile):
    body = noise(3, 4, 5, top=65536, dtype=np.uint16).tobytes()
    path = write_tiff(tmp_path / "a.tif", (5, 4), body, channels=3, photometric=2, planar=2)
    assert message(read_image, path).endswith("save it with interleaved channels")


def grey(path):
    """Return the one row of a grey image, after a check that it is grey."""
    planes = array(read_image(path).pixels)
    assert (planes == planes[..., :1]).all()
    return planes[0, :, 0]


def test_16_bit_grey_is_scaled_by_its_range(tmp_path):
    data = np.uint16([[0, 1, 256, 32768, 65535]])
    want = pytest.approx(data[0] / 65535, abs=1e-7)
    assert grey(save(tmp_path / "a.png", data)) == want
    assert grey(save(tmp_path / "a.tif", data)) == want
    assert grey(save(tmp_path / "b.tif", data, "I")) == want
    assert grey(save(tmp_path / "c.tif", Image.frombytes("I;16B", (5, 1), data.astype(">u2").tobytes()))) == want
    (tmp_path / "a.pgm").write_bytes(b"P5 5 1 65535\n" + data.astype(">u2").tobytes())
    assert grey(tmp_path / "a.pgm") == want
    dark = np.uint16([[0, 1, 2, 3]])
    assert grey(save(tmp_path / "d.png", dark)) == pytest.approx(dark[0] / 65535, abs=1e-9)


def test_grey_of_other_depths_is_scaled_by_its_range(tmp_path):
    path = tmp_path / "a.tif"
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x01])  # 0, 2048, 4095, 1 in 12 bits
    assert grey(write_tiff(path, (4, 1), packed, bits=12)) == pytest.approx(
        np.array([0, 2048, 4095, 1]) / 4095, abs=1e-7
    )
    data = np.array([0, 1, 40000, 65535], "<u2")
    assert grey(write_tiff(path, (4, 1), data.tobytes(), photometric=0)) == pytest.approx(1 - data / 65535, abs=1e-7)
    data = np.array([-5, 0, 20000, 32767], "<i2")
    assert grey(write_tiff(path, (4, 1), data.tobytes(), kind=2)) == pytest.approx(data.clip(0) / 32767, abs=1e-7)
    data = np.array([0, 2**31, 2**32 - 1], "<u4")
    assert grey(write_tiff(path, (3, 1), data.tobytes(), bits=32)) == pytest.approx(data / (2**32 - 1), abs=1e-7)
    data = np.array([-1, 2**30, 2**31 - 1], "<i4")
    assert grey(write_tiff(path, (3, 1), data.tobytes(), bits=32, kind=2)) == pytest.approx([0, 0.5, 1], abs=1e-7)
    data = np.array([0, 255, 65535], "<u4")
    assert grey(write_tiff(path, (3, 1), data.tobytes(), bits=32)) == pytest.approx(data / 65535, abs=1e-7)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes())
    assert grey(tmp_path / "a.pgm") == pytest.approx([0, 512 / 1023, 1], abs=1e-5)


@pytest.mark.parametrize(("top", "full"), [(0.5, 1), (1, 1), (1.5, 255), (255, 255), (300, 65535), (1e6, 1e6)])
def test_float_grey_is_scaled_by_its_largest_value(tmp_path, top, full):
    data = np.float32([[-0.25, 0, 0.25, top]])
    assert grey(save(tmp_path / "a.tif", data)) == pytest.approx(data[0].clip(0) / full, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_grey_must_be_finite(tmp_path, bad):
    path = save(tmp_path / "a.tif", np.float32([[0, bad, 1]]))
    assert message(read_image, path).endswith("some of its values are nan or infinite")


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_is_converted_by_its_profile(tmp_path, suffix):
    data = np.zeros((8, 24, 4), np.uint8)
    data[:, 8:16, 0], data[:, 16:, 3] = 255, 255  # paper, cyan, black
    path = save(tmp_path / f"a.{suffix}", Image.frombytes("CMYK", (24, 8), data.tobytes()), icc_profile=cmyk_profile())
    found = read_image(path)
    assert found.icc_profile is None
    middle = array(found.pixels)[4, [4, 12, 20]]
    assert middle == pytest.approx(np.array([[1] * 3, [119 / 255] * 3, [0] * 3]), abs=0.02)
    plain = save(
        tmp_path / f"b.{suffix}",
        Image.frombytes("CMYK", (24, 8), data.tobytes()),
        icc_profile=b"x" * 16 + b"CMYK" + b"x" * 200,
    )
    middle = array(read_image(plain).pixels)[4, [4, 12, 20]]
    assert middle == pytest.approx(np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0]]), abs=0.02)


def test_first_frame_of_an_animation_is_read(tmp_path):
    data = [np.full((4, 5, 3), value, np.uint8) for value in (0, 128, 255)]
    frames = [Image.fromarray(frame) for frame in data]
    for suffix, options in (("gif", {}), ("webp", {"lossless": True}), ("png", {}), ("tif", {})):
        path = tmp_path / f"a.{suffix}"
        frames[2].save(path, save_all=True, append_images=frames[:2], **options)
        assert torch.equal(read_image(path).pixels, torch.ones(1, 3, 4, 5))


def test_pillows_pixel_limit_is_bypassed_and_unchanged(tmp_path, monkeypatch):
    data = noise(5, 6, 3)
    paths = [save(tmp_path / f"a.{suffix}", data) for suffix in ("png", "bmp", "tif", "jpg", "ppm", "tga", "jp2")]
    paths.append(save(tmp_path / "b.tif", data, compression="tiff_lzw"))
    exif = Image.Exif()
    exif[0x0112] = 6
    paths.append(save(tmp_path / "c.tif", data.swapaxes(0, 1).copy(), exif=exif))
    webp = save(tmp_path / "a.webp", data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(tensors, "_BAND_PIXELS", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            assert read_image(path).pixels.shape == (1, 3, 5, 6)
    assert Image.MAX_IMAGE_PIXELS == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:  # in some versions of Pillow the WebP reader itself checks the limit
            assert read_image(webp).pixels.shape == (1, 3, 5, 6)
        except ImageError as error:
            assert "too many pixels for its format" in str(error)


def test_read_leaves_no_warnings_and_no_open_files(tmp_path):
    path = save(tmp_path / "a.png", noise(4, 4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
        read_image(str(path))
    path.unlink()
