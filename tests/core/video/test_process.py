"""Videos through a function: what is kept, what is held in memory, and what is left after a failure."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import time
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import hide_optional_packages
from perceptual_style.core import files
from perceptual_style.core.errors import Cancelled, InputError, VideoError
from perceptual_style.core.progress import Progress
from perceptual_style.core.video.colors import Converter
from perceptual_style.core.video.process import process_video
from perceptual_style.core.video.reading import Frame, open_video
from PIL import Image

av = pytest.importorskip("av", reason="PyAV is not installed")

from clips import FRAMES, HEIGHT, VARIABLE, WIDTH, contents, scene, sound_tracks, write_clip  # noqa: E402


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
    assert process_video(source, out, same) == FRAMES
    before, after = contents(source), contents(out)
    assert np.allclose(np.diff(after.times), np.diff(before.times), atol=0.001)
    assert [content for content, _ in after.packets["audio"]] == [content for content, _ in before.packets["audio"]]
    apart = np.subtract([time for _, time in after.packets["audio"]], [time for _, time in before.packets["audio"]])
    assert np.allclose(apart, after.times[0] - before.times[0], atol=0.002), "sound and picture have moved apart"
    assert after.stream == before.stream
    assert _close(after.pixels, before.pixels)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_all_tracks_of_sound_are_copied(clip, tmp_path, suffix):
    source, out = clip(tracks=2), tmp_path / f"out{suffix}"
    process_video(source, out, same)
    before, after = sound_tracks(source), sound_tracks(out)
    assert [language for language, _ in after] == ["fra", "deu"] and after == before
    assert before[0][1] != before[1][1] and len(before[0][1]) > 10


def test_variable_frame_rate_with_rotation_and_ten_bits(clip, tmp_path):
    source, out = clip(times=VARIABLE, rotation=90, pix_fmt="yuv420p10le", tracks=2), tmp_path / "out.mp4"
    process_video(source, out, same)
    before, after = contents(source), contents(out)
    assert after.times == before.times and after.end == before.end
    assert (after.stream["format"], after.stream["size"]) == ("yuv420p10le", (HEIGHT, WIDTH))
    assert sound_tracks(out) == sound_tracks(source)


def test_variable_frame_rate_survives(clip, tmp_path):
    source, out = clip(times=VARIABLE), tmp_path / "out.mp4"
    process_video(source, out, same)
    before, after = contents(source), contents(out)
    assert after.times == before.times == [time / 12_800 for time in VARIABLE]
    assert after.end == before.end


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_result_is_upright(clip, tmp_path, rotation):
    source, out, seen = clip(rotation=rotation), tmp_path / "out.mp4", []
    process_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    expected = np.rot90(scene(0), rotation // 90)  # both count counterclockwise
    assert _close(seen[0][0].movedim(0, -1).mul(255).numpy(), expected)
    after = contents(out)
    assert after.stream["rotation"] == 0 and after.stream["size"] == expected.shape[1::-1]
    assert _close(after.pixels[0], expected)


@pytest.mark.parametrize(("matrix", "value_range"), [(1, 1), (1, 2), (6, 1), (9, 1)])
def test_color_matrix_and_range(clip, tmp_path, matrix, value_range):
    source, out, seen = clip(matrix=matrix, value_range=value_range), tmp_path / "out.mp4", []
    process_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    assert _close(seen[3][0].movedim(0, -1).mul(255).numpy(), scene(3)), "the function does not see the clip's colors"
    after = contents(out)
    assert (after.stream["matrix"], after.stream["range"]) == (matrix, value_range)
    assert _close(after.pixels, contents(source).pixels)


def test_ten_bits_are_kept(clip, tmp_path):
    source, out, seen = clip(pix_fmt="yuv420p10le"), tmp_path / "out.mp4", []
    process_video(source, out, lambda frame, progress: seen.append(frame) or frame)
    assert contents(out).stream["format"] == "yuv420p10le"
    levels = seen[0][0, 0, -1].mul(255)
    assert (levels - levels.round()).abs().max() > 0.2, "the function sees only 8 bits"


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("ffv1", "yuv444p")])
def test_odd_sizes_and_other_codecs(clip, tmp_path, codec, pix_fmt):
    source, out = clip("clip.avi", size=(35, 53), codec=codec, pix_fmt=pix_fmt, sound=None), tmp_path / "out.mp4"
    process_video(source, out, same)
    after = contents(out)
    assert after.stream["size"] == (53, 35) and len(after.times) == FRAMES
    assert np.abs(after.pixels[0].astype(int) - scene(0, 35, 53)).mean() < (8 if codec == "mjpeg" else 2)


def test_sound_that_container_cannot_hold_is_encoded(clip, tmp_path):
    source, out, notes = clip("clip.mkv", sound="wavpack"), tmp_path / "out.mp4", []
    process_video(source, out, same, progress=lambda one: notes.extend(one.notes))
    assert len(contents(out).packets["audio"]) > 10
    (note,) = notes
    assert "wavpack" in note and ".mkv" in note
    with av.open(str(out)) as container:
        (sound,) = container.streams.audio
        assert (sound.codec_context.name, sound.sample_rate) == ("aac", 48_000)


def test_subtitles_are_copied_or_reported(clip, tmp_path):
    source, notes = clip("clip.mkv", subtitles=True), []
    process_video(source, tmp_path / "out.mkv", same)
    assert contents(tmp_path / "out.mkv").packets["subtitle"] == contents(source).packets["subtitle"]
    process_video(source, tmp_path / "out.mp4", same, progress=lambda one: notes.extend(one.notes))
    assert notes == ["left out subtitles (stream 2): .mp4 cannot hold subrip; .mkv can"]


def test_part_of_a_video(clip, tmp_path):
    source, out = clip("clip.mkv", subtitles=True), tmp_path / "out.mkv"
    assert process_video(source, out, same, start=0.12, end=0.32) == 5
    before, after = contents(source), contents(out)
    assert _close(after.pixels, before.pixels[3:8])
    within = [content for content, time in before.packets["audio"] if 0.12 <= time < 0.32]
    assert [content for content, _ in after.packets["audio"]] == within != []
    assert [content for content, _ in after.packets["subtitle"]] == [b"line 2", b"line 7"]
    with pytest.raises(InputError, match="0 <= start < end"):
        process_video(source, out, same, start=1, end=1)
    with pytest.raises(VideoError, match="no frames in this part"):
        process_video(source, tmp_path / "none.mp4", same, start=100)


def test_function_gets_frames_in_order_and_its_results_are_written(clip, tmp_path):
    source, out, seen = clip(), tmp_path / "out.mp4", []

    def inverted(frame, progress):
        seen.append(frame.clone())
        return 1 - frame

    process_video(source, out, inverted)
    assert {(tuple(each.shape), each.dtype) for each in seen} == {((1, 3, HEIGHT, WIDTH), torch.float32)}
    assert all(_close(each[0].movedim(0, -1).mul(255).numpy(), scene(index)) for index, each in enumerate(seen))
    assert _close(contents(out).pixels, 255 - np.stack([scene(index) for index in range(FRAMES)]))


@pytest.mark.parametrize("count", [2, 5])
def test_several_functions_share_the_frames(clip, tmp_path, count):
    source, out, barrier, used = clip(), tmp_path / "out.mp4", threading.Barrier(2, timeout=20), set()

    def shared(number):
        def function(frame, progress):
            used.add(number)
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(0.2 if len(used) > 1 else 20)  # two frames are computed at the same time
            if number:
                time.sleep(0.02)  # later frames are often finished first
            return 1 - frame

        return function

    assert process_video(source, out, [shared(number) for number in range(count)]) == FRAMES
    assert len(used) >= 2
    assert _close(contents(out).pixels, 255 - np.stack([scene(index) for index in range(FRAMES)]))
    assert contents(out).times == contents(source).times


def test_error_of_one_of_several_functions_stops_the_others(clip, tmp_path):
    calls = []

    def function(frame, progress):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return frame

    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        process_video(clip(), tmp_path / "out.mp4", [function, function])
    assert len(calls) <= 6 and threading.active_count() == threads
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_next_frame_is_decoded_and_last_one_encoded_during_computation(clip, tmp_path, monkeypatch):
    seen = []
    read, write = Converter.to_rgb, Converter.to_frame
    progressed = threading.Condition()
    numbers = {"decoded": 0, "encoded": 0}

    def counted(name, method):
        def call(*arguments):
            result = method(*arguments)
            with progressed:
                numbers[name] += 1
                progressed.notify_all()
            return result

        return call

    monkeypatch.setattr(Converter, "to_rgb", counted("decoded", read))
    monkeypatch.setattr(Converter, "to_frame", counted("encoded", write))

    def function(frame, progress):
        index = len(seen)
        seen.append(index)
        with progressed:
            ready = progressed.wait_for(
                lambda: numbers["decoded"] > min(index + 1, FRAMES - 1) and numbers["encoded"] >= index, timeout=60
            )
        assert ready, (index, numbers)
        return frame

    process_video(clip(), tmp_path / "out.mp4", function)
    assert len(seen) == FRAMES


def test_final_name_appears_only_at_the_end(clip, tmp_path):
    source, folder, names = clip(), tmp_path / "out", []
    folder.mkdir()
    dead = folder / f".perceptual-style-{files._host()}-99999999-00000000.out.mp4"  # of a process that was killed
    dead.write_bytes(b"half a film")
    process_video(
        source, folder / "out.mp4", same, progress=lambda one: names.append({each.name for each in folder.iterdir()})
    )
    assert all("out.mp4" not in each and dead.name not in each and len(each) == 1 for each in names[:-1])
    assert names[-1] == {"out.mp4"}


KILLED = """
import sys, time
from perceptual_style.core.video.process import process_video
seen = []
def function(frame, progress):
    seen.append(frame)
    if len(seen) == int(sys.argv[3]):
        print("now", flush=True)
        time.sleep(120)
    return frame
process_video(sys.argv[1], sys.argv[2], function)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("frames", [1, FRAMES // 2, FRAMES])
def test_killed_process_leaves_no_file_under_the_final_name(clip, tmp_path, start_python, frames):
    source, folder = clip(), tmp_path / "out"
    folder.mkdir()
    with start_python(KILLED, source, folder / "out.mp4", frames) as process:
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "out.mp4").exists()
    process_video(source, folder / "out.mp4", same)
    assert [each.name for each in folder.iterdir()] == ["out.mp4"]


def test_frames_may_be_enlarged(clip, tmp_path):
    source, out = clip(), tmp_path / "out.mp4"

    def doubled(frame, progress):
        return frame.repeat_interleave(2, 2).repeat_interleave(2, 3)

    process_video(source, out, doubled, scale=2)
    after = contents(out)
    assert after.stream["size"] == (2 * WIDTH, 2 * HEIGHT)
    assert _close(after.pixels[:, ::2, ::2], contents(source).pixels)


def test_webm_gets_a_codec_that_it_can_hold(clip, tmp_path):
    process_video(clip(sound=None), tmp_path / "out.webm", same)
    assert contents(tmp_path / "out.webm").stream["codec"] == "vp9"
    with pytest.raises(InputError, match="crf is 99; expected a number from 0 to 63"):
        process_video(clip(), tmp_path / "out.mp4", same, crf=99)


def test_animation_becomes_a_video(tmp_path):
    frames = [Image.fromarray(scene(index)) for index in range(4)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=[40, 120, 200, 80])
    assert process_video(tmp_path / "clip.gif", tmp_path / "out.mp4", same) == 4
    assert np.allclose(contents(tmp_path / "out.mp4").times, [0, 0.04, 0.16, 0.36])


def test_open_file_as_source(clip, tmp_path):
    file = io.BytesIO(clip().read_bytes())
    assert process_video(file, tmp_path / "out.mp4", same) == FRAMES
    assert not file.closed


def test_only_a_few_frames_are_held(clip, tmp_path):
    alive, most = weakref.WeakSet(), 0

    def watched(frame, progress):
        nonlocal most
        result = frame + 0
        alive.update((frame, result))
        most = max(most, len(alive))
        return result

    process_video(clip(times=[512 * n for n in range(40)], sound=None), tmp_path / "out.mp4", watched)
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

    process_video(clip(), tmp_path / "out.mp4", in_two_steps, progress=report)
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
        process_video(source, folder / "out.mp4", same, progress=stop)
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
            process_video(path, tmp_path / "out.mp4", same)
        assert "\n" not in str(raised.value)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no video stream"):
        process_video(sound, tmp_path / "out.mp4", same)
    assert not (tmp_path / "out.mp4").exists()


def test_damaged_packets_are_skipped_and_reported(clip, tmp_path):
    source, notes = clip("clip.avi", codec="png", pix_fmt="rgb24", sound=None), []
    content = bytearray(source.read_bytes())
    places = [at for at in range(len(content) - 8) if content[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    content[places[4] : places[4] + 40] = bytes(40)
    source.write_bytes(content)
    count = process_video(source, tmp_path / "out.mp4", same, progress=lambda one: notes.extend(one.notes))
    assert count == FRAMES - 2  # FFmpeg joins it with the next
    assert len(notes) == 1 and "skipped damaged packets" in notes[0] and notes[0].endswith(": 1")


@pytest.mark.parametrize(("alpha", "lost"), [(255, False), (254, True)])
def test_lost_transparency_is_reported(tmp_path, alpha, lost):
    source, notes = tmp_path / "clip.mov", []
    with av.open(str(source), "w") as container:
        video = container.add_stream("qtrle", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "argb"
        for index in range(3):
            pixels = np.dstack([scene(index), np.full((HEIGHT, WIDTH), 255, np.uint8)])
            pixels[3, 4, 3] = alpha if index == 2 else 255
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="argb")))
        container.mux(video.encode())
    process_video(source, tmp_path / "out.mp4", same, progress=lambda one: notes.extend(one.notes))
    assert notes == [f"the transparency of {source} is lost; frames with alpha can be stylized as PNG files"] * lost


def test_bad_destinations_are_rejected_before_work(clip, tmp_path):
    source, calls = clip(), []

    def count(frame, progress):
        calls.append(1)
        return frame

    for destination, message in ((tmp_path, "Is a directory|Permission"), (tmp_path / "out.xyz", "unknown suffix")):
        with pytest.raises(VideoError, match=message):
            process_video(source, destination, count)
    with pytest.raises(InputError, match="no encoder 'nothing'"):
        process_video(source, tmp_path / "out.mp4", count, codec="nothing")
    assert calls == [] and sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]


def test_other_codecs_and_quality(clip, tmp_path):
    source = clip()
    sizes = []
    for crf in (5, 45):
        process_video(source, tmp_path / "out.mp4", same, crf=crf)
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes[0] > sizes[1]
    process_video(source, tmp_path / "out.webm", same, codec="vp9")
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
        process_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", same)
