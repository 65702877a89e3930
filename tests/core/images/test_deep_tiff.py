"""TIFF files with more than 8 bits per channel are read and written in full; tifffile is the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import SRGB, array, message, noise
from perceptual_style.core.images import deep_tiff
from perceptual_style.core.images.metadata import Metadata
from perceptual_style.core.images.reading import (
    ImageFile,
    count_frames,
    decode_frames,
    image_size,
    open_file,
    read_image,
)
from perceptual_style.core.images.writing import save_images
from PIL import Image

tifffile = pytest.importorskip("tifffile")

LAYOUTS = [
    {}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"compression": "lzw"}, {"byteorder": ">"},
    {"tile": (16, 16)}, {"tile": (32, 16), "compression": "zlib"}, {"rowsperstrip": 3}, {"bigtiff": True},
]  # fmt: skip


def write(path, data, **options):
    try:
        tifffile.imwrite(path, data, photometric="rgb" if data.ndim == 3 else "minisblack", metadata=None, **options)
    except (ValueError, KeyError, ImportError) as error:
        pytest.skip(f"tifffile cannot write it here: {error}")
    return path


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("channels", [3, 4])
def test_all_16_bits_are_read_without_tifffile(layout, channels, tmp_path, no_tifffile):
    data = noise(37, 29, channels, top=65536, dtype=np.uint16)
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    found = read_image(write(tmp_path / "a.tif", data, **layout, **more))
    assert found.bits == 16 and found.notes == ()
    assert np.allclose(array(found.pixels), data[..., :3] / 65535, atol=1e-7)
    if channels == 4:
        assert np.allclose(array(found.alpha), data[..., 3:] / 65535, atol=1e-7)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [None, "tiff_deflate", "tiff_lzw"])
def test_16_bits_are_written(channels, compression, tmp_path):
    if compression == "tiff_lzw":
        pytest.importorskip("imagecodecs", reason="tifffile reads LZW with imagecodecs")
    data = noise(13, 10, channels, top=65536, dtype=np.uint16)
    planes = torch.from_numpy(data.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    alpha = planes[:, 3:] if channels == 4 else None
    if compression:
        content = deep_tiff.deep_tiff([data], {"compression": compression})
        (tmp_path / "a.tif").write_bytes(content)
    else:
        assert save_images(tmp_path / "a.tif", [ImageFile(planes[:, :3], alpha, bits=16)]) is None
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert np.array_equal(file.pages[0].asarray(), data)
    again = read_image(tmp_path / "a.tif")
    assert again.bits == 16 and torch.equal(again.pixels, planes[:, :3])
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), data[..., :3] >> 8)


@pytest.mark.parametrize("depths", [(16, 16, 16), (8, 16, 8)])
def test_pages_of_16_bits_are_written(depths, tmp_path):
    sizes = [(13, 10), (7, 300), (5, 6)]
    pages = [torch.rand(1, 3, *size) for size in sizes]
    images = [ImageFile(page, bits=bits) for page, bits in zip(pages, depths, strict=True)]
    images[1] = replace(images[1], alpha=torch.rand(1, 1, *sizes[1]))
    assert save_images(tmp_path / "a.tif", iter(images)) is None
    with open_file(tmp_path / "a.tif") as file:
        found = list(decode_frames(file, "a.tif"))
    for page, image, bits in zip(found, images, depths, strict=True):
        assert page.bits == 16 and torch.allclose(page.pixels, image.pixels, atol=0.51 / (2**bits - 1))
        assert torch.allclose(page.alpha, torch.ones(()) if image.alpha is None else image.alpha, atol=1e-5)


def test_signed_integers_are_read(tmp_path):
    data = noise(5, 6, 3, top=32768, dtype=np.int16)
    data[0, 0] = -5
    found = read_image(write(tmp_path / "a.tif", data))
    assert np.allclose(array(found.pixels), data.clip(0) / 32767, atol=1e-6)


def test_profile_exif_and_metadata_are_kept(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "a model"
    image = ImageFile(
        torch.rand(1, 3, 4, 5), None, SRGB, exif.tobytes(), Metadata(dpi=(300.0, 300.0), xmp=b"<x/>"), bits=16
    )
    assert save_images(tmp_path / "a.tif", [image]) is None
    found = read_image(tmp_path / "a.tif")
    assert (found.bits, found.icc_profile, found.metadata.dpi) == (16, SRGB, (300.0, 300.0))
    assert b"a model" in found.exif and found.metadata.xmp == b"<x/>"


@pytest.mark.parametrize(
    ("dtype", "top", "full"),
    [("float32", 1, 1), ("float64", 1, 1), ("float16", 1, 1), ("float32", 200, 255), ("float32", 1e5, 1e5)]
    + [("uint32", 2**32 - 1, 2**32 - 1), ("uint32", 60000, 65535)],
)
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_floats_and_32_bits_are_read(dtype, top, full, planar, tmp_path):
    data = (np.random.default_rng(3).random((9, 7, 3)) * top).astype(dtype)
    data[0, 0, 0] = top
    stored = np.moveaxis(data, 2, 0) if planar == "separate" else data
    path = write(tmp_path / "a.tif", np.ascontiguousarray(stored), planarconfig=planar)
    found = read_image(path)
    assert found.bits == 16 and found.pixels.shape == (1, 3, 9, 7)
    assert np.allclose(array(found.pixels), data.astype(np.float64) / full, atol=1e-6)
    with path.open("rb") as file:
        assert image_size(file, "a.tif") == (9, 7) and count_frames(file, "a.tif") == 1
        assert torch.equal(next(iter(decode_frames(file, "a.tif"))).pixels, found.pixels)


def test_separate_planes_of_16_bits_are_read(tmp_path):
    data = noise(3, 9, 7, top=65536, dtype=np.uint16)
    found = read_image(write(tmp_path / "a.tif", data, planarconfig="separate"))
    assert np.allclose(found.pixels[0].numpy(), data / 65535, atol=1e-7)


def test_orientation_and_profile_of_floats_are_kept(tmp_path):
    data = np.random.default_rng(4).random((4, 6, 3)).astype(np.float32)
    path = write(tmp_path / "a.tif", data, iccprofile=SRGB, extratags=[(274, "H", 1, 6, True)])
    found = read_image(path)
    assert found.icc_profile == SRGB and found.pixels.shape == (1, 3, 6, 4)
    assert np.allclose(array(found.pixels), np.rot90(data, -1), atol=1e-6)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_are_turned_upright(orientation, planar, tmp_path):
    data = noise(4, 6, 3, top=65536, dtype=np.uint16)
    stored = np.moveaxis(data, 2, 0).copy() if planar == "separate" else data
    path = write(tmp_path / "a.tif", stored, planarconfig=planar, extratags=[(274, "H", 1, orientation, True)])
    found = read_image(path)
    expected = deep_tiff.turned_upright(torch.from_numpy(data.astype(np.float32)).permute(2, 0, 1), orientation) / 65535
    assert torch.allclose(found.pixels[0], expected, atol=1e-7)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_fourth_channel_is_what_the_file_says(kind, dtype, tmp_path):
    data = np.random.default_rng(5).random((6, 7, 4)).astype(np.float32).clip(0.1, 1)
    if kind == "assocalpha":
        data[..., :3] *= data[..., 3:]
    full = 65535 if dtype == "uint16" else 1
    found = read_image(write(tmp_path / "a.tif", (data * full).astype(dtype), extrasamples=[kind]))
    colors = data[..., :3] / data[..., 3:] if kind == "assocalpha" else data[..., :3]
    assert np.allclose(array(found.pixels), colors, atol=2e-3 if kind == "assocalpha" else 1e-4)
    if kind == "unspecified":
        assert found.alpha is None
    else:
        assert np.allclose(array(found.alpha), data[..., 3:], atol=1e-4)


def test_cmyk_of_16_bits_is_no_rgb_with_alpha(tmp_path):
    data = noise(6, 7, 4, top=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="separated", metadata=None)
    found = read_image(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert np.allclose(array(found.pixels) * 255, np.asarray(image.convert("RGB"), np.float32), atol=1e-3)
    assert found.notes == ("only the upper 8 bits of each channel are read",)


def test_size_is_read_without_pixels(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((2, 2, 3), np.float32))
    content = bytearray(path.read_bytes())
    for tag in (b"\0\1\4\0", b"\1\1\4\0", b"\0\1\3\0", b"\1\1\3\0"):
        if (at := content.find(tag)) >= 0:
            content[at + 2 : at + 12] = b"\4\0\1\0\0\0" + (200_000).to_bytes(4, "little")
    path.write_bytes(content)
    with path.open("rb") as file:
        assert image_size(file, "a.tif") == (200_000, 200_000)


def test_values_that_are_not_finite_are_rejected(tmp_path):
    data = np.full((3, 3, 3), np.nan, np.float32)
    assert "some of its values are nan or infinite" in message(read_image, write(tmp_path / "a.tif", data))


@pytest.mark.parametrize("pages", [2, 3])
def test_all_pages_are_read_in_full(pages, tmp_path):
    data = noise(pages, 8, 9, 3, top=65536, dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in data:
            writer.write(page, photometric="rgb", metadata=None)
    with (tmp_path / "a.tif").open("rb") as file:
        found = list(decode_frames(file, "a.tif"))
    assert len(found) == pages
    for each, page in zip(found, data, strict=True):
        assert np.allclose(array(each.pixels), page / 65535, atol=1e-7)


def test_missing_package_is_named(tmp_path, no_tifffile):
    path = write_without(tmp_path / "a.tif", np.zeros((3, 4, 3), np.float32))
    assert 'pip install "perceptual-style[tiff]", or save it as RGB' in message(read_image, path)
    path = write_without(tmp_path / "b.tif", noise(3, 9, 7, top=65536, dtype=np.uint16), planarconfig="separate")
    assert 'pip install "perceptual-style[tiff]"' in message(read_image, path)
    premultiplied = noise(5, 6, 4, top=65536, dtype=np.uint16)
    path = write_without(tmp_path / "c.tif", premultiplied, extrasamples=["assocalpha"])
    assert read_image(path).notes == ("only the upper 8 bits of each channel are read",)


def write_without(path, data, **options):
    """Write with the tifffile that this module imported, while the code finds none."""
    tifffile.imwrite(path, data, photometric="rgb", metadata=None, **options)
    return path


def test_other_channels_stay_unsupported(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 5, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    assert "5 channels of 16-bit integers" in message(read_image, tmp_path / "a.tif")
