"""Images with 16 bits per channel stay images with 16 bits per channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import SRGB, array, needs_deep_png, noise, write_png
from perceptual_style.core.images.deep import turned_upright
from perceptual_style.core.images.left_out import UPPER_BITS
from perceptual_style.core.images.metadata import Metadata
from perceptual_style.core.images.reading import ImageFile, read_image
from perceptual_style.core.images.writing import save_images
from PIL import Image

CHANNELS = {2: 3, 6: 4, 4: 2}


@pytest.mark.parametrize("kind", CHANNELS)
def test_all_16_bits_are_read_and_written(kind, tmp_path):
    needs_deep_png(tmp_path)
    data = noise(13, 9, CHANNELS[kind], top=65536, dtype=np.uint16)
    found = read_image(write_png(tmp_path / "a.png", data, 16, kind))
    assert found.bits == 16
    colors = data[..., :1].repeat(3, 2) if kind == 4 else data[..., :3]
    assert np.allclose(array(found.pixels), colors / 65535, atol=1e-7)
    if kind != 2:
        assert np.allclose(array(found.alpha), data[..., -1:] / 65535, atol=1e-7)
    assert save_images(tmp_path / "b.png", [found]) is None
    again = read_image(tmp_path / "b.png")
    assert again.bits == 16
    assert torch.equal(again.pixels, found.pixels)
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        assert (image.size, image.mode) == ((9, 13), "RGB" if kind == 2 else "RGBA")


def test_bits_that_torchvision_does_not_read_are_named(tmp_path, monkeypatch):
    data = noise(5, 7, 3, top=65536, dtype=np.uint16)
    path = write_png(tmp_path / "a.png", data, 16, 2)
    monkeypatch.setattr("torchvision.io.decode_png", lambda content, mode: torch.zeros(3, 5, 7, dtype=torch.uint8))
    found = read_image(path)
    assert (found.bits, found.notes) == (8, (UPPER_BITS,))
    assert np.allclose(array(found.pixels), data / 65535, atol=1 / 255)


def test_transparent_color_of_16_bits_is_compared_in_full(tmp_path):
    needs_deep_png(tmp_path)
    data = np.full((2, 3, 3), 0x1234, np.uint16)
    data[0, 0] = 0x1235
    found = read_image(write_png(tmp_path / "a.png", data, 16, 2, transparent=b"\x12\x34" * 3))
    assert found.alpha.flatten().tolist() == [1, 0, 0, 0, 0, 0]


def test_profile_exif_and_metadata_are_kept_with_16_bits(tmp_path):
    needs_deep_png(tmp_path)
    exif = Image.Exif()
    exif[0x0110] = "a model"
    metadata = Metadata(dpi=(300.0, 300.0), texts={"a": "b"}, marks={b"gAMA": bytes((0, 0, 9, 9))})
    image = ImageFile(torch.rand(1, 3, 4, 5), None, SRGB, exif.tobytes(), metadata, bits=16)
    assert save_images(tmp_path / "a.png", [image]) is None
    found = read_image(tmp_path / "a.png")
    assert found.bits == 16 and found.icc_profile == SRGB and found.exif and found.metadata.texts == {"a": "b"}
    assert found.metadata.marks == metadata.marks and np.allclose(found.metadata.dpi, 300, atol=0.02)
    assert (found.pixels - image.pixels).abs().max() <= 0.51 / 65535


def test_lost_bits_are_named(tmp_path):
    image = ImageFile(torch.rand(1, 3, 4, 5), bits=16)
    for suffix in (".jpg", ".webp"):
        assert "16 bits per channel" in save_images(tmp_path / f"a{suffix}", [image])
    assert save_images(tmp_path / "a.jpg", [ImageFile(torch.rand(1, 3, 4, 5))]) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_are_turned_like_8(orientation):
    from perceptual_style.core.images.reading import _UPRIGHT

    data = noise(3, 5, 3)
    image = Image.fromarray(data)
    expected = np.asarray(image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image)
    found = turned_upright(torch.from_numpy(data).permute(2, 0, 1), orientation)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
