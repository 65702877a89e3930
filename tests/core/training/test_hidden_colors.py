"""Photos to train on and to measure with: colors that transparency hides have no effect, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import noise, save, write_png
from perceptual_style.core.evaluation.styles import square_photo
from perceptual_style.core.evaluation.yardstick import yardstick_photo
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.training.photo_pairs import PairFolder
from perceptual_style.core.training.photos import random_crop

READERS = {
    "crops of styles": lambda path: random_crop(path, 32, np.random.default_rng(5)),
    "pairs of upscalers": lambda path: PairFolder(path.parent, 2, 16, 1)._images(path, 1)["hr"],
    "squares": lambda path: square_photo(path, 32),
    "yardstick": yardstick_photo,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_hidden_colors_have_no_effect(read, tmp_path):
    data = noise(40, 50, 4)
    data[..., 3] = 255
    data[5:30, 10:40, 3] = 0
    results = []
    for hidden in (0, 255):
        data[5:30, 10:40, :3] = hidden
        (tmp_path / str(hidden)).mkdir()
        results.append(read(save(tmp_path / str(hidden) / "a.png", data)))
    assert torch.equal(*results)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_crops_of_opaque_photos_are_those_of_the_whole_photo(mode, tmp_path):
    data = noise(40, 50, 3)
    data = np.dstack([data, np.full((40, 50), 255, np.uint8)]) if mode == "RGBA" else data
    if mode == "I;16":
        path = save(tmp_path / "a.png", data[..., 0].astype(np.uint16) * 257)
    else:
        path = save(tmp_path / "a.png", data, mode)
    crop = random_crop(path, 32, np.random.default_rng(5))
    again = random_crop(
        save(tmp_path / "b.png", (read_image(path).pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)),
        32,
        np.random.default_rng(5),
    )
    assert torch.equal(crop, again)


def test_crops_are_read_from_files_that_another_package_reads(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.full((40, 50, 3), 0.25, np.float32), photometric="rgb")
    crop = random_crop(tmp_path / "a.tif", 32, np.random.default_rng(5))
    assert torch.allclose(crop, torch.tensor(64 / 255))


def test_transparent_color_of_a_file_without_alpha_is_hidden(tmp_path):
    data = np.full((40, 50, 3), 200, np.uint8)
    data[5:30, 10:40] = (2, 4, 6)
    path = write_png(tmp_path / "a.png", data, 8, 2, transparent=bytes((0, 2, 0, 4, 0, 6)))
    crop = random_crop(path, 32, np.random.default_rng(5))
    assert torch.allclose(crop, torch.tensor(200 / 255))
