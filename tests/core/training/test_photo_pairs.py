"""Test pairs of crops: they match, depend only on seed and position, and skip unusable files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.images.resample import degrade
from perceptual_style.core.training.photo_pairs import REAL, PairFolder, detail
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smooth photos of several sizes, a grey one, a tiny one and a corrupt one."""
    folder, random = tmp_path_factory.mktemp("sharp"), np.random.default_rng(2)
    for n, size in enumerate(((97, 120), (80, 83), (128, 96))):
        pixels = random.integers(0, 256, (6, 7, 3), np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    Image.fromarray(random.integers(0, 256, (90, 90), np.uint8)).save(folder / "grey.png")
    Image.fromarray(random.integers(0, 256, (21, 203, 3), np.uint8)).save(folder / "tiny.png")
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff corrupt")
    return folder


@pytest.mark.parametrize("factor", [2, 4])
def test_low_resolution_is_high_resolution_reduced(folder, factor):
    low, high = PairFolder(folder, factor, 16, 6).batch(0)
    assert low.shape == (6, 3, 16, 16) and high.shape == (6, 3, 16 * factor, 16 * factor)
    # Away from the crop's edges, beyond which the degradation of the whole photo saw more.
    difference = (degrade(high, factor) - low)[..., 3:-3, 3:-3].abs().max()
    assert difference < 1.5 / 255


def test_batch_depends_only_on_seed_and_index(folder):
    one, other = (PairFolder(folder, 2, 16, 3, "mix", seed=5) for _ in range(2))
    expected = [one.batch(index) for index in range(4)]
    resumed = list(other.batches(2, 4))
    for (low, high), (same_low, same_high) in zip(expected[2:], resumed, strict=True):
        assert torch.equal(low, same_low) and torch.equal(high, same_high)
    assert not torch.equal(expected[0][0], PairFolder(folder, 2, 16, 3, "mix", seed=6).batch(0)[0])


def test_unusable_files_are_skipped_with_a_reason(folder):
    photos = PairFolder(folder, 4, 16, 4)
    for index in range(4):
        photos.batch(index)
    assert {path.name for path in photos.skipped} == {"tiny.png", "corrupt.jpg"}
    assert photos.skipped[folder / "tiny.png"] == "203x21 px is smaller than a crop of 64 px"


@pytest.mark.parametrize(("candidates", "least", "most"), [(1, 42, 56), (3, 15, 42)])
def test_crop_is_the_candidate_with_most_detail(tmp_path, candidates, least, most):
    """Crop a photo that is flat except for a corner, which few places show but most of three candidates do."""
    pixels = np.full((200, 200, 3), 128, np.uint8)
    pixels[:70, :70] = np.random.default_rng(0).integers(0, 256, (70, 70, 3))
    Image.fromarray(pixels).save(tmp_path / "corner.png")
    low, high = PairFolder(tmp_path, 2, 20, 60, candidates=candidates).batch(0)
    flat = sum(detail((image * 255).byte()) < 1 for image in high)
    # A place misses the corner with a probability of 1 - (71 / 161)^2 = 0.81, and all of three with 0.52.
    assert least < flat < most
    assert detail((low[0] * 0).byte()) == 0


def test_bad_folders_and_settings_are_rejected(folder, tmp_path):
    with pytest.raises(ImageError):
        PairFolder(tmp_path, 4, 16, 4)
    with pytest.raises(ImageError, match="none of the 6 photos can be used"):
        PairFolder(folder, 4, 64, 4).batch(0)
    with pytest.raises(InputError, match="'jpeg'.*bicubic, blur, mix or real"):
        PairFolder(folder, 4, 16, 4, "jpeg")


def test_shares_of_a_batch_make_up_the_whole(folder):
    photos = PairFolder(folder, 2, 16, 3, "mix", seed=5)
    whole = photos.batch(1)
    for part in range(2):
        (share,) = photos.batches(1, 2, (part, 2))
        assert all(torch.equal(piece, images[part::2]) for piece, images in zip(share, whole, strict=True))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_real_damage_is_of_the_same_place_and_depends_on_seed_and_index(folder, factor):
    one, same, other = (PairFolder(folder, factor, 16, 3, REAL, seed=seed, candidates=2) for seed in (5, 5, 6))
    expected = [one.batch(index) for index in range(3)]
    for (low, high), (same_low, same_high) in zip(expected[1:], same.batches(1, 3), strict=True):
        assert torch.equal(low, same_low) and torch.equal(high, same_high)
    low, high = expected[0]
    assert low.shape == (3, 3, 16, 16) and high.shape == (3, 3, 16 * factor, 16 * factor)
    assert not torch.equal(low, other.batch(0)[0])
    mean = torch.stack([(degrade(high, factor) - low).mean(dim=(2, 3)).abs() for low, high in expected]).max()
    assert mean < 0.1, "photos are smooth, so a crop of another place would differ"


def test_crop_in_a_corner_of_a_photo_without_margin_has_its_size(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "exact.png")
    low, high = PairFolder(tmp_path, 4, 16, 4, REAL).batch(0)
    assert low.shape == (4, 3, 16, 16) and high.shape == (4, 3, 64, 64)


def test_some_real_crops_have_no_color(tmp_path):
    """They are damaged with color, as noise and compression do, and their originals are grey."""
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "color.png")
    lows, highs = PairFolder(tmp_path, 2, 8, 96, REAL).batch(0)
    grey = (highs == highs[:, :1]).flatten(1).all(1)
    assert 2 <= int(grey.sum()) <= 24
    assert not (lows == lows[:, :1]).flatten(1).all(1)[grey].all()
