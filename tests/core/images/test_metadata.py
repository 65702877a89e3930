"""Orientation, EXIF and color profiles of image files."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
import torch
from image_files import SRGB, array, cmyk_profile, needs, noise, save, tensor
from perceptual_style.core.images.metadata import Metadata, _written_marks
from perceptual_style.core.images.reading import ImageFile, read_image
from perceptual_style.core.images.writing import save_image, save_images
from PIL import Image

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
def test_read_turns_every_orientation_upright_once(tmp_path, suffix, orientation):
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


def test_16_bit_grey_is_turned_and_unknown_orientations_are_ignored(tmp_path):
    data = noise(3, 5, top=65536, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = read_image(save(tmp_path / "a.png", data, exif=exif))
    assert np.allclose(array(found.pixels)[..., 0], np.rot90(data, -1) / 65535, atol=1e-7)
    for nonsense in (0, 9, 300):
        exif[0x0112] = nonsense
        assert read_image(save(tmp_path / "b.png", data, exif=exif)).pixels.shape == (1, 3, 3, 5)


def test_image_with_damaged_exif_is_read(tmp_path):
    data = noise(3, 5, 3)
    for garbage in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x7f" * 30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read_image(save(tmp_path / "a.png", data, exif=garbage))
        assert torch.equal(found.pixels, tensor(data))


def test_exif_drops_the_layout_tags_of_tiff(tmp_path):
    source = save(tmp_path / "a.tif", noise(6, 8, 3), compression="tiff_lzw", icc_profile=SRGB, description="a text")
    found = read_image(source)
    kept = Image.Exif()
    kept.load(found.exif)
    assert kept[270] == "a text"
    assert not {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 34675} & set(kept)


@pytest.mark.parametrize("profile", [b"", b"short", b"x" * 200, cmyk_profile()])
def test_unusable_profiles_are_dropped(tmp_path, profile):
    assert read_image(save(tmp_path / "a.png", noise(2, 3, 3), icc_profile=profile)).icc_profile is None


def test_grey_profile_is_dropped(tmp_path):
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    assert read_image(save(tmp_path / "a.png", noise(2, 3), icc_profile=grey)).icc_profile is None
    assert read_image(save(tmp_path / "b.png", noise(2, 3), icc_profile=SRGB)).icc_profile == SRGB


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'


def full(pixels: torch.Tensor) -> ImageFile:
    marks = {b"cICP": bytes((9, 16, 0, 1))}
    return ImageFile(
        pixels, metadata=Metadata((300.0, 150.0), XMP, b"a comment", {"prompt": "{}", "Author": "漢字"}, marks)
    )


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".png", ""),
        (".jpg", "color marks (cICP) or PNG text"),
        (".tif", "color marks (cICP) or PNG text"),
        (".webp", "color marks (cICP) or PNG text or a comment"),
        (".bmp", "color marks (cICP) or PNG text or XMP or a comment"),
    ],
)
def test_resolution_xmp_comments_and_texts_are_kept_or_named(suffix, lost, tmp_path):
    needs(suffix)
    if suffix == ".png" and b"cICP" not in _written_marks():
        lost = "color marks (cICP)"
    warning = save_images(tmp_path / f"a{suffix}", [full(torch.rand(1, 3, 8, 9))])
    assert (warning or "").endswith(lost) and bool(warning) == bool(lost)
    found = read_image(tmp_path / f"a{suffix}")
    if suffix == ".webp":
        exif = Image.Exif()
        exif.load(found.exif)
        assert (exif[282], exif[283]) == (300, 150)
    else:
        assert np.allclose(found.metadata.dpi, (300, 150), atol=0.02)
    if suffix != ".bmp":
        assert b'Orientation="6"' not in found.metadata.xmp and b'dc:title="t"' in found.metadata.xmp
    if suffix == ".png":
        assert found.metadata.marks == ({} if lost else {b"cICP": bytes((9, 16, 0, 1))})
        assert found.metadata.texts == {"prompt": "{}", "Author": "漢字", "Comment": "a comment"}
    if suffix == ".jpg":
        assert found.metadata.comment == b"a comment"


@pytest.mark.parametrize(("mark", "length"), [(b"cICP", 4), (b"gAMA", 4), (b"cHRM", 32), (b"mDCV", 24), (b"cLLI", 8)])
def test_every_color_mark_of_png_is_kept_or_named(mark, length, tmp_path):
    marks = {mark: bytes(range(1, length + 1))}
    warning = save_images(tmp_path / "a.png", [ImageFile(torch.rand(1, 3, 4, 5), metadata=Metadata(marks=marks))])
    kept = read_image(tmp_path / "a.png").metadata.marks == marks
    assert kept != (warning is not None and f"color marks ({mark.decode()})" in warning)


SRGB_COLORS = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_COLORS = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        ({b"gAMA": struct.pack(">I", 45455)}, False),
        ({b"gAMA": struct.pack(">I", 45455), b"cHRM": SRGB_COLORS}, False),
        ({b"gAMA": struct.pack(">I", 100000)}, True),
        ({b"cHRM": P3_COLORS}, True),
        ({b"gAMA": struct.pack(">I", 45455), b"cHRM": P3_COLORS}, True),
    ],
)
def test_marks_are_kept_unless_colors_are_as_usual(marks, kept, tmp_path):
    save_images(tmp_path / "a.png", [ImageFile(torch.rand(1, 3, 4, 4), metadata=Metadata(marks=marks))])
    assert read_image(tmp_path / "a.png").metadata.marks == (marks if kept else {})


def test_hdr_marks_of_avif_are_kept_or_named(tmp_path):
    needs(".avif")
    content = save(tmp_path / "a.avif", noise(16, 16, 3)).read_bytes()
    start = content.index(b"colrnclx") + 8
    assert read_image(tmp_path / "a.avif").metadata.marks == {}
    (tmp_path / "b.avif").write_bytes(content[:start] + struct.pack(">HH", 9, 16) + content[start + 4 :])
    found = read_image(tmp_path / "b.avif")
    assert found.metadata.marks == {b"cICP": bytes((9, 16, 0, 1))}
    assert "cICP" in save_images(tmp_path / "c.avif", [found])
    assert save_images(tmp_path / "c.png", [found]) is None
    assert read_image(tmp_path / "c.png").metadata.marks == found.metadata.marks


def test_comment_of_jpeg_2000_is_kept(tmp_path):
    needs(".jp2")
    image = ImageFile(torch.rand(1, 3, 32, 32), metadata=Metadata(comment=b"a comment"))
    assert save_images(tmp_path / "a.jp2", [image]) is None
    assert read_image(tmp_path / "a.jp2").metadata.comment == b"a comment"
