"""What cannot work is said before the work, in one line; files and terminals are treated with care."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
import torch
from helpers import save_noise as photo
from helpers import save_style
from perceptual_style.core import cli
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.cli.photos import _size
from perceptual_style.core.cli.terminal import plain
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.models.upscale_model import UpscaleModel
from perceptual_style.core.network.transform_net import build_network
from PIL import Image

MAIN = "import sys; from perceptual_style.core.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def style(tmp_path):
    return save_style(tmp_path / "styles" / "tiny.safetensors")


@pytest.fixture
def no_work(monkeypatch):
    """Fail the test if an image is computed."""

    def computed(*_, **__):
        raise AssertionError("an image was computed")

    monkeypatch.setattr(StyleModel, "stylize", computed)
    monkeypatch.setattr(UpscaleModel, "upscale", computed)


def test_sides_that_the_format_cannot_hold(refused, no_work, tmp_path):
    torch.manual_seed(0)
    model = tmp_path / "x8.safetensors"
    save_network(
        model, build_network("c3s1-4,p2-4,p2-4,p2-3 norm=none padding=zero output=linear"), {"task": "upscale"}
    )
    Image.new("RGB", (9000, 2)).save(tmp_path / "wide.png")
    for suffix, most in ((".jpg", 65500), (".webp", 16383)):
        line = refused("upscale", tmp_path / "wide.png", "-o", tmp_path / f"out{suffix}", "--model", model)
        assert f"has at most {most} pixels a side, got 72000 x 16; use .png or .tif" in line
    line = refused("upscale", tmp_path / "wide.png", "-o", tmp_path / "out.xyz", "--model", model)
    assert "expected a suffix such as .png" in line


def test_several_photos_need_a_folder(refused, no_work, style, tmp_path):
    photos = [photo(tmp_path / "in" / f"{name}.png") for name in "ab"]
    for sources in (photos, [tmp_path / "in"]):
        line = refused("stylize", *sources, "-o", tmp_path / "result.png", "--style", style)
        assert "result.png is the name of one image" in line and "give a folder" in line
    assert not (tmp_path / "result.png").exists()


def test_folder_with_a_dot_in_its_name_is_a_folder(run, style, tmp_path):
    photos = [photo(tmp_path / "in" / f"{name}.png") for name in "ab"]
    assert run("stylize", *photos, "-o", tmp_path / "out.v2", "--style", style)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out.v2").iterdir()) == ["a.png", "b.png"]


def test_files_that_are_read_are_not_replaced(refused, no_work, style, tmp_path):
    source, mask = photo(tmp_path / "a.png"), photo(tmp_path / "mask.png", mode="L")
    line = refused("stylize", source, "-o", mask, "--style", style, "--mask", mask)
    assert "mask.png is read and would be replaced" in line
    for output in (source, mask):
        assert "is read and would be replaced" in refused("optimize", source, mask, "-o", output)
    os.symlink(source, tmp_path / "link.png")
    assert "would be replaced" in refused("stylize", source, "-o", tmp_path / "link.png", "--style", style)


def test_results_of_formats_that_are_only_read_get_another_suffix(run, style, tmp_path):
    folder = tmp_path / "in"
    photo(folder / "a.png").rename(folder / "photo")
    Image.new("RGB", (9, 8)).save(folder / "b.pgm", "PPM")
    assert run("stylize", folder / "photo", folder / "b.pgm", "-o", tmp_path / "out", "--style", style)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.pgm", "photo.png"]


def test_patterns_are_expanded_where_the_shell_does_not(run, refused, style, tmp_path):
    for name in ("b10", "b2", "c"):
        photo(tmp_path / "in" / f"{name}.png")
    assert run("stylize", tmp_path / "in" / "b*.png", "-o", tmp_path / "out", "--style", style)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b10.png", "b2.png"]
    assert "matches no file" in refused("stylize", tmp_path / "*.jpg", "-o", tmp_path / "out", "--style", style)
    photo(tmp_path / "in" / "d[1].png")
    assert run("stylize", tmp_path / "in" / "d[1].png", "-o", tmp_path / "one.png", "--style", style)[0] == 0


def test_sizes_of_memory():
    sizes = {"2GB": 2 << 30, "2G": 2 << 30, "1.5gib": 3 << 29, "800 MB": 800 << 20, "64k": 64 << 10, "1T": 1 << 40}
    assert {text: _size(text) for text in sizes} == sizes
    assert _size("12345") == 12345


def test_empty_names_get_their_line(refused, style, tmp_path):
    source = photo(tmp_path / "a.png")
    assert "output is empty" in refused("stylize", source, "-o", "", "--style", style)
    assert "photos is empty" in refused("stylize", "", "-o", tmp_path / "out", "--style", style)
    assert "file is empty" in refused("describe", "")


def test_control_characters_never_reach_the_terminal(run, tmp_path):
    assert plain("a\x1b[31mb\x07\x9b\u202ec\tdé\n") == "a\\x1b[31mb\\x07\\x9b\\u202ec\tdé\n"
    path = save_style(tmp_path / "a.safetensors", title="red \x1b[31m\x07 title", credit={"artist": "\x9bnobody"})
    status, out, lines = run("describe", path)
    assert status == 0 and "\\x1b[31m" in out
    source = tmp_path / "bad\x1b]0;title\x07.png"
    source.write_bytes(b"\x1b\x07")
    status, _, lines = run("stylize", source, "-o", tmp_path / "out.png", "--style", path)
    assert status == 2 and not any(
        ord(each) < 32 or 127 <= ord(each) < 160 for each in out.replace("\n", "") + lines[0]
    )


@pytest.mark.slow
def test_text_that_the_encoding_lacks_is_escaped(run_python, tmp_path):
    path = save_style(tmp_path / "a.safetensors", title="星月夜")
    process = run_python(f"import sys; sys.stdout.reconfigure(encoding='ascii'); {MAIN}", "describe", path)
    assert process.returncode == 0 and "\\u661f" in process.stdout and "Traceback" not in process.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_while_modules_are_imported_is_no_traceback(monkeypatch, capsys):
    def interrupted(name, package=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert cli.main(["describe", "a.safetensors"]) == 130
    assert capsys.readouterr().err == "cancelled\n"


def test_names_with_ends_of_lines_stay_in_one_line(run, style, tmp_path):
    source = tmp_path / "two\nlines.png"
    try:
        source.write_bytes(b"nothing")
    except OSError:
        pytest.skip("this system has no such names")
    for photos in ([source], [source, photo(tmp_path / "a.png")]):
        status, _, lines = run("stylize", *photos, "-o", tmp_path / "out", "--style", style)
        assert status == 2 and len(lines) == 1 and "two\\nlines.png" in lines[0]


CLOSED = """
import os, sys
os.close(int(sys.argv.pop(1)))
os.execv(sys.executable, [sys.executable, "-c", sys.argv.pop(1), *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams_are_no_obstacle(closed, run_python, tmp_path):
    path = save_style(tmp_path / "a.safetensors", title="my title")
    process = run_python(CLOSED, closed, MAIN, "describe", path)
    assert process.returncode == 0 and "Traceback" not in process.stderr
    assert ("my title" in process.stdout) == (closed == 2)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_answer_that_cannot_be_written_is_one_line(start_python, tmp_path):
    path = save_style(tmp_path / "a.safetensors")
    with open("/dev/full", "w") as full, start_python(MAIN, "describe", path, stdout=full.fileno()) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "perceptual-style: [Errno 28] No space left on device\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_signals_clean_up(start_python, style, tmp_path):
    source = photo(tmp_path / "large.png", 3000, 2000)
    processes = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        arguments = ["stylize", source, "-o", tmp_path / name / "large.png", "--style", style, "--stroke-size", "0.25"]
        processes[name] = start_python(MAIN, *arguments)
    time.sleep(2)
    for name, status in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)):
        with processes[name] as process:
            process.send_signal(getattr(signal, name))
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (status, "cancelled\n")
        assert not (tmp_path / name).exists() or not list((tmp_path / name).iterdir())


def test_what_pillow_warns_of_is_one_line_of_ours(run, style, tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x7f" * 30
    Image.new("RGB", (20, 16)).save(tmp_path / "a.jpg", exif=exif)
    status, _, lines = run("stylize", tmp_path / "a.jpg", "-o", tmp_path / "b.jpg", "--style", style)
    assert (status, lines) == (0, [f"perceptual-style: {tmp_path / 'a.jpg'}: its EXIF is damaged and left out"])


def test_files_of_other_kinds_in_a_folder_are_named(run, style, tmp_path):
    photo(tmp_path / "in" / "a.png")
    for name in ("IMG_1.heic", "b.cr2", "clip.mp4", "notes.txt", ".hidden.heic"):
        (tmp_path / "in" / name).write_bytes(b"x")
    status, _, lines = run("stylize", tmp_path / "in", "-o", tmp_path / "out", "--style", style)
    assert status == 0 and len(lines) == 1
    assert "skipped 3 files in unsupported formats: b.cr2, clip.mp4, IMG_1.heic; HEIC photos need" in lines[0].replace(
        "IMG_1.heic, b.cr2, clip.mp4", "b.cr2, clip.mp4, IMG_1.heic"
    )


def test_damaged_tiff_is_one_line_of_ours(run, tmp_path, caplog):
    pytest.importorskip("tifffile")
    Image.new("RGB", (20, 16)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[12] = 244  # the type of the first tag
    (tmp_path / "a.tif").write_bytes(content)
    status, _, lines = run("stylize", tmp_path / "a.tif", "-o", tmp_path / "b.jpg")
    line = f"perceptual-style: cannot read {tmp_path / 'a.tif'}: the TIFF file is damaged or incomplete"
    assert (status, lines, caplog.messages) == (2, [line], [])
