"""Animations and files of several pages: all frames are read and written, with their timing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import needs
from perceptual_style.core.batch.local import Treatment, process_photos
from perceptual_style.core.batch.places import plan_jobs
from perceptual_style.core.images.color import mask_of
from perceptual_style.core.images.reading import ImageFile, count_frames, decode_frames, open_file, read_image
from perceptual_style.core.images.writing import save_images
from perceptual_style.core.models.upscale_model import UpscaleModel
from perceptual_style.core.network.transform_net import build_network
from PIL import Image

COLORS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (200, 200, 20)]
DURATIONS = [40, 90, 60, 100]


def write_frames(path, mode="RGB", **options):
    needs(path.suffix)
    frames = [Image.new(mode, (24, 16), color + (255,) * (mode == "RGBA")) for color in COLORS]
    for i, frame in enumerate(frames):
        frame.paste((255, 255, 255) + (0,) * (mode == "RGBA"), (i, i, i + 4, i + 4))
    if path.suffix != ".tif":
        options |= {"duration": DURATIONS, "loop": 0}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def read_all(path) -> list[ImageFile]:
    with open_file(path) as file:
        return list(decode_frames(file, path))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_all_frames_are_read_with_their_timing(suffix, tmp_path):
    path = write_frames(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    with open_file(path) as file:
        assert count_frames(file, path) == 4
    frames = read_all(path)
    for frame, color in zip(frames, COLORS, strict=True):
        found = frame.pixels[0, :, -1, -1] * 255
        assert torch.allclose(found, torch.tensor(color, dtype=torch.float32), atol=8)
    assert [frame.duration for frame in frames] == (DURATIONS if suffix != ".tif" else [None] * 4)
    assert torch.equal(read_image(path).pixels, frames[0].pixels)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
@pytest.mark.parametrize("source", [".gif", ".png"])
def test_animations_become_animations(source, suffix, tmp_path):
    needs(suffix)
    frames = read_all(write_frames(tmp_path / f"a{source}"))
    assert save_images(tmp_path / f"b{suffix}", iter(frames)) is None
    written = read_all(tmp_path / f"b{suffix}")
    assert len(written) == 4
    for one, other in zip(frames, written, strict=True):
        assert (one.pixels - other.pixels).abs().mean() < 0.02
    if suffix != ".tif":
        assert [frame.duration for frame in written] == DURATIONS
        assert written[0].loop == 0


def test_command_processes_all_frames(tmp_path):
    model = UpscaleModel(build_network("c3s1-4,p2-3 norm=none padding=replicate output=linear"), "tiny")
    seen = []

    def enlarge(pixels, **_):
        seen.append(pixels)
        return pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)

    for name in ("a.gif", "b.tif", "c.png"):
        write_frames(tmp_path / "in" / name if (tmp_path / "in").mkdir(exist_ok=True) else tmp_path / "in" / name)
    outcomes = list(
        process_photos(
            plan_jobs([str(tmp_path / "in")], str(tmp_path / "out")), Treatment(model, enlarge), [torch.device("cpu")]
        )
    )
    assert [(each.error, each.warning) for each in outcomes] == [(None, None)] * 3
    assert len(seen) == 12
    for name in ("a.gif", "b.tif", "c.png"):
        frames = read_all(tmp_path / "out" / name)
        assert [frame.pixels.shape for frame in frames] == [(1, 3, 32, 48)] * 4


def test_animation_too_large_for_the_memory_is_rejected_before_the_work(tmp_path, monkeypatch):
    model = UpscaleModel(build_network("c3s1-4,p2-3 norm=none padding=replicate output=linear"), "tiny")
    path = write_frames(tmp_path / "a.gif")
    monkeypatch.setattr("perceptual_style.core.batch.local.free_memory", lambda _: 50_000)
    computed = []
    (outcome,) = process_photos(
        plan_jobs([str(path)], str(tmp_path / "b.gif")), Treatment(model, computed.append), [torch.device("cpu")]
    )
    assert "its 4 frames need about 0.0 GiB of memory" in outcome.error and not computed
    assert "extract them and give their folder" in outcome.error and outcome.error.count(str(path)) == 1


def test_lost_frames_are_named(tmp_path):
    model = UpscaleModel(build_network("c3s1-4,p2-3 norm=none padding=replicate output=linear"), "tiny")
    path = write_frames(tmp_path / "a.gif")
    (outcome,) = process_photos(
        plan_jobs([str(path)], str(tmp_path / "a.jpg")), Treatment(model, lambda x, **_: x), [torch.device("cpu")]
    )
    assert outcome.error is None and "it has 4 frames, and only the first is written" in outcome.warning


def test_pages_of_different_sizes_and_thumbnails(tmp_path):
    pages = [Image.new("RGB", size, (9, 99, 199)) for size in ((24, 16), (10, 30), (8, 8))]
    pages[2].encoderinfo = {"tiffinfo": {254: 1}}  # a reduced copy of another page
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    shapes = [tuple(page.pixels.shape[2:]) for page in read_all(tmp_path / "a.tif")]
    assert shapes[:2] == [(16, 24), (30, 10)]


@pytest.mark.parametrize("first_is_opaque", [False, True])
def test_transparency_of_gif_frames_is_kept(first_is_opaque, tmp_path):
    smooth = torch.linspace(0, 1, 20).view(1, 1, 1, 20).expand(1, 3, 16, 20)
    frames = []
    for i in range(4):
        alpha = torch.zeros(1, 1, 16, 20)
        alpha[..., 2 * i : 2 * i + 5, 3 * i : 3 * i + 8] = 1
        frames.append(ImageFile(smooth.roll(i, 3), alpha, duration=50.0 + 10 * i, loop=0))
    if first_is_opaque:
        frames[0] = replace(frames[0], alpha=None)
    assert save_images(tmp_path / "a.gif", frames) is None
    for frame, found in zip(frames, read_all(tmp_path / "a.gif"), strict=True):
        alpha = torch.ones(1, 1, 16, 20) if frame.alpha is None else frame.alpha
        assert torch.equal(found.alpha, alpha) and found.duration == frame.duration
        assert ((found.pixels - frame.pixels) * alpha).abs().max() <= 2 / 255


def test_partial_transparency_of_a_gif_file_is_rounded_and_named(tmp_path):
    alpha = torch.tensor([0.0, 0.4, 0.6, 1.0]).view(1, 1, 1, 4)
    warning = save_images(tmp_path / "a.gif", [ImageFile(torch.rand(1, 3, 1, 4), alpha)])
    assert "GIF cannot hold partial transparency" in warning
    assert read_image(tmp_path / "a.gif").alpha.flatten().tolist() == [0, 0, 1, 1]


def test_picture_for_viewers_without_animation_is_no_frame(tmp_path):
    write_frames(tmp_path / "a.png", default_image=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["default_image"]
    frames = read_all(tmp_path / "a.png")
    assert [frame.duration for frame in frames] == [None, *DURATIONS[:3]]
    assert save_images(tmp_path / "b.png", frames) is None
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["default_image"] and image.n_frames == 4
    assert save_images(tmp_path / "b.gif", frames) is None
    assert [frame.duration for frame in read_all(tmp_path / "b.gif")] == DURATIONS[:3]


def test_bits_that_pages_after_the_first_lose_are_named(tmp_path):
    frames = [ImageFile(torch.rand(1, 3, 4, 5), bits=bits, duration=50.0) for bits in (8, 16)]
    assert "16 bits per channel" in save_images(tmp_path / "a.png", frames)
    for frame, found in zip(frames, read_all(tmp_path / "a.png"), strict=True):
        assert torch.allclose(found.pixels, frame.pixels, atol=0.51 / 255)


def test_mask_in_alpha_is_the_mask():
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., :2] = 1
    assert torch.equal(mask_of(ImageFile(torch.ones(1, 3, 4, 4), alpha)), alpha)
    assert torch.allclose(mask_of(ImageFile(torch.ones(1, 3, 4, 4), torch.ones(1, 1, 4, 4))), torch.ones(1, 1, 4, 4))
    grey = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert torch.allclose(mask_of(ImageFile(grey)), grey[:, :1], atol=1e-6)


def test_transparent_frames_stay_transparent(tmp_path):
    frames = read_all(write_frames(tmp_path / "a.png", mode="RGBA"))
    assert save_images(tmp_path / "b.webp", frames) is None
    for one, other in zip(frames, read_all(tmp_path / "b.webp"), strict=True):
        assert np.array_equal(one.alpha, other.alpha)
