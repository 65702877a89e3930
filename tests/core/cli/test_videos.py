"""Videos on the command line: the same frames as in Python, what is kept, and one-line errors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import save_noise, save_style
from perceptual_style.core.cli.videos import _seconds
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.video.process import process_video
from PIL import Image

pytest.importorskip("av", reason="PyAV is not installed")

from clips import FRAMES, HEIGHT, VARIABLE, WIDTH, contents, scene, sound_tracks, write_clip  # noqa: E402


@pytest.fixture
def style(tmp_path):
    return save_style(tmp_path / "styles" / "tiny.safetensors")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", tracks=2, times=VARIABLE, rotation=90)


def _close(first: np.ndarray, second: np.ndarray, most: float = 2) -> bool:
    return np.abs(first.astype(int) - second.astype(int)).mean() < most


@pytest.mark.parametrize(
    ("arguments", "controls"),
    [
        ((), {"temporal": 1.0}),
        (("--temporal", "0", "--workers", "2"), {}),
        (("--temporal", "0", "--strength", "0.5", "--wrap", "x", "--stroke-size", "auto"),
         {"strength": 0.5, "wrap": "x", "stroke_size": "auto"}),
    ],
)  # fmt: skip
def test_frames_are_as_in_python_and_the_rest_is_kept(arguments, controls, run, style, clip, tmp_path):
    out, expected = tmp_path / "out.mp4", tmp_path / "expected.mp4"
    lossless = ("--crf", "0")  # x264 does not always encode the same frames in the same way
    assert run("stylize", clip, "-o", out, "--style", style, *lossless, *arguments) == (0, "", [])
    process_video(clip, expected, load_style(style).stylizer(**controls), crf=0)
    before, after = contents(clip), contents(out)
    assert _close(after.pixels, contents(expected).pixels, 0.1)
    assert after.times == before.times and sound_tracks(out) == sound_tracks(clip)
    assert after.stream["size"] == (HEIGHT, WIDTH) and after.stream["rotation"] == 0


def test_upscale_enlarges_each_frame(run, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", times=[512 * n for n in range(3)], subtitles=True)
    model, expected = load_upscaler("pixel_x2"), tmp_path / "expected.mkv"
    folder = tmp_path / "large"
    status, _, lines = run("upscale", clip, "-o", folder, "--model", "pixel_x2", "--workers", "2", "-v")
    assert (status, lines) == (0, [f"perceptual-style: {clip}: {WIDTH}x{HEIGHT} px, 2 frames at a time"])
    process_video(clip, expected, lambda frame, progress: model.upscale(frame), scale=2)
    after = contents(folder / "clip.mkv")
    assert after.stream["size"] == (2 * WIDTH, 2 * HEIGHT) and len(after.times) == 3
    assert _close(after.pixels, contents(expected).pixels)
    assert after.packets["subtitle"] == contents(clip).packets["subtitle"]


def test_part_codec_and_quality(run, style, tmp_path):
    clip, out = write_clip(tmp_path / "clip.mp4"), tmp_path / "out.mkv"
    part = ["--start", "0.08", "--end", "0:00.2"]
    assert run("stylize", clip, "-o", out, "--style", style, *part, "--codec", "mpeg4")[0] == 0
    after = contents(out)
    assert len(after.times) == 3 and after.stream["codec"] == "mpeg4"
    sizes = []
    for crf in (5, 45):
        assert run("stylize", clip, "-o", out, "--style", style, "--crf", crf)[0] == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] > sizes[1]


def test_several_videos_go_to_a_folder(run, style, tmp_path):
    clips = [write_clip(tmp_path / name, sound=None, times=[0, 512]) for name in ("a.mp4", "b.mov")]
    png = write_clip(tmp_path / "c.avi", codec="png", pix_fmt="rgb24", sound=None, times=[0, 512])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    status, _, lines = run("stylize", *clips, tmp_path / "broken.mp4", png, "-o", out, "--style", style)
    assert status == 2 and [line.split(": ")[1] for line in lines] == [f"cannot read {tmp_path / 'broken.mp4'}"]
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "b.mov", "c.mp4"]
    status, _, lines = run("stylize", *clips, "-o", out, "--style", style, "--skip-existing")
    assert status == 0 and all("skipped" in line for line in lines) and len(lines) == 2


def test_animation_becomes_a_video_or_stays_an_animation(run, style, tmp_path):
    frames = [Image.fromarray(scene(index)).convert("RGBA") for index in range(3)]
    for frame in frames:
        frame.putalpha(
            Image.fromarray(np.kron([[255, 0], [255, 255]], np.ones((HEIGHT // 2, WIDTH // 2))).astype(np.uint8))
        )
    source = tmp_path / "clip.gif"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=[40, 120, 200], disposal=2)
    assert run("stylize", source, "-o", tmp_path / "out.mp4", "--style", style)[0] == 0
    assert np.allclose(contents(tmp_path / "out.mp4").times, [0, 0.04, 0.16])
    for suffix in (".gif", ".webp", ".png"):
        out = tmp_path / f"out{suffix}"
        assert run("stylize", source, "-o", out, "--style", style)[0] == 0
        with Image.open(out) as image:
            assert image.n_frames == 3
            durations, corners = [], []
            for index in range(3):
                image.seek(index)
                alpha = image.convert("RGBA").getchannel("A")
                durations.append(image.info["duration"])
                corners.append((alpha.getpixel((2, 2)), alpha.getpixel((WIDTH - 2, 2))))
            assert durations == [40, 120, 200] and corners == [(255, 0)] * 3


def test_bad_input_gets_one_line(refused, style, clip, tmp_path):
    photo = save_noise(tmp_path / "photo.png")
    options = ["--style", style]
    cases = [
        ([clip, photo, "-o", tmp_path / "out"], "some inputs are videos and some are not"),
        ([photo, "-o", tmp_path / "out.png", "--start", "3"], "--start is for videos"),
        ([clip, "-o", clip], "is read and would be replaced"),
        ([clip, "-o", tmp_path / "out.gif"], "a video ends in one of .mp4"),
        ([clip, "-o", "s3://bucket/out.mp4"], "local paths"),
        ([clip, "-o", tmp_path / "out.mp4", "--ray", "local"], "--ray is for photos"),
        ([clip, "-o", tmp_path / "out.mp4", "--workers", "2"], "add --temporal 0"),
        ([clip, "-o", tmp_path / "out.mp4", "--end", "soon"], "'soon' is not a time"),
        ([clip, "-o", tmp_path / "out.mp4", "--start", "5", "--end", "2"], "0 <= start < end"),
        ([clip, "-o", tmp_path / "out.mp4", "--start", "50"], "it has no frames in this part"),
        ([clip, "-o", tmp_path / "out.mp4", "--codec", "nothing"], "no encoder 'nothing'"),
        ([clip, "-o", tmp_path / "out.mp4", "--crf", "99"], "crf is 99; expected a number from 0 to 63"),
        ([clip, "-o", tmp_path / "out.mp4", "--stroke-size", "big"], "'big' is not a stroke size"),
        ([tmp_path / "gone.mp4", "-o", tmp_path / "out.mp4"], "there is no such file"),
    ]
    for arguments, message in cases:
        assert message in refused("stylize", *arguments, *options), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "photo.png", "styles"]


def test_interrupt_leaves_no_file(run, style, clip, tmp_path, monkeypatch):
    from perceptual_style.core.models.stylizer import Stylizer

    calls, stylized = [], Stylizer.__call__

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return stylized(self, *arguments)

    monkeypatch.setattr(Stylizer, "__call__", interrupted)
    status, out, lines = run("stylize", clip, "-o", tmp_path / "out.mp4", "--style", style)
    assert (status, out) == (130, "") and lines[-1] == "cancelled"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "styles"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30", 90), ("0:01:30.5", 90.5), ("2:00:00", 7200)])
def test_times(text, seconds):
    assert _seconds(text) == seconds


def test_progress_shows_frames_per_second_and_time_left(style, clip, tmp_path, capsys):
    from perceptual_style.core import cli

    assert cli.main(["stylize", str(clip), "-o", str(tmp_path / "out.mp4"), "--style", str(style)]) == 0
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert f"{FRAMES}/{FRAMES}" in last and "frame/s" in last and "<00:00" in last
