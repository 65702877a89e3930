"""The options of the command stylize: the same results as in Python, and one-line errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import difference, save_noise, save_style
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.images.masks import fit_mask
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.transform_net import build_network
from PIL import Image

ARCH = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh"


@pytest.fixture
def style(tmp_path):
    return save_style(tmp_path / "tiny.safetensors")


@pytest.fixture
def photo(tmp_path):
    return save_noise(tmp_path / "photo.png", 40, 33)


@pytest.fixture
def mask(tmp_path):
    pixels = np.zeros((33, 40), np.uint8)
    pixels[8:25, 10:] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.4},
        {"stroke_size": 2.5},
        {"stroke_size": 0.5},
        {"color": "keep"},
        {"color": "match", "strength": 0.5},
    ],
)
def test_options_give_the_same_result_as_in_python(options, run, style, photo, tmp_path):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert run("stylize", photo, "-o", tmp_path / "out.png", "--style", style, "-v", *arguments)[0] == 0
    expected = load_style(style).stylize(read_image(photo).pixels, **options)
    assert difference(tmp_path / "out.png", expected) <= 0.5 / 255 + 1e-6


def test_mask_of_any_size_and_feather(run, style, photo, mask, tmp_path):
    before, model = read_image(photo).pixels, load_style(style)
    with Image.open(mask) as image:
        image.resize((80, 66), Image.Resampling.NEAREST).convert("RGB").save(tmp_path / "large.png")
    for path, feather in ((mask, 0), (mask, 6), (tmp_path / "large.png", 6)):
        arguments = ["-o", tmp_path / "out.png", "--style", style, "--mask", path, "--feather", feather]
        assert run("stylize", photo, *arguments) == (0, "", [])
        weights = fit_mask(read_image(path).pixels[:, :1], 33, 40)
        expected = model.stylize(before, mask=weights, feather=feather)
        assert difference(tmp_path / "out.png", expected) <= 0.5 / 255 + 1e-5
        after = read_image(tmp_path / "out.png").pixels
        assert torch.equal(after[..., :9], before[..., :9]) and not torch.equal(after, before)


def test_mask_is_scaled_to_each_photo(run, style, mask, tmp_path):
    (tmp_path / "in").mkdir()
    for name, size in (("a", (30, 20)), ("b", (20, 50))):
        Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "in" / f"{name}.png")
    arguments = ["-o", tmp_path / "out", "--style", style, "--mask", mask, "--strength", "0.5"]
    assert run("stylize", tmp_path / "in", *arguments)[0] == 0
    for name in "ab":
        assert (read_image(tmp_path / "out" / f"{name}.png").pixels[0, :, 0, 0] * 255).round().tolist() == [
            200,
            100,
            50,
        ]


def test_errors_are_one_line_before_any_work(refused, style, photo, tmp_path):
    start = ["stylize", photo, photo.parent, "-o", tmp_path / "out", "--style", style]
    assert "strength is 1.5; expected a number from 0 to 1" in refused(*start, "--strength", "1.5")
    assert "stroke size is 9.0; expected a number from 0.25 to 4" in refused(*start, "--stroke-size", "9")
    assert "feather is -1.0; expected a number of pixels" in refused(*start, "--feather", "-1")
    assert "--color" in refused(*start, "--color", "grey")
    assert "there is no such file" in refused(*start, "--mask", tmp_path / "nothing.png")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def film(tmp_path):
    """Noisy frames of a still picture."""
    random = np.random.default_rng(1)
    still = random.integers(40, 216, (33, 40, 3))
    (tmp_path / "frames").mkdir()
    for index in range(5):
        frame = (still + random.normal(0, 5, still.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(frame).save(tmp_path / "frames" / f"frame_{index}.png")
    return tmp_path / "frames"


def test_frames_of_a_video_are_processed_in_order(run, style, film, tmp_path):
    assert run("stylize", film, "-o", tmp_path / "out", "--style", style, "--temporal", "1")[0] == 0
    frames = [read_image(path).pixels for path in sorted(film.iterdir())]
    expected = load_style(style).stylize(torch.cat(frames), temporal=1)
    for path, frame in zip(sorted((tmp_path / "out").iterdir()), expected, strict=True):
        assert difference(path, frame) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("option", [("--ray", "local"), ("--workers", "2"), ("--skip-existing",)])
def test_temporal_rejects_options_that_break_the_order(option, run, style, film, tmp_path):
    status, _, errors = run("stylize", film, "-o", tmp_path / "out", "--style", style, "--temporal", "1", *option)
    assert status == 2 and "each frame needs the ones before it" in errors[0]
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_one_line(refused, photo, tmp_path):
    network = build_network(ARCH)
    network.stages[0].conv.weight.data[0, 0] = torch.nan
    save_network(tmp_path / "bad.safetensors", network, {"task": "style"})
    line = refused("stylize", photo, "-o", tmp_path / "out.png", "--style", tmp_path / "bad.safetensors")
    assert "bad.safetensors is damaged: some of its weights are nan or infinite" in line
    assert not (tmp_path / "out.png").exists()


def test_overflow_in_fp16_names_photo_and_network(run, photo, tmp_path):
    network = build_network("c3s1-4,R4,c3s1-3 padding=reflect")
    network.stages[0].conv.weight.data.fill_(9e4)
    save_network(tmp_path / "wild.safetensors", network, {"task": "style", "name": "wild"})
    out = tmp_path / "out.png"
    status, _, errors = run("stylize", photo, "-o", out, "--style", tmp_path / "wild.safetensors", "--precision=fp16")
    wanted = f"{photo}: wild gave nan or infinite values for this image: its weights are damaged, or precision fp16 overflowed"
    assert (status, errors) == (2, [f"perceptual-style: {wanted}; use fp32"]) and not out.exists()
    assert run("stylize", photo, "-o", out, "--style", tmp_path / "wild.safetensors", "--precision=fp32")[0] == 0


@pytest.mark.parametrize("options", [[], ["--temporal=1"], ["--color=match"]])
def test_one_of_three_photos_with_nan_is_one_line(options, run, style, tmp_path):
    for name, value in (("a", 0.5), ("b", np.nan), ("c", 0.25)):
        Image.fromarray(np.full((33, 40), value, np.float32)).save(tmp_path / f"{name}.tif")
    photos, out = [tmp_path / f"{name}.tif" for name in "abc"], tmp_path / "out"
    status, _, errors = run("stylize", *photos, "-o", out, "--style", style, *options)
    wanted = [f"perceptual-style: cannot read {photos[1]}: some of its values are nan or infinite"]
    assert (status, errors) == (2, wanted)
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "c.tif"]
    mask = ["--mask", photos[1]]
    status, _, errors = run("stylize", photos[0], "-o", tmp_path / "masked.png", "--style", style, *options, *mask)
    assert (status, errors) == (2, wanted)
