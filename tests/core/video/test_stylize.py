"""Videos through a function: what is kept, what is held in memory, and what is left after a failure."""

from __future__ import annotations

import io
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import hide_optional_packages
from perceptual_style.core.errors import Cancelled, InputError, VideoError
from perceptual_style.core.progress import Progress
from perceptual_style.core.video.reading import Frame, open_video
from perceptual_style.core.video.stylize import stylize_video

av = pytest.importorskip("av", reason="PyAV is not installed")

from clips import FRAMES, HEIGHT, VARIABLE, WIDTH, contents, scene, write_clip  # noqa: E402


@pytest.fixture
def clip(tmp_path):
    """Write a clip to the test's folder and return its path."""
    return lambda name="clip.mp4", **options: write_clip(tmp_path / name, **options)


def same(frame, progress=None):
    return frame


def _close(first: np.ndarray, second: np.ndarray) -> bool:
    return np.abs(first.astype(int) - second.astype(int)).mean() < 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_times_sound_and_tags_are_kept(clip, tmp_path, suffix):
    source, out = clip(aspect=Fraction(4, 3)), tmp_path / f"out{suffix}"
    assert stylize_video(source, out, same) == FRAMES
    before, after = contents(source), contents(out)
    assert np.allclose(np.diff(after.times), np.diff(before.times), atol=0.001)
    assert [content for content, _ in after.packets["audio"]] == [content for content, _ in before.packets["audio"]]
    apart = np.subtract([time for _, time in after.packets["audio"]], [time for _, time in before.packets["audio"]])
    assert np.allclose(apart, after.times[0] - before.times[0], atol=0.002), "sound and picture have moved apart"
    assert after.stream == before.stream
    assert _close(after.pixels, before.pixels)


def test_variable_frame_rate_survives(clip, tmp_path):
    source, out = clip(times=VARIABLE), tmp_path / "out.mp4"
    stylize_video(source, out, same)
    before, after = contents(source), contents(out)
    assert after.times == before.times == [time / 12_800 for time in VARIABLE]
    assert after.end == before.end


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_result_is_upright(clip, tmp_path, rotation):
    source, out, seen = clip(rotation=rotation), tmp_path / "out.mp4", []
    stylize_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    expected = np.rot90(scene(0), rotation // 90)  # both count counterclockwise
    assert _close(seen[0][0].movedim(0, -1).mul(255).numpy(), expected)
    after = contents(out)
    assert after.stream["rotation"] == 0 and after.stream["size"] == expected.shape[1::-1]
    assert _close(after.pixels[0], expected)


@pytest.mark.parametrize(("matrix", "value_range"), [(1, 1), (1, 2), (6, 1), (9, 1)])
def test_color_matrix_and_range(clip, tmp_path, matrix, value_range):
    source, out, seen = clip(matrix=matrix, value_range=value_range), tmp_path / "out.mp4", []
    stylize_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    assert _close(seen[3][0].movedim(0, -1).mul(255).numpy(), scene(3)), "the function does not see the clip's colors"
    after = contents(out)
    assert (after.stream["matrix"], after.stream["range"]) == (matrix, value_range)
    assert _close(after.pixels, contents(source).pixels)


def test_ten_bits_are_kept(clip, tmp_path):
    source, out, seen = clip(pix_fmt="yuv420p10le"), tmp_path / "out.mp4", []
    stylize_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    assert contents(out).stream["format"] == "yuv420p10le"
    levels = seen[0][0, 0, -1].mul(255)
    assert (levels - levels.round()).abs().max() > 0.2, "the function sees only 8 bits"


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("ffv1", "yuv444p")])
def test_odd_sizes_and_other_codecs(clip, tmp_path, codec, pix_fmt):
    source, out = clip("clip.avi", size=(35, 53), codec=codec, pix_fmt=pix_fmt, sound=None), tmp_path / "out.mp4"
    stylize_video(source, out, same)
    after = contents(out)
    assert after.stream["size"] == (53, 35) and len(after.times) == FRAMES
    assert np.abs(after.pixels[0].astype(int) - scene(0, 35, 53)).mean() < (8 if codec == "mjpeg" else 2)


def test_sound_that_container_cannot_hold_is_encoded(clip, tmp_path):
    source, out, notes = clip("clip.mkv", sound="wavpack"), tmp_path / "out.mp4", []
    stylize_video(source, out, same, progress=lambda one: notes.extend(one.notes))
    assert len(contents(out).packets["audio"]) > 10
    (note,) = notes
    assert "wavpack" in note and ".mkv" in note
    with av.open(str(out)) as container:
        (sound,) = container.streams.audio
        assert (sound.codec_context.name, sound.sample_rate) == ("aac", 48_000)


def test_subtitles_are_copied_or_reported(clip, tmp_path):
    source, notes = clip("clip.mkv", subtitles=True), []
    stylize_video(source, tmp_path / "out.mkv", same)
    assert contents(tmp_path / "out.mkv").packets["subtitle"] == contents(source).packets["subtitle"]
    stylize_video(source, tmp_path / "out.mp4", same, progress=lambda one: notes.extend(one.notes))
    assert notes == ["left out subtitles (stream 2): .mp4 cannot hold subrip; .mkv can"]


def test_part_of_a_video(clip, tmp_path):
    source, out = clip("clip.mkv", subtitles=True), tmp_path / "out.mkv"
    assert stylize_video(source, out, same, start=0.12, end=0.32) == 5
    before, after = contents(source), contents(out)
    assert _close(after.pixels, before.pixels[3:8])
    within = [content for content, time in before.packets["audio"] if 0.12 <= time < 0.32]
    assert [content for content, _ in after.packets["audio"]] == within != []
    assert [content for content, _ in after.packets["subtitle"]] == [b"line 2", b"line 7"]
    with pytest.raises(InputError, match="0 <= start < end"):
        stylize_video(source, out, same, start=1, end=1)
    with pytest.raises(VideoError, match="no frames in this part"):
        stylize_video(source, tmp_path / "none.mp4", same, start=100)


def test_function_gets_frames_in_order_and_its_results_are_written(clip, tmp_path):
    source, out, seen = clip(), tmp_path / "out.mp4", []

    def inverted(frame, progress):
        seen.append(frame.clone())
        return 1 - frame

    stylize_video(source, out, inverted)
    assert {(tuple(each.shape), each.dtype) for each in seen} == {((1, 3, HEIGHT, WIDTH), torch.float32)}
    assert all(_close(each[0].movedim(0, -1).mul(255).numpy(), scene(index)) for index, each in enumerate(seen))
    assert _close(contents(out).pixels, 255 - np.stack([scene(index) for index in range(FRAMES)]))


def test_open_file_as_source(clip, tmp_path):
    file = io.BytesIO(clip().read_bytes())
    assert stylize_video(file, tmp_path / "out.mp4", same) == FRAMES
    assert not file.closed


def test_only_a_few_frames_are_held(clip, tmp_path):
    alive, most = weakref.WeakSet(), 0

    def watched(frame, progress):
        nonlocal most
        result = frame + 0
        alive.update((frame, result))
        most = max(most, len(alive))
        return result

    stylize_video(clip(times=[512 * n for n in range(40)], sound=None), tmp_path / "out.mp4", watched)
    assert most <= 4


def test_progress_rises_to_the_end(clip, tmp_path):
    shares, previews = [], []

    def in_two_steps(frame, progress):
        progress(Progress(1, 2))
        progress(Progress(2, 2))
        return frame

    def report(one):
        shares.append(one.done / one.total)
        previews.append(one.preview)

    stylize_video(clip(), tmp_path / "out.mp4", in_two_steps, progress=report)
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1 and shares.count(1) == 1
    assert sum(each is not None and each.shape == (1, 3, HEIGHT, WIDTH) for each in previews) == FRAMES


class Interrupted(BaseException):
    """An exception like the host's."""


@pytest.mark.parametrize("error", [Cancelled, Interrupted, ZeroDivisionError])
@pytest.mark.parametrize("existing", [False, True])
def test_failure_leaves_nothing(clip, tmp_path, error, existing):
    source, folder = clip(), tmp_path / "out"
    folder.mkdir()
    if existing:
        (folder / "out.mp4").write_bytes(b"old")

    def stop(one):
        if one.done >= 5:
            raise error

    with pytest.raises(error):
        stylize_video(source, folder / "out.mp4", same, progress=stop)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("out.mp4", b"old")] * existing


def test_damaged_files_give_one_line(clip, tmp_path):
    good = clip()
    whole = good.read_bytes()
    cases = {"missing.mp4": None, "empty.mp4": b"", "text.mp4": b"no video" * 99, "cut.mp4": whole[: len(whole) // 2]}
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(VideoError, match=f"^cannot read .*{name}: ") as raised:
            stylize_video(path, tmp_path / "out.mp4", same)
        assert "\n" not in str(raised.value)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no video stream"):
        stylize_video(sound, tmp_path / "out.mp4", same)
    assert not (tmp_path / "out.mp4").exists()


def test_damaged_packets_are_skipped_and_reported(clip, tmp_path):
    source, notes = clip("clip.avi", codec="png", pix_fmt="rgb24", sound=None), []
    content = bytearray(source.read_bytes())
    places = [at for at in range(len(content) - 8) if content[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    content[places[4] : places[4] + 40] = bytes(40)
    source.write_bytes(content)
    count = stylize_video(source, tmp_path / "out.mp4", same, progress=lambda one: notes.extend(one.notes))
    assert count == FRAMES - 2  # FFmpeg joins it with the next
    assert len(notes) == 1 and "skipped damaged packets" in notes[0] and notes[0].endswith(": 1")


def test_bad_destinations_are_rejected_before_work(clip, tmp_path):
    source, calls = clip(), []

    def count(frame, progress):
        calls.append(1)
        return frame

    for destination, message in ((tmp_path, "Is a directory|Permission"), (tmp_path / "out.xyz", "unknown suffix")):
        with pytest.raises(VideoError, match=message):
            stylize_video(source, destination, count)
    with pytest.raises(InputError, match="no encoder 'nothing'"):
        stylize_video(source, tmp_path / "out.mp4", count, codec="nothing")
    assert calls == [] and sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]


def test_other_codecs_and_quality(clip, tmp_path):
    source = clip()
    sizes = []
    for crf in (5, 45):
        stylize_video(source, tmp_path / "out.mp4", same, crf=crf)
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes[0] > sizes[1]
    stylize_video(source, tmp_path / "out.webm", same, codec="vp9")
    after = contents(tmp_path / "out.webm")
    assert (after.stream["codec"], len(after.times)) == ("vp9", FRAMES) and after.packets["audio"]


def test_reader_counts_frames_and_finds_sizes(clip):
    with open_video(clip(rotation=90)) as video:
        assert (video.expected, video.height, video.width, video.rate) == (FRAMES, WIDTH, HEIGHT, 25)
        frames = [item for item in video if isinstance(item, Frame)]
    assert [frame.time for frame in frames] == [512 * index for index in range(FRAMES)]
    with open_video(clip(), start=0.08, end=0.2) as video:
        assert video.expected == 3


def test_missing_pyav_is_reported_with_command(monkeypatch, tmp_path):
    hide_optional_packages(monkeypatch)
    with pytest.raises(VideoError, match=r"PyAV|package av.*perceptual-style\[video\]"):
        stylize_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", same)
