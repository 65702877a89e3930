"""Image files against Pillow and numpy, and messages that a user can act on."""

import errno
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from perceptual_style.core import files
from perceptual_style.core.errors import ImageError
from perceptual_style.core.images import reading, tensors
from perceptual_style.core.images.folders import find_images
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.tensors import check_image
from perceptual_style.core.images.writing import save_image
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = [(1, 1), (1, 7), (5, 3), (32, 31)]
rng = np.random.default_rng(7)


def noise(*shape, top=256, dtype=np.uint8):
    return rng.integers(0, top, shape, dtype=dtype)


def tensor(data):
    """(1, C, H, W) in [0, 1] of bytes (H, W, C)."""
    return torch.from_numpy(data.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]


def array(planes):
    """(H, W, C) float64 of (1, C, H, W)."""
    return planes[0].permute(1, 2, 0).double().numpy()


def needs(suffix):
    if Image.registered_extensions().get(suffix.lower()) not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {suffix}")


def save(path, data, mode=None, **options):
    image = data if isinstance(data, Image.Image) else Image.fromarray(data)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def png(path, data, depth, color_type, transparent=b""):
    """A PNG file of (H, W, C) numbers, also of the kinds that Pillow does not write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = data.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in data)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = chunk(b"tRNS", transparent) if transparent else b""
    body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body)
    return path


def tiff(path, size, body, bits=16, kind=1, photometric=1, channels=1, planar=1):
    """An uncompressed TIFF file; ``kind`` is 1 unsigned, 2 signed, 3 float."""
    width, height = size
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    entries += [
        (273, 4, 1000),
        (277, 3, channels),
        (278, 4, height),
        (279, 4, len(body)),
        (284, 3, planar),
        (339, 3, kind),
    ]
    extra = b""
    table = struct.pack("<H", len(entries))
    for tag, type_, value in entries:
        count = channels if tag in (258, 339) or (planar == 2 and tag in (273, 279)) else 1
        values = [value] * count
        if planar == 2 and tag in (273, 279):
            part = len(body) // channels
            values = [1000 + part * i if tag == 273 else part for i in range(channels)]
        packed = struct.pack("<" + ("H" if type_ == 3 else "I") * count, *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", 500 + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, type_, count) + packed.ljust(4, b"\0")
    start = (b"II*\0\x08\0\0\0" + table + b"\0\0\0\0").ljust(500, b"\0") + extra
    path.write_bytes(start.ljust(1000, b"\0") + body)
    return path


def cmyk_profile():
    """A CMYK profile in which cyan is mid-grey: ink by ink, lightness 100, 50 (cyan), 0 (anything else)."""
    grid = bytearray()
    for corner in range(16):  # c, m, y, k as bits, k the fastest
        grid += bytes((255 if corner == 0 else 128 if corner == 8 else 0, 128, 128))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + bytes(grid) + bytes(range(256)) * 3
    lut += b"\0" * (-len(lut) % 4)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    offset = 128 + 4 + 2 * 12
    tags = struct.pack(">I", 2) + b"A2B0" + struct.pack(">II", offset, len(lut))
    tags += b"wtpt" + struct.pack(">II", offset + len(lut), len(white))
    size = offset + len(lut) + len(white)
    header = (
        struct.pack(">I", size)
        + b"\0\0\0\0"
        + b"\x02\x10\0\0"
        + b"prtrCMYKLab "
        + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    )
    header += b"acsp" + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + tags + lut + white


def message(call, *args, **kwargs):
    """The message of the ImageError that a call raises: one line without Python's own words."""
    with pytest.raises(ImageError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert not any(word in text for word in ("Traceback", "Errno", "PIL", "<_io", "0x"))
    return text


# Round trips


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG", ".tga", ".ppm", ".qoi"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossless_round_trip_is_exact(tmp_path, suffix, height, width):
    needs(suffix)
    pixels = tensor(noise(height, width, 3))
    assert save_image(tmp_path / f"a{suffix}", pixels) is None
    found = read_image(tmp_path / f"a{suffix}")
    assert found.pixels.dtype == torch.float32
    assert found.pixels.shape == (1, 3, height, width)
    assert torch.equal(found.pixels, pixels)
    assert (found.alpha, found.icc_profile, found.exif) == (None, None, None)
    check_image(found.pixels)


def test_every_level_of_8_bits_survives_and_others_round_to_the_nearest(tmp_path):
    levels = torch.arange(256, dtype=torch.float32)
    for shift in (0, 0.49, -0.49):
        pixels = ((levels + shift) / 255).expand(3, 1, 256)
        save_image(tmp_path / "a.png", pixels)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0], np.arange(256))


def test_values_outside_are_clamped_and_any_float_type_and_layout_is_taken(tmp_path):
    pixels = torch.tensor([-3.0, 0.5, 7.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 5)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        image = pixels.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        save_image(tmp_path / "a.png", image)
        assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jfif", ".webp", ".jp2", ".avif"])
def test_lossy_formats_stay_close(tmp_path, suffix):
    y, x = np.mgrid[0:48, 0:33]
    data = np.stack([x * 7, y * 5, 255 - x * 3 - y * 2], -1).astype(np.uint8)
    needs(suffix)
    save_image(tmp_path / f"a{suffix}", tensor(data))
    assert np.abs(array(read_image(tmp_path / f"a{suffix}").pixels) * 255 - data).mean() < 2.5


def test_jpeg_is_stored_without_chroma_subsampling(tmp_path):
    data = np.zeros((16, 16, 3), np.uint8)
    data[:, ::2] = (255, 0, 0)
    data[:, 1::2] = (0, 0, 255)
    save_image(tmp_path / "a.jpg", tensor(data))
    assert np.abs(array(read_image(tmp_path / "a.jpg").pixels) * 255 - data).max() < 12
    with Image.open(tmp_path / "a.jpg") as image:
        assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tga", ".qoi"])
def test_alpha_is_kept(tmp_path, suffix):
    needs(suffix)
    data = noise(9, 7, 4)
    assert save_image(tmp_path / f"a{suffix}", tensor(data[..., :3]), tensor(data[..., 3:])) is None
    found = read_image(tmp_path / f"a{suffix}")
    assert found.alpha.shape == (1, 1, 9, 7)
    assert torch.equal(found.alpha, tensor(data[..., 3:]))
    if suffix != ".webp":
        assert torch.equal(found.pixels, tensor(data[..., :3]))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_formats_without_alpha_are_flattened_on_white_and_say_so(tmp_path, suffix):
    pixels = torch.zeros(1, 3, 8, 8)
    alpha = torch.full((1, 1, 8, 8), 0.25)
    warning = save_image(tmp_path / f"a{suffix}", pixels, alpha)
    assert f"a{suffix}: " in warning
    assert "transparency (flattened on white)" in warning
    assert "\n" not in warning
    assert torch.allclose(read_image(tmp_path / f"a{suffix}").pixels, torch.tensor(0.75), atol=0.01)
    assert save_image(tmp_path / f"a{suffix}", pixels, torch.ones(1, 1, 8, 8)) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_color_profile_and_exif_are_kept(tmp_path, suffix):
    needs(suffix)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 1
    exif.get_ifd(0x8769)[0x920A] = 50.0
    exif.get_ifd(0x8825)[1] = "N"
    source = save(tmp_path / "source.jpg", noise(6, 8, 3), exif=exif, icc_profile=SRGB)
    first = read_image(source)
    assert first.icc_profile == SRGB
    warning = save_image(tmp_path / f"a{suffix}", first.pixels, icc_profile=first.icc_profile, exif=first.exif)
    assert warning is None
    second = read_image(tmp_path / f"a{suffix}")
    assert second.icc_profile == SRGB
    kept = Image.Exif()
    kept.load(second.exif)
    assert kept[0x010F] == "a maker"
    assert kept.get_ifd(0x8769)[0x920A] == 50.0
    assert kept.get_ifd(0x8825)[1] == "N"


def test_what_a_format_cannot_hold_is_said(tmp_path):
    warning = save_image(tmp_path / "a.bmp", torch.zeros(3, 2, 2), icc_profile=SRGB, exif=b"Exif\0\0MM\0*")
    assert warning.endswith("a.bmp: BMP cannot hold a color profile or EXIF")
    exif = Image.Exif()
    exif[0x010E] = "long " * 20000
    warning = save_image(tmp_path / "a.jpg", torch.zeros(3, 2, 2), exif=exif.tobytes())
    assert warning.endswith("a.jpg: JPEG cannot hold EXIF of more than 64 KB")
    assert read_image(tmp_path / "a.jpg").exif is None


# Orientation and metadata

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_every_orientation_is_made_upright_once(tmp_path, suffix, orientation):
    data = noise(3, 5, 4)
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "a model"
    exif.get_ifd(0x8769).update({40962: 5, 40963: 3})
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    found = read_image(save(tmp_path / f"a{suffix}", data, exif=exif, **options))
    upright = UPRIGHT[orientation](data)
    assert np.array_equal(array(found.pixels), array(tensor(upright[..., :3].copy())))
    assert np.array_equal(array(found.alpha), array(tensor(upright[..., 3:].copy())))
    kept = Image.Exif()
    kept.load(found.exif)
    assert 0x0112 not in kept
    assert kept[0x0110] == "a model"
    assert not {40962, 40963} & set(kept.get_ifd(0x8769))
    save_image(tmp_path / "again.png", found.pixels, found.alpha, exif=found.exif)
    assert torch.equal(read_image(tmp_path / "again.png").pixels, found.pixels)


def test_orientation_of_16_bit_grey_and_nonsense_orientations(tmp_path):
    data = noise(3, 5, top=65536, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = read_image(save(tmp_path / "a.png", data, exif=exif))
    assert np.allclose(array(found.pixels)[..., 0], np.rot90(data, -1) / 65535, atol=1e-7)
    for nonsense in (0, 9, 300):
        exif[0x0112] = nonsense
        assert read_image(save(tmp_path / "b.png", data, exif=exif)).pixels.shape == (1, 3, 3, 5)


def test_damaged_exif_does_not_hide_the_image(tmp_path):
    data = noise(3, 5, 3)
    for garbage in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x7f" * 30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read_image(save(tmp_path / "a.png", data, exif=garbage))
        assert torch.equal(found.pixels, tensor(data))


def test_layout_of_a_tiff_file_does_not_go_into_the_exif_of_another(tmp_path):
    source = save(tmp_path / "a.tif", noise(6, 8, 3), compression="tiff_lzw", icc_profile=SRGB, description="a text")
    found = read_image(source)
    kept = Image.Exif()
    kept.load(found.exif)
    assert kept[270] == "a text"
    assert not {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 34675} & set(kept)


@pytest.mark.parametrize("profile", [b"", b"short", b"x" * 200, cmyk_profile()])
def test_unusable_profiles_are_not_kept(tmp_path, profile):
    assert read_image(save(tmp_path / "a.png", noise(2, 3, 3), icc_profile=profile)).icc_profile is None


def test_a_grey_profile_is_not_kept_on_rgb(tmp_path):
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    assert read_image(save(tmp_path / "a.png", noise(2, 3), icc_profile=grey)).icc_profile is None
    assert read_image(save(tmp_path / "b.png", noise(2, 3), icc_profile=SRGB)).icc_profile == SRGB


# Modes

MODES = [
    ("1", "png"),
    ("1", "tif"),
    ("L", "png"),
    ("L", "jpg"),
    ("LA", "png"),
    ("P", "png"),
    ("P", "gif"),
    ("PA", "tif"),
]
MODES += [("RGB", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("RGBA", "tif"), ("CMYK", "tif"), ("CMYK", "jpg")]
MODES += [("YCbCr", "tif"), ("YCbCr", "jpg")]


@pytest.mark.parametrize(("mode", "suffix"), MODES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_modes_as_pillow_converts_them(tmp_path, mode, suffix, height, width, monkeypatch):
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


def test_hsv():
    image = Image.fromarray(noise(5, 4, 3)).convert("HSV")
    assert np.array_equal(array(reading._decode(image).pixels), np.asarray(image.convert("RGB")) / np.float32(255))


def test_lab_shows_the_colors_it_was_made_of(tmp_path):
    data = np.uint8([[(200, 30, 60), (90, 120, 200), (255, 255, 255), (0, 0, 0), (128, 128, 128)]])
    profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(Image.fromarray(data), *profiles, outputMode="LAB")
    found = read_image(save(tmp_path / "a.tif", lab))
    assert np.abs(array(found.pixels) * 255 - data).max() <= 3


def test_transparent_palette_entries_and_colors(tmp_path):
    palette = Image.fromarray(np.uint8([[0, 1, 2]])).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = read_image(save(tmp_path / "a.png", palette, transparency=1))
    assert found.alpha.flatten().tolist() == [1, 0, 1]
    assert torch.equal(found.pixels, tensor(np.uint8([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]])))
    found = read_image(save(tmp_path / "b.png", palette, transparency=bytes([255, 51, 0])))
    assert torch.equal(found.alpha.flatten(), torch.tensor([255.0, 51, 0]) / 255)

    data = np.uint8([[[3], [4], [255]]])
    assert read_image(png(tmp_path / "c.png", data, 8, 0, struct.pack(">H", 4))).alpha.flatten().tolist() == [1, 0, 1]
    wide = np.uint16([[[3], [4], [65535]]])
    assert read_image(png(tmp_path / "d.png", wide, 16, 0, struct.pack(">H", 4))).alpha.flatten().tolist() == [1, 0, 1]
    rgb = np.uint8([[[1, 2, 3], [4, 5, 6]]])
    assert read_image(png(tmp_path / "e.png", rgb, 8, 2, struct.pack(">3H", 4, 5, 6))).alpha.flatten().tolist() == [
        1,
        0,
    ]
    rgb = np.uint16([[[256, 2000, 30000], [4000, 50000, 65535]]])
    key = struct.pack(">3H", 4000, 50000, 65535)
    assert read_image(png(tmp_path / "f.png", rgb, 16, 2, key)).alpha.flatten().tolist() == [1, 0]


def test_color_png_of_16_bits_is_read_by_its_upper_8(tmp_path):
    data = noise(4, 5, 4, top=65536, dtype=np.uint16)
    found = read_image(png(tmp_path / "a.png", data, 16, 6))
    assert np.array_equal(array(found.pixels), (data[..., :3] >> 8) / np.float32(255))
    assert np.array_equal(array(found.alpha), (data[..., 3:] >> 8) / np.float32(255))
    found = read_image(png(tmp_path / "b.png", data[..., :2], 16, 4))
    assert np.array_equal(array(found.pixels), (data[..., [0, 0, 0]] >> 8) / np.float32(255))
    assert np.array_equal(array(found.alpha), (data[..., 1:2] >> 8) / np.float32(255))
    body = data[..., :3].astype("<u2").tobytes()
    found = read_image(tiff(tmp_path / "c.tif", (5, 4), body, channels=3, photometric=2))
    assert np.array_equal(array(found.pixels), (data[..., :3] >> 8) / np.float32(255))


def test_color_tiff_of_16_bits_in_planes_is_refused_instead_of_misread(tmp_path):
    body = noise(3, 4, 5, top=65536, dtype=np.uint16).tobytes()
    path = tiff(tmp_path / "a.tif", (5, 4), body, channels=3, photometric=2, planar=2)
    assert message(read_image, path).endswith("save it with interleaved channels")


def grey(path):
    planes = array(read_image(path).pixels)
    assert (planes == planes[..., :1]).all()
    return planes[0, :, 0]


def test_grey_of_16_bits_is_scaled_by_its_range(tmp_path):
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


def test_grey_of_other_widths_is_scaled_by_its_range(tmp_path):
    path = tmp_path / "a.tif"
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x01])  # 0, 2048, 4095, 1 in 12 bits
    assert grey(tiff(path, (4, 1), packed, bits=12)) == pytest.approx(np.array([0, 2048, 4095, 1]) / 4095, abs=1e-7)
    data = np.array([0, 1, 40000, 65535], "<u2")
    assert grey(tiff(path, (4, 1), data.tobytes(), photometric=0)) == pytest.approx(1 - data / 65535, abs=1e-7)
    data = np.array([-5, 0, 20000, 32767], "<i2")
    assert grey(tiff(path, (4, 1), data.tobytes(), kind=2)) == pytest.approx(data.clip(0) / 32767, abs=1e-7)
    data = np.array([0, 2**31, 2**32 - 1], "<u4")
    assert grey(tiff(path, (3, 1), data.tobytes(), bits=32)) == pytest.approx(data / (2**32 - 1), abs=1e-7)
    data = np.array([-1, 2**30, 2**31 - 1], "<i4")
    assert grey(tiff(path, (3, 1), data.tobytes(), bits=32, kind=2)) == pytest.approx([0, 0.5, 1], abs=1e-7)
    data = np.array([0, 255, 65535], "<u4")
    assert grey(tiff(path, (3, 1), data.tobytes(), bits=32)) == pytest.approx(data / 65535, abs=1e-7)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes())
    assert grey(tmp_path / "a.pgm") == pytest.approx([0, 512 / 1023, 1], abs=1e-5)


@pytest.mark.parametrize(("top", "full"), [(0.5, 1), (1, 1), (1.5, 255), (255, 255), (300, 65535), (1e6, 1e6)])
def test_grey_of_floats_is_scaled_by_what_it_holds(tmp_path, top, full):
    data = np.float32([[-0.25, 0, 0.25, top]])
    assert grey(save(tmp_path / "a.tif", data)) == pytest.approx(data[0].clip(0) / full, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_grey_of_floats_must_be_finite(tmp_path, bad):
    path = save(tmp_path / "a.tif", np.float32([[0, bad, 1]]))
    assert message(read_image, path).endswith("some of its values are nan or infinite")


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_goes_through_its_profile(tmp_path, suffix):
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


def test_first_frame_of_an_animation(tmp_path):
    data = [np.full((4, 5, 3), value, np.uint8) for value in (0, 128, 255)]
    frames = [Image.fromarray(frame) for frame in data]
    for suffix, options in (("gif", {}), ("webp", {"lossless": True}), ("png", {}), ("tif", {})):
        path = tmp_path / f"a.{suffix}"
        frames[2].save(path, save_all=True, append_images=frames[:2], **options)
        assert torch.equal(read_image(path).pixels, torch.ones(1, 3, 4, 5))


def test_pillows_limit_on_pixels_does_not_apply_and_is_left_alone(tmp_path, monkeypatch):
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
        try:  # whose own reader checks the limit, in some versions of Pillow
            assert read_image(webp).pixels.shape == (1, 3, 5, 6)
        except ImageError as error:
            assert "too many pixels for its format" in str(error)


# Files that are not images


def test_what_is_not_an_image_file_is_said_in_one_line(tmp_path):
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
def test_truncated_files_are_refused_wherever_they_end(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 16, 3))
    whole = path.read_bytes()
    for kept in (1, 2, 5, 12, 20, 40, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert message(read_image, path).startswith(f"cannot read {path}: ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "jp2"])
def test_damaged_files_give_an_image_or_one_line(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 16, 3))
    whole = path.read_bytes()
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[noise(3, top=min(len(whole), 400), dtype=np.int64)] = noise(3)
        path.write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_image(read_image(path).pixels)
            except ImageError as error:
                assert "\n" not in str(error)


def test_a_damaged_start_is_not_called_another_kind_of_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert message(read_image, path) == f"cannot read {path}: the PNG file is damaged or incomplete"
    path.write_bytes(b"\xff\xd8\xff")
    assert message(read_image, path) == f"cannot read {path}: the JPEG file is damaged or incomplete"


def test_programs_in_disguise_are_not_run(tmp_path):
    for start in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xd7\xcd\xc6\x9a" + b"\0" * 60):
        (tmp_path / "a.png").write_bytes(start)
        assert "expected an image" in message(read_image, tmp_path / "a.png")


def test_no_permission_to_read(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(2, 2, 3))

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert message(read_image, path) == f"cannot read {path}: Permission denied"


def test_no_memory(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(2, 2, 3))

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    assert message(read_image, path) == f"cannot read {path}: not enough memory for its pixels"


# Writing that fails


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "out.png"
    path.write_text("old")
    return path


def test_a_full_disk_leaves_the_old_file(old, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, function in ((files.os, "fsync"), (files.os, "replace"), (files.os, "open"), (Path, "write_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, full)
            assert message(save_image, old, torch.zeros(3, 2, 2)) == f"cannot write {old}: No space left on device"
        assert old.read_text() == "old"
        assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".jp2", ".bmp"])
def test_a_write_that_stops_halfway_leaves_the_old_file(old, suffix):
    resource = pytest.importorskip("resource")
    path = old.with_suffix(suffix)
    path.write_text("old")
    before = set(old.parent.iterdir())
    pixels = torch.from_numpy(rng.random((3, 64, 64), np.float32))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        text = message(save_image, path, pixels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text == f"cannot write {path}: File too large"
    assert path.read_text() == "old"
    assert set(old.parent.iterdir()) == before


def test_places_and_formats_that_cannot_be_written(old):
    pixels = torch.zeros(3, 2, 2)
    folder = old.parent
    (folder / "folder.png").mkdir()
    assert message(save_image, folder / "folder.png", pixels).endswith("folder.png: Is a directory")
    assert message(save_image, old / "a.png", pixels).endswith("a.png: Not a directory")
    assert message(save_image, folder / "a.docx", pixels).endswith("such as .png, .jpg, .webp or .tif, got .docx")
    assert message(save_image, folder / "a", pixels).endswith("such as .png, .jpg, .webp or .tif, got none")
    assert message(save_image, folder / "a.eps", pixels).endswith("got .eps")
    wide = torch.zeros(3, 1, 70000)
    assert "JPEG has at most 65500 pixels a side, got 70000 x 1; use .png" in message(
        save_image, folder / "a.jpg", wide
    )
    assert "WEBP has at most 16383 pixels a side" in message(save_image, folder / "a.webp", wide)
    assert sorted(path.name for path in folder.iterdir()) == ["folder.png", "out.png"]
    save_image(folder / "new" / "folders" / "a.png", pixels)
    assert read_image(folder / "new" / "folders" / "a.png").pixels.shape == (1, 3, 2, 2)


def test_tensors_that_cannot_be_written(old):
    good = torch.zeros(1, 3, 4, 5)
    wanted = "expected pixels as a float tensor (1, 3, H, W), got "
    for bad, got in (
        (torch.zeros(2, 3, 4, 5), "shape (2, 3, 4, 5)"),
        (torch.zeros(1, 4, 4, 5), "shape (1, 4, 4, 5)"),
        (torch.zeros(4, 5), "shape (4, 5)"),
        (torch.zeros(1, 3, 0, 5), "shape (1, 3, 0, 5)"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "torch.uint8"),
        (None, "NoneType"),
    ):
        assert message(save_image, old, bad) == f"cannot write {old}: {wanted}{got}"
    assert message(save_image, old, good * torch.nan).endswith("some of the pixels are nan or infinite")
    wanted = "expected alpha as a float tensor (1, 1, 4, 5), got "
    assert message(save_image, old, good, torch.zeros(1, 1, 5, 4)).endswith(f"{wanted}shape (1, 1, 5, 4)")
    assert message(save_image, old, good, torch.zeros(4, 5)).endswith(f"{wanted}shape (4, 5)")
    assert old.read_text() == "old"


# Tensors and folders


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_good_images_pass(dtype):
    check_image(torch.rand(2, 3, 4, 5).to(dtype))
    check_image(torch.rand(1, 1, 1, 1).to(dtype).requires_grad_(), channels=1)
    check_image(torch.tensor([-0.0009, 1.0009, 0]).reshape(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((1, 3, 4, 5), np.float32), "got ndarray"),
        (None, "got NoneType"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "got torch.uint8; use image.float() / 255"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(3, 4, 5), "got shape (3, 4, 5); use image[None]"),
        (torch.zeros(4, 5), "got shape (4, 5)"),
        (torch.zeros(1, 4, 5, 3), "got shape (1, 4, 5, 3); use image.permute(0, 3, 1, 2)"),
        (torch.zeros(1, 4, 5, 6), "got shape (1, 4, 5, 6); remove alpha with image[:, :3]"),
        (torch.zeros(1, 1, 5, 6), "got shape (1, 1, 5, 6); use image.expand(-1, 3, -1, -1)"),
        (torch.zeros(0, 3, 5, 6), "got shape (0, 3, 5, 6)"),
        (torch.zeros(1, 3, 0, 6), "got shape (1, 3, 0, 6)"),
        (torch.full((1, 3, 2, 2), torch.nan), "got values that are nan or infinite"),
        (torch.tensor([0, torch.inf, 1]).reshape(1, 3, 1, 1), "got values that are nan or infinite"),
        (
            torch.tensor([0, 9.0, 255]).reshape(1, 3, 1, 1),
            "got values from 0 to 255; they look like 0..255: divide by 255",
        ),
        (
            torch.tensor([-1, 0.0, 1]).reshape(1, 3, 1, 1),
            "got values from -1 to 1; they look like -1..1: use (image + 1) / 2",
        ),
        (
            torch.tensor([-2, 0, 2.5]).reshape(1, 3, 1, 1),
            "got values from -2 to 2.5; clamp them, or undo a normalization",
        ),
        (
            torch.tensor([0, 0, 1.01]).reshape(1, 3, 1, 1),
            "got values from 0 to 1.01; clamp them, or undo a normalization",
        ),
    ],
)
def test_bad_images_are_refused_with_what_to_do(image, got):
    wanted = "content: expected a float tensor (N, 3, H, W) with values in [0, 1], "
    assert message(check_image, image, name="content") == wanted + got


def test_images_of_folders(tmp_path):
    for name in (
        "b/2.PNG",
        "b/10.jpeg",
        "a.jpg",
        "c.txt",
        ".hidden.png",
        ".cache/x.png",
        "d.png/e.webp",
        "notes.png.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [tmp_path / name for name in ("a.jpg", "b/10.jpeg", "b/2.PNG", "d.png/e.webp")]
    assert find_images(tmp_path) == found
    assert find_images(str(tmp_path)) == found
    assert find_images([tmp_path / "c.txt", tmp_path / "b", tmp_path, str(tmp_path / "a.jpg")]) == [
        tmp_path / "c.txt",
        *found[1:3],
        found[0],
        found[3],
    ]
    assert find_images([]) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_to_folders_are_followed_each_folder_once(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "photos"
    for place in (elsewhere, folder / "own"):
        place.mkdir(parents=True)
        (place / "a.png").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert find_images(folder) == [folder / "linked" / "a.png", folder / "own" / "a.png"]


def test_folders_without_images(tmp_path):
    (tmp_path / "c.txt").write_text("")
    missing = tmp_path / "missing"
    assert message(find_images, [tmp_path]).startswith(f"the folder {tmp_path} has no images; ")
    assert (
        message(find_images, [missing]) == f"{missing} does not exist; expected an image file or a folder with images"
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_folders_that_cannot_be_listed(tmp_path):
    tmp_path.chmod(0)
    try:
        assert message(find_images, [tmp_path]) == f"cannot list the folder {tmp_path}: Permission denied"
    finally:
        tmp_path.chmod(0o700)


def test_reading_is_free_of_warnings_and_open_files(tmp_path):
    path = save(tmp_path / "a.png", noise(4, 4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
        read_image(str(path))
    path.unlink()
