"""The command upscale: photos of every kind, enlarged exactly two, four or eight times."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import difference, noise
from image_files import needs_deep_png
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.images.bicubic import enlarge
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.network.transform_net import build_network
from PIL import Image, ImageCms

ARCH = "c3s1-4,R4,u4,c3s1-3 norm=none padding=replicate output=linear"


@pytest.fixture
def model(tmp_path):
    """A file of an untrained x2 upscaler, with its partner in the same folder."""
    folder = tmp_path / "models"
    for seed, name, facts in ((1, "pixel", {}), (0, "tiny", {"partner": "pixel", "title": "Tiny"})):
        torch.manual_seed(seed)
        save_network(folder / f"{name}.safetensors", build_network(ARCH), {"task": "upscale", "name": name, **facts})
    return folder / "tiny.safetensors"


def test_upscale_writes_the_result_of_the_model(run, model, tmp_path):
    Image.fromarray(noise(17, 24, 3)).save(tmp_path / "photo.png")
    pixels = read_image(tmp_path / "photo.png").pixels
    assert run("upscale", tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", model) == (0, "", [])
    assert difference(tmp_path / "out.png", load_upscaler(model).upscale(pixels)) <= 0.5 / 255 + 1e-6
    arguments = ["-o", tmp_path / "blend.png", "--model", model, "--fidelity", "0.5", "--factor", "2", "--memory", "1G"]
    assert run("upscale", tmp_path / "photo.png", *arguments)[0] == 0
    blend = load_upscaler(model).upscale(pixels, fidelity=0.5)
    assert difference(tmp_path / "blend.png", blend) <= 0.5 / 255 + 1e-6
    assert (blend - load_upscaler(model).upscale(pixels, fidelity=0)).abs().max() > 0.01


def test_denoise_blends_a_restorer_with_its_clean_partner(run, refused, model, tmp_path):
    Image.fromarray(noise(9, 8, 3)).save(tmp_path / "photo.png")
    pixels = read_image(tmp_path / "photo.png").pixels
    restorer = model.with_name("restore.safetensors")
    save_network(restorer, build_network(ARCH), {"task": "upscale", "dial": "denoise", "partner": "pixel"})
    start = ["upscale", tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", restorer]
    for options, denoise in ((["--denoise", "0.5"], 0.5), ([], 1)):
        assert run(*start, *options)[0] == 0
        expected = load_upscaler(restorer).upscale(pixels, denoise=denoise)
        assert difference(tmp_path / "out.png", expected) <= 0.5 / 255 + 1e-6
    assert "has no fidelity; use denoise" in refused(*start, "--fidelity", "0.5")
    assert "has no denoise; use fidelity" in refused(*start[:-1], model, "--denoise", "0.5")


def test_match_colors_gives_the_histogram_of_the_photo(run, model, tmp_path):
    pytest.importorskip("perceptual_style.core.images.color")
    Image.fromarray(noise(30, 24, 3)).save(tmp_path / "photo.png")
    arguments = ["-o", tmp_path / "out.png", "--model", model, "--match-colors"]
    assert run("upscale", tmp_path / "photo.png", *arguments) == (0, "", [])
    means = [read_image(tmp_path / name).pixels.mean(dim=(0, 2, 3)) for name in ("photo.png", "out.png")]
    torch.testing.assert_close(*means, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 50)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16"])
def test_upscale_reads_photos_of_every_mode(mode, size, run, model, tmp_path):
    if mode == "I;16":
        needs_deep_png(tmp_path)
    width, height = size
    bands = {"P": "RGB", "I;16": "LA"}.get(mode, mode)  # two bytes a pixel
    pixels = noise(height, width, len(bands)).tobytes()
    image = Image.frombytes("RGB" if mode == "P" else mode, size, pixels)
    source = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    (image.quantize(16) if mode == "P" else image).save(source)
    assert run("upscale", source, "-o", tmp_path / "out.png", "--model", model)[0] == 0
    read, out = read_image(source), read_image(tmp_path / "out.png")
    assert out.pixels.shape == (1, 3, 2 * height, 2 * width)
    assert (out.alpha is None) == (read.alpha is None) == (mode not in ("RGBA", "LA"))
    assert difference(tmp_path / "out.png", load_upscaler(model).upscale(read.filled)) <= 0.5 / 255 + 1e-6
    if out.alpha is not None:
        assert (out.alpha - enlarge(read.alpha, 2).clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_upscale_writes_opaque_photos_as_jpeg(run, model, tmp_path):
    pixels = noise(20, 30, 4)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    assert run("upscale", tmp_path / "photo.png", "-o", tmp_path / "out.jpg", "--model", model) == (0, "", [])


def test_upscale_keeps_orientation_color_profile_and_exif(run, model, tmp_path):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a camera"  # turned by 90 degrees
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise(20, 31, 3)).save(tmp_path / "photo.jpg", exif=exif, icc_profile=profile)
    assert run("upscale", tmp_path / "photo.jpg", "-o", tmp_path / "out.jpg", "--model", model)[0] == 0
    with Image.open(tmp_path / "out.jpg") as out:
        assert out.size == (40, 62) and out.info["icc_profile"] == profile
        assert out.getexif().get(274, 1) == 1 and out.getexif()[271] == "a camera"


def test_bad_photo_does_not_stop_the_others(run, model, tmp_path):
    for name in ("a.png", "sub/b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(6, 7, 3)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    status, _, lines = run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", model)
    assert status == 2 and len(lines) == 1 and "broken.png" in lines[0]
    for name in ("a.png", "sub/b.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (14, 12)


def test_errors_are_one_line(refused, model, tmp_path):
    Image.fromarray(noise(6, 7, 3)).save(tmp_path / "a.png")
    start = ["upscale", tmp_path / "a.png", "-o", tmp_path / "out.png"]
    assert "enlarges 2 times, not 4" in refused(*start, "--model", model, "--factor", "4")
    assert "expected a number from 0" in refused(*start, "--model", model, "--fidelity", "2")
    pixel = model.with_name("pixel.safetensors")
    assert "no partner" in refused(*start, "--model", pixel, "--fidelity", "1")
    assert "no upscaler named 'no_such_model'" in refused(*start, "--model", "no_such_model")
    assert "--factor" in refused(*start, "--factor", "3")
    torch.manual_seed(0)
    save_network(tmp_path / "style.safetensors", build_network("c3s1-3"), {"task": "style"})
    assert "not an x2, x4 or x8 upscaler" in refused(*start, "--model", tmp_path / "style.safetensors")
    assert not (tmp_path / "out.png").exists()


def test_describe_prints_facts_of_an_upscaler(run, model):
    status, out, _ = run("describe", model, "--json")
    answer = json.loads(out)
    expected = {"task": "upscale", "scale": 2, "partner": "pixel", "arch": ARCH, "title": "Tiny"}
    assert status == 0 and answer | expected == answer


def test_hidden_colors_change_no_file(run, model, tmp_path):
    visible = noise(20, 30, 4)
    visible[..., 3] = 255 * (visible[..., 3] > 128)
    for name, hidden in (("black", 0), ("white", 255)):
        pixels = visible.copy()
        pixels[pixels[..., 3] == 0, :3] = hidden
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        assert run("upscale", tmp_path / f"{name}.png", "-o", tmp_path / f"{name}_x2.png", "--model", model)[0] == 0
    assert (tmp_path / "black_x2.png").read_bytes() == (tmp_path / "white_x2.png").read_bytes()
