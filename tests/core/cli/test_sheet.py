"""The command ``sheet``."""

from __future__ import annotations

import shutil

import pytest
import torch
from helpers import save_noise, save_style
from network_archs import randomized
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.checkpoints.tensor_files import NETWORK_SUFFIXES
from perceptual_style.core.cli import sheet as command
from perceptual_style.core.images.reading import read_image
from PIL import Image


@pytest.fixture
def styles(tmp_path):
    """A folder with two styles, a file of two more, an upscaler and a text."""
    folder = tmp_path / "styles"
    folder.mkdir()
    for name in ("one", "two"):
        save_style(folder / f"{name}.safetensors")
    facts = {"task": "style", "name": "rows", "styles": [{"name": "three"}, {"name": "four"}]}
    save_network(folder / "rows.safetensors", randomized("c3s1-4,c3s1-3 padding=reflect styles=2"), facts)
    save_network(folder / "upscaler.safetensors", randomized("c3s1-4,p2-3 norm=none padding=zero"), {"task": "upscale"})
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def shown(monkeypatch):
    """Names that are drawn on sheets."""
    names = []
    draw = command.style_sheet

    def noting(photo, styles, **options):
        names.extend(name for name, _ in styles)
        return draw(photo, styles, **options)

    monkeypatch.setattr(command, "style_sheet", noting)
    return names


def test_sheet_shows_names_files_folders_and_styles_of_files(run, tmp_path, styles, shown):
    photo = save_noise(tmp_path / "photo.png", 80, 64)
    given = (styles / "one.safetensors", f"{styles / 'rows.safetensors'}#four", styles)
    status, out, lines = run(
        "sheet", photo, "-o", tmp_path / "sheet.png", "--size", 64, "--columns", 3, "--styles", *given
    )
    assert (status, out) == (0, f"{tmp_path / 'sheet.png'}\n")
    assert shown == ["one", "four", "one", "three", "four", "two"]
    assert [line for line in lines if "skipped" in line and "upscaler.safetensors" in line and "x2 upscaler" in line]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 3 * 64


@pytest.mark.parametrize("suffix", NETWORK_SUFFIXES)
def test_sheet_shows_files_of_every_suffix_in_a_folder(run, tmp_path, shown, suffix):
    folder = tmp_path / "styles"
    folder.mkdir()
    save_style(folder / "one.safetensors").rename(folder / f"one{suffix}")
    photo = save_noise(tmp_path / "photo.png", 80, 64)
    assert run("sheet", photo, "-o", tmp_path / "sheet.png", "--size", 64, "--styles", folder)[0] == 0
    assert len(shown) == 1


def test_sheet_without_styles_shows_all_that_are_here(run, tmp_path, shown, monkeypatch):
    monkeypatch.setattr(command, "load_styles", lambda name: [_Copy(name)])
    photo = save_noise(tmp_path / "photo.png", 70, 66)
    assert run("sheet", photo, "-o", tmp_path / "sheet.png")[0] == 0
    assert {"starry_night", "wave", "udnie", "shipwreck"} < set(shown)
    assert not {name for name in shown if name.startswith("maze")}, "those would have to be downloaded"


class _Copy:
    """A style that changes nothing."""

    def __init__(self, name):
        self.name = name

    def stylize(self, photo, **options):
        return photo


def test_transparent_photo_is_filled_and_upright(run, tmp_path, styles):
    photo = save_noise(tmp_path / "photo.png", 72, 68, "RGBA")
    assert run("sheet", photo, "-o", tmp_path / "s.png", "--styles", styles / "one.safetensors")[0] == 0
    filled, sheet = read_image(photo).filled, read_image(tmp_path / "s.png").pixels
    assert torch.allclose(sheet[..., 16 : 16 + 68, 16 : 16 + 72], filled, atol=1.1 / 255)


def test_mistakes_are_one_line_and_leave_nothing(refused, tmp_path, styles):
    photo = save_noise(tmp_path / "photo.png")
    target = tmp_path / "sheet.png"
    assert "no style named 'none'" in refused("sheet", photo, "-o", target, "--styles", "none")
    assert "expected 64 to 2048" in refused(
        "sheet", photo, "-o", target, "--size", 9, "--styles", styles / "one.safetensors"
    )
    assert "no such file" in refused("sheet", tmp_path / "missing.png", "-o", target)
    assert "would be replaced" in refused("sheet", photo, "-o", photo)
    refused("sheet", photo, "-o", tmp_path / "sheet.txt")
    shutil.rmtree(styles)
    styles.mkdir()
    assert "no styles in the folder" in refused("sheet", photo, "-o", target, "--styles", styles)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "styles"]
