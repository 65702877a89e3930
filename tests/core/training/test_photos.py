"""Test batches of photos: what they depend on, what crops show, and unreadable files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.training.photos import PhotoFolder, fit_style_image, random_crop, shaded
from PIL import Image


def save(path, width: int, height: int, mode: str = "RGB", value: int | None = None, **options):
    """Save a photo of noise, or of one value."""
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    pixels = np.random.default_rng([width, height, len(path.name)]).integers(0, 256, shape, np.uint8)
    pixels = pixels if value is None else np.full_like(pixels, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode if mode == "CMYK" else None).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Eleven photos, each of a single grey: 20, 40, ..., 220."""
    for n in range(1, 12):
        save(tmp_path / "photos" / f"{n:02}.png", 40 + n, 60 - n, value=20 * n)
    return tmp_path / "photos"


def greys(batch: torch.Tensor) -> list[int]:
    """Return the greys of the photos in a batch."""
    return [round(float(image.mean()) * 255) for image in batch]


def test_batch_depends_only_on_seed_and_index(tmp_path):
    for n in range(5):
        save(tmp_path / f"{n}.png", 50 + n, 40)
    forward, backward = (PhotoFolder(tmp_path, 32, 2, seed=7) for _ in range(2))
    first = [forward.batch(i) for i in range(8)]
    second = [backward.batch(i) for i in reversed(range(8))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({image.numpy().tobytes() for batch in first for image in batch}) == 16


@pytest.mark.parametrize("batch_size", [1, 4, 11, 30])
def test_epoch_shows_every_photo_once(photos, batch_size):
    folder = PhotoFolder(photos, 32, batch_size, seed=3)
    shown = [grey for i in range(-(-33 // batch_size)) for grey in greys(folder.batch(i))]
    epochs = [shown[start : start + 11] for start in (0, 11, 22)]
    assert all(sorted(epoch) == [20 * n for n in range(1, 12)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_seed_changes_order_and_crops(photos):
    folders = [PhotoFolder(photos, 32, 11, seed=seed) for seed in range(4)]
    assert len({tuple(greys(folder.batch(0))) for folder in folders}) == 4
    noise = save(photos.parent / "one" / "noise.png", 70, 90).parent
    assert not torch.equal(PhotoFolder(noise, 32, 1, seed=1).batch(0), PhotoFolder(noise, 32, 1, seed=2).batch(0))


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (4, 5), (3, 3), (9, 14)])
def test_batches_prepared_ahead_are_the_same(photos, start, stop):
    ahead = list(PhotoFolder(photos, 32, 3, seed=5).batches(start, stop))
    folder = PhotoFolder(photos, 32, 3, seed=5)
    assert len(ahead) == stop - start
    assert all(torch.equal(batch, folder.batch(i)) for i, batch in enumerate(ahead, start))


def test_batch_is_float_rgb_from_0_to_1(photos):
    batch = PhotoFolder(photos, 48, 4).batch(0)
    assert batch.shape == (4, 3, 48, 48) and batch.dtype == torch.float32
    assert batch.min() >= 0 and batch.max() <= 1


@pytest.mark.parametrize(
    ("width", "height"), [(64, 64), (300, 40), (40, 300), (33, 32), (2000, 16), (16, 900), (5, 7), (1, 1), (1, 64)]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_crop_of_any_photo_has_its_size_and_stays_inside(width, height, suffix, tmp_path):
    # The photo is a single grey, in which black from outside would be visible.
    path = save(tmp_path / f"photo{suffix}", width, height, value=200)
    for seed in range(20):
        crop = random_crop(path, 32, np.random.default_rng(seed))
        assert crop.shape == (3, 32, 32)
        assert (crop * 255 - 200).abs().max() <= 1


@pytest.mark.parametrize(("width", "height"), [(320, 160), (160, 320), (160, 160)])
def test_crops_reach_every_side_and_show_most_of_the_photo(width, height, tmp_path):
    x = np.broadcast_to(np.linspace(0, 255, width, dtype=np.float32), (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height, dtype=np.float32)[:, None], (height, width))
    pixels = np.stack([x, y, 0 * x], axis=2).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramps.png")
    lows, highs, flips, shown = [], [], 0, []
    for seed in range(60):
        crop = random_crop(tmp_path / "ramps.png", 64, np.random.default_rng(seed)) * 255
        lows.append(crop[:2].amin(dim=(1, 2)))
        highs.append(crop[:2].amax(dim=(1, 2)))
        flips += bool(crop[0, :, 0].mean() > crop[0, :, -1].mean())
        shown.append(float(highs[-1][int(height > width)] - lows[-1][int(height > width)]) / 255 * max(width, height))
        assert crop[1, 0].mean() < crop[1, -1].mean(), "crops are never upside down"
    assert (torch.stack(lows).amin(dim=0) < 20).all() and (torch.stack(highs).amax(dim=0) > 235).all()
    assert 15 < flips < 45
    short = min(width, height)  # a crop shows 1 to 1 / 1.25 of the short side in both directions
    assert min(shown) > 0.74 * short and max(shown) <= 1.02 * short


def test_crops_are_upright(tmp_path):
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[:24] = 255  # the upper half as stored; orientation 3 means a rotation by 180 degrees
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    crop = random_crop(tmp_path / "turned.jpg", 32, np.random.default_rng(0))
    assert crop[:, :4].mean() < 0.1 and crop[:, -4:].mean() > 0.9


@pytest.mark.parametrize(
    ("name", "mode", "value"),
    [
        ("grey.png", "L", 100),
        ("grey.jpg", "L", 100),
        ("rgba.png", "RGBA", 100),
        ("cmyk.jpg", "CMYK", 100),
        ("p.gif", "L", 100),
    ],
)
def test_photos_of_any_mode_become_rgb(name, mode, value, tmp_path):
    crop = random_crop(save(tmp_path / name, 50, 40, mode, value), 32, np.random.default_rng(0))
    if mode == "CMYK":
        value = 255 - 100 - 100 * 155 / 255  # black is a fourth ink: (255 - c)(255 - k) / 255
    assert crop.shape == (3, 32, 32)
    assert (crop * 255 - value).abs().max() <= 3


@pytest.mark.parametrize(("values", "suffix"), [(np.uint16, ".png"), (np.uint16, ".tif"), (np.float32, ".tif")])
def test_grey_of_more_than_8_bits_is_not_clipped(values, suffix, tmp_path):
    value = 0.4 if values is np.float32 else round(0.4 * 65535)
    Image.fromarray(np.full((40, 40), value, values)).save(tmp_path / f"deep{suffix}")
    crop = random_crop(tmp_path / f"deep{suffix}", 32, np.random.default_rng(0))
    assert (crop - 0.4).abs().max() < 0.01


def broken_files(folder) -> set:
    """Write files with names of photos that cannot be read."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(whole, "JPEG")
    contents = {
        "02_empty.jpg": b"",
        "04_text.png": b"this is no picture",
        "06_truncated.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
        "08_header.jpg": whole.getvalue()[:20],
        "10_magic.png": b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {folder / name for name in contents}


def test_unreadable_photos_are_skipped_with_a_reason(photos):
    broken = broken_files(photos)
    folder = PhotoFolder(photos, 32, 4, seed=1)
    shown = [grey for i in range(8) for grey in greys(folder.batch(i))]
    assert set(folder.skipped) == broken
    assert all(reason and "\n" not in reason for reason in folder.skipped.values())
    assert set(shown) == {20 * n for n in range(1, 12)}


def test_batch_does_not_depend_on_earlier_broken_photos(tmp_path):
    for n in range(6):
        save(tmp_path / f"{n:02}.png", 50 + n, 70)
    broken_files(tmp_path)
    uninterrupted = PhotoFolder(tmp_path, 32, 2, seed=11)
    batches = [uninterrupted.batch(i) for i in range(20)]
    for start in range(20):
        assert torch.equal(PhotoFolder(tmp_path, 32, 2, seed=11).batch(start), batches[start]), f"batch {start}"


def test_deleted_photo_is_skipped(photos):
    folder = PhotoFolder(photos, 32, 11)
    (photos / "05.png").unlink()
    assert 100 not in greys(folder.batch(0))
    assert list(folder.skipped) == [photos / "05.png"]


def test_folder_of_broken_photos_is_rejected(tmp_path):
    broken_files(tmp_path)
    with pytest.raises(ImageError, match="none of the 5 photos can be read") as caught:
        PhotoFolder(tmp_path, 32, 2).batch(0)
    assert "\n" not in str(caught.value)


def test_error_while_preparing_ahead_reaches_the_caller(tmp_path):
    broken_files(tmp_path)
    with pytest.raises(ImageError, match="none of the 5"):
        list(PhotoFolder(tmp_path, 32, 2).batches(0, 3))


def test_missing_and_empty_folders_and_bad_seeds_are_rejected(tmp_path, photos):
    for folder in (tmp_path / "nothing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ImageError, match=folder.name):
            PhotoFolder(folder, 32, 2)
    for seed in (-1, 2**64):
        with pytest.raises(InputError, match="seed"):
            PhotoFolder(photos, 32, 2, seed=seed)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 200, (128, 256)), (300, 150, (256, 128)), (640, 640, (256, 256)), (64, 90, (182, 256))],
)
def test_style_size_is_the_longest_side(height, width, expected, rng):
    image = torch.rand(1, 3, height, width, generator=rng)
    fitted = fit_style_image(image, 256)
    assert tuple(fitted.shape[-2:]) == expected
    assert fitted.min() >= 0 and fitted.max() <= 1
    torch.testing.assert_close(fitted.mean(), image.mean(), atol=0.01, rtol=0)


def test_style_image_keeps_32_px_and_small_one_is_rejected():
    assert fit_style_image(torch.zeros(1, 3, 64, 4096), 256).shape[-2:] == (32, 256)
    with pytest.raises(InputError, match="style image is 63x200 px"):
        fit_style_image(torch.zeros(1, 3, 200, 63), 256)


def test_shadows_darken_some_crops_and_brighten_none(tmp_path):
    Image.new("RGB", (40, 40), (200, 180, 160)).save(tmp_path / "a.png")
    plain = PhotoFolder(tmp_path, 32, 40).batch(0)
    shaded = PhotoFolder(tmp_path, 32, 40, shadows=0.5).batch(0)
    darker = (shaded < plain - 1e-3).flatten(1).any(dim=1)
    assert 8 < int(darker.sum()) < 32 and bool((shaded <= plain).all())
    assert float(shaded.min()) < 0.05
    assert torch.equal(shaded, PhotoFolder(tmp_path, 32, 40, shadows=0.5).batch(0))


def test_shaded_keeps_range_and_makes_flat_areas():
    crop = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1))
    flat = 0
    for seed in range(40):
        result = shaded(crop, np.random.default_rng(seed))
        assert result.shape == crop.shape and result.min() >= 0 and result.max() <= 1
        still = torch.nn.functional.max_pool2d(result.diff(dim=2).abs()[None], 24).amax(dim=1) < 0.02
        flat += bool(still.any())  # 24 px without change
    assert flat >= 8
    assert torch.equal(shaded(crop, np.random.default_rng(7)), shaded(crop, np.random.default_rng(7)))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_shares_of_a_batch_make_up_the_whole(parts, photos):
    folder = PhotoFolder(photos, 32, 5, seed=3)
    shares = [list(PhotoFolder(photos, 32, 5, seed=3).batches(1, 3, (part, parts))) for part in range(parts)]
    for index in (1, 2):
        whole, pieces = folder.batch(index), [share[index - 1] for share in shares]
        assert sum(map(len, pieces)) == 5 and max(map(len, pieces)) - min(map(len, pieces)) <= 1
        for part, piece in enumerate(pieces):
            assert torch.equal(piece, whole[part::parts])
