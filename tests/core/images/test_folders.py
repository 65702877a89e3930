"""Image files found in folders."""

from __future__ import annotations

import os

import pytest
from image_files import message, noise, save
from perceptual_style.core.images.folders import find_images, passed_over
from perceptual_style.core.images.pillow import reads_heif
from PIL import Image


def test_find_images_in_folders_and_among_files(tmp_path):
    for name in (
        "b/2.PNG",
        "b/10.jpeg",
        "a.jpg",
        "c.txt",
        ".hidden.png",
        ".cache/x.png",
        "d.png/e.webp",
        "notes.png.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [tmp_path / name for name in ("a.jpg", "b/2.PNG", "b/10.jpeg", "d.png/e.webp")]
    assert find_images(tmp_path) == found
    assert find_images(str(tmp_path)) == found
    assert find_images([tmp_path / "c.txt", tmp_path / "b", tmp_path, str(tmp_path / "a.jpg")]) == [
        tmp_path / "c.txt",
        *found[1:3],
        found[0],
        found[3],
    ]
    assert find_images([]) == []


def test_numbers_in_names_sort_as_numbers(tmp_path):
    names = [
        "a",
        "clip2/frame1",
        "clip2/frame02",
        "clip2/frame2",
        "clip2/frame10",
        "clip2/frame10b3",
        "clip10/frame1",
        "x",
    ]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").touch()
    assert find_images(tmp_path) == [tmp_path / f"{name}.png" for name in names]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_to_folders_are_followed_once(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "photos"
    for place in (elsewhere, folder / "own"):
        place.mkdir(parents=True)
        (place / "a.png").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert find_images(folder) == [folder / "linked" / "a.png", folder / "own" / "a.png"]


def test_every_format_that_is_read_counts_in_folders(tmp_path):
    newer = [end for end in ("pfm", "vda") if f".{end}" in Image.registered_extensions()]  # Pillow 10.3 and newer
    names = sorted(f"a.{end}" for end in ("apng", "j2k", "jpe", "mpo", "pbm", "psd", "tif", *newer))
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == names and passed_over([tmp_path]) == []


def test_pictures_that_are_passed_over(tmp_path):
    for name in ("a.eps", "b.pcx", "c.sgi", "d.psb", "e.hif", "f.3gp", "g.txt", "h.json", ".hidden.heic"):
        (tmp_path / name).touch()
    save(tmp_path / "image", noise(2, 3, 3), format="PNG")
    (tmp_path / "notes").write_text("text")
    (tmp_path / "empty").touch()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    wanted = ["a.eps", "b.pcx", "c.sgi", "d.psb", *([] if reads_heif() else ["e.hif"]), "f.3gp", "image"]
    assert [path.name for path in passed_over([tmp_path, tmp_path / "a.eps"])] == wanted


def test_folders_without_images_are_rejected(tmp_path):
    (tmp_path / "c.txt").write_text("")
    missing = tmp_path / "missing"
    assert message(find_images, [tmp_path]).startswith(f"the folder {tmp_path} has no images; ")
    assert (
        message(find_images, [missing]) == f"{missing} does not exist; expected an image file or a folder with images"
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_folders_that_cannot_be_listed(tmp_path):
    tmp_path.chmod(0)
    try:
        assert message(find_images, [tmp_path]) == f"cannot list the folder {tmp_path}: Permission denied"
    finally:
        tmp_path.chmod(0o700)
