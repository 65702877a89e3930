"""Writing image files: round trips against Pillow and numpy, and writes that fail."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import RANDOM, SIZES, SRGB, array, message, needs, noise, save, tensor
from perceptual_style.core import files
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.tensors import check_image
from perceptual_style.core.images.writing import save_image
from PIL import Image


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG", ".tga", ".ppm", ".qoi"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossless_formats_give_back_the_exact_pixels(tmp_path, suffix, height, width):
    needs(suffix)
    pixels = tensor(noise(height, width, 3))
    assert save_image(tmp_path / f"a{suffix}", pixels) is None
    found = read_image(tmp_path / f"a{suffix}")
    assert found.pixels.dtype == torch.float32
    assert found.pixels.shape == (1, 3, height, width)
    assert torch.equal(found.pixels, pixels)
    assert (found.alpha, found.icc_profile, found.exif) == (None, None, None)
    check_image(found.pixels)


def test_values_are_rounded_to_the_nearest_of_256_levels(tmp_path):
    levels = torch.arange(256, dtype=torch.float32)
    for shift in (0, 0.49, -0.49):
        pixels = ((levels + shift) / 255).expand(3, 1, 256)
        save_image(tmp_path / "a.png", pixels)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0], np.arange(256))


def test_save_clamps_values_and_accepts_any_float_type_and_layout(tmp_path):
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


def test_jpeg_has_no_chroma_subsampling(tmp_path):
    data = np.zeros((16, 16, 3), np.uint8)
    data[:, ::2] = (255, 0, 0)
    data[:, 1::2] = (0, 0, 255)
    save_image(tmp_path / "a.jpg", tensor(data))
    assert np.abs(array(read_image(tmp_path / "a.jpg").pixels) * 255 - data).max() < 12
    with Image.open(tmp_path / "a.jpg") as image:
        assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tga", ".qoi"])
def test_save_keeps_alpha(tmp_path, suffix):
    needs(suffix)
    data = noise(9, 7, 4)
    assert save_image(tmp_path / f"a{suffix}", tensor(data[..., :3]), tensor(data[..., 3:])) is None
    found = read_image(tmp_path / f"a{suffix}")
    assert found.alpha.shape == (1, 1, 9, 7)
    assert torch.equal(found.alpha, tensor(data[..., 3:]))
    if suffix != ".webp":
        assert torch.equal(found.pixels, tensor(data[..., :3]))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_formats_without_alpha_are_flattened_on_white_with_a_warning(tmp_path, suffix):
    pixels = torch.zeros(1, 3, 8, 8)
    alpha = torch.full((1, 1, 8, 8), 0.25)
    warning = save_image(tmp_path / f"a{suffix}", pixels, alpha)
    assert f"a{suffix}: " in warning
    assert "transparency (flattened on white)" in warning
    assert "\n" not in warning
    assert torch.allclose(read_image(tmp_path / f"a{suffix}").pixels, torch.tensor(0.75), atol=0.01)
    assert save_image(tmp_path / f"a{suffix}", pixels, torch.ones(1, 1, 8, 8)) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_save_keeps_color_profile_and_exif(tmp_path, suffix):
    needs(suffix)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 1
    exif.get_ifd(0x8769)[0x920A] = 50.0
    exif.get_ifd(0x8825)[1] = "N"
    source = save(tmp_path / "source.jpg", noise(6, 8, 3), exif=exif, icc_profile=SRGB)
    first = read_image(source)
    assert first.icc_profile == SRGB
    with Image.open(source) as image:
        if 0x920A not in image.getexif().get_ifd(0x8769):
            pytest.skip("this Pillow does not save the inner parts of new EXIF data")
    warning = save_image(tmp_path / f"a{suffix}", first.pixels, icc_profile=first.icc_profile, exif=first.exif)
    assert warning is None
    second = read_image(tmp_path / f"a{suffix}")
    assert second.icc_profile == SRGB
    kept = Image.Exif()
    kept.load(second.exif)
    assert kept[0x010F] == "a maker"
    assert kept.get_ifd(0x8769)[0x920A] == 50.0
    assert kept.get_ifd(0x8825)[1] == "N"


def test_save_warns_of_what_the_format_cannot_hold(tmp_path):
    warning = save_image(tmp_path / "a.bmp", torch.zeros(3, 2, 2), icc_profile=SRGB, exif=b"Exif\0\0MM\0*")
    assert warning.endswith("a.bmp: BMP cannot hold a color profile or EXIF")
    exif = Image.Exif()
    exif[0x010E] = "long " * 20000
    warning = save_image(tmp_path / "a.jpg", torch.zeros(3, 2, 2), exif=exif.tobytes())
    assert warning.endswith("a.jpg: JPEG cannot hold EXIF of more than 64 KB")
    assert read_image(tmp_path / "a.jpg").exif is None


@pytest.fixture
def old(tmp_path):
    """An existing file at the target."""
    path = tmp_path / "out.png"
    path.write_text("old")
    return path


def test_full_disk_leaves_the_old_file(old, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, function in ((files.os, "fsync"), (files.os, "replace"), (files.os, "open"), (Path, "write_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, full)
            assert message(save_image, old, torch.zeros(3, 2, 2)) == f"cannot write {old}: No space left on device"
        assert old.read_text() == "old"
        assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".jp2", ".bmp"])
def test_interrupted_write_leaves_the_old_file(old, suffix):
    resource = pytest.importorskip("resource")
    path = old.with_suffix(suffix)
    path.write_text("old")
    before = set(old.parent.iterdir())
    pixels = torch.from_numpy(RANDOM.random((3, 64, 64), np.float32))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        text = message(save_image, path, pixels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text == f"cannot write {path}: File too large"
    assert path.read_text() == "old"
    assert set(old.parent.iterdir()) == before


def test_save_rejects_bad_paths_suffixes_and_sizes(old):
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


def test_save_rejects_bad_tensors(old):
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
