"""StylizeVideo: the same pictures as FastStylize, videos of all kinds, progress and interruption."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="PyAV is not installed")

from clips import FRAMES, HEIGHT, WIDTH, contents, scene, write_clip  # noqa: E402
from fake_host import InterruptProcessingException, VideoFromFile  # noqa: E402


@pytest.fixture
def clip(tmp_path):
    """A clip with sound, as a VIDEO."""
    return VideoFromFile(str(write_clip(tmp_path / "clip.mp4")))


class VideoFromImages:
    """A VIDEO without a file, as older hosts make it."""

    def get_stream_source(self):
        raise ValueError("Could not determine output format")

    def save_to(self, path):
        write_clip(Path(path))


class TrimmedVideo(VideoFromFile):
    """A part of a VIDEO, as newer hosts make it."""

    def get_active_trim_window(self):
        return 0.12, 0.2


class VideoInMemory:
    """A VIDEO as newer hosts make it of images."""

    def get_stream_source(self):
        return io.BytesIO(Path(self.path).read_bytes())


def _frames() -> torch.Tensor:
    return torch.from_numpy(np.stack([scene(index) for index in range(FRAMES)])).float() / 255


@pytest.mark.parametrize("options", [{}, {"temporal": 0.0, "color": "keep", "strength": 0.5, "stroke_size": 2.0}])
def test_frames_are_as_by_fast_stylize(pack, host, tiny, clip, options):
    result = pack.run("StylizeVideo", video=clip, style_model=tiny, crf=1.0, **options)
    expected = pack.run("FastStylize", image=_frames(), style_model=tiny, **{"temporal": 1.0, **options})
    after = contents(Path(result.file))
    assert after.pixels.shape == (FRAMES, HEIGHT, WIDTH, 3)
    # The clip and the result are encoded with a quarter of the colors, and this network has random weights.
    light = np.array([0.299, 0.587, 0.114])
    assert np.abs(after.pixels @ light - expected.numpy() @ light * 255).mean() < 6
    before = contents(Path(clip.file))
    assert (after.times, after.packets) == (before.times, before.packets)


def test_result_is_a_new_file_in_the_temporary_folder(pack, host, tiny, clip):
    files = [Path(pack.run("StylizeVideo", video=clip, style_model=tiny).file) for _ in range(2)]
    assert files[0] != files[1] and {file.parent for file in files} == {host.temp}
    assert sorted(host.temp.iterdir()) == sorted(files)


def test_video_without_stream_is_saved_first(pack, host, tiny):
    result = pack.run("StylizeVideo", video=VideoFromImages(), style_model=tiny)
    assert len(contents(Path(result.file)).times) == FRAMES
    assert list(host.temp.iterdir()) == [Path(result.file)], "the first file was left behind"


def test_video_in_memory(pack, tiny, clip):
    video = VideoInMemory()
    video.path = clip.file
    assert len(contents(Path(pack.run("StylizeVideo", video=video, style_model=tiny).file)).times) == FRAMES


def test_trimmed_video(pack, tiny, clip):
    result = pack.run("StylizeVideo", video=TrimmedVideo(clip.file), style_model=tiny)
    assert len(contents(Path(result.file)).times) == 5


def test_video_without_any_file_says_what_to_use(pack, host, tiny):
    errors = pack.module("core.errors")
    with pytest.raises(errors.InputError, match="Get Video Components") as raised:
        pack.run("StylizeVideo", video=object(), style_model=tiny)
    assert "\n" not in str(raised.value)
    assert not host.temp.exists() or list(host.temp.iterdir()) == []


def test_mask_leaves_the_rest_of_the_video(pack, tiny, clip):
    mask = torch.zeros(1, 2 * HEIGHT, 2 * WIDTH)
    mask[..., WIDTH:] = 1
    result = pack.run("StylizeVideo", video=clip, style_model=tiny, mask=mask, crf=1.0)
    before, after = contents(Path(clip.file)).pixels.astype(int), contents(Path(result.file)).pixels.astype(int)
    apart = np.abs(after - before).mean(axis=(0, 1, 3))
    assert apart[: WIDTH // 2 - 8].max() < 4 < apart[WIDTH // 2 + 8 :].mean()


def test_masks_per_frame(pack, tiny, clip):
    masks = torch.zeros(FRAMES, HEIGHT, WIDTH)
    masks[6:] = 1
    result = pack.run("StylizeVideo", video=clip, style_model=tiny, mask=masks, crf=1.0)
    before, after = contents(Path(clip.file)).pixels.astype(int), contents(Path(result.file)).pixels.astype(int)
    apart = np.abs(after - before).mean(axis=(1, 2, 3))
    assert apart[:6].max() < 4 < apart[6:].min()


def test_bad_options_are_rejected_before_the_video_is_read(pack, tiny):
    errors = pack.module("core.errors")
    video = VideoFromFile("/nowhere/clip.mp4")
    for options in (
        {"strength": 2.0},
        {"stroke_size": 9.0},
        {"color": "blue"},
        {"temporal": -1.0},
        {"crf": 99.0},
        {"wrap": "y"},
    ):
        with pytest.raises(errors.InputError, match="expected"):
            pack.run("StylizeVideo", video=video, style_model=tiny, **options)
    with pytest.raises(errors.VideoError, match="cannot read the video: there is no such file"):
        pack.run("StylizeVideo", video=video, style_model=tiny)
    with pytest.raises(errors.ImageError, match="MASK"):
        pack.run("StylizeVideo", video=video, style_model=tiny, mask=torch.zeros(3))


def test_bar_and_previews(pack, host, tiny, clip):
    pack.run("StylizeVideo", video=clip, style_model=tiny)
    (bar,) = host.bars
    values = [value for value, _ in bar]
    assert values == sorted(values) and {total for _, total in bar} == {1000} and values[-1] == 1000
    assert host.previews and host.previews[0][1].size == (WIDTH, HEIGHT)
    ((patchers, memory),) = host.loads
    assert patchers == [tiny.patchers[0]]
    assert memory == tiny.model.working_bytes(HEIGHT, WIDTH, host.device, temporal=1.0)


def test_host_is_asked_for_interruption_in_every_frame(pack, host, tiny, clip):
    pack.run("StylizeVideo", video=clip, style_model=tiny)
    assert host.checks > 2 * FRAMES


def test_lost_subtitles_are_logged(pack, tiny, tmp_path, caplog):
    video = VideoFromFile(str(write_clip(tmp_path / "clip.mkv", subtitles=True)))
    pack.run("StylizeVideo", video=video, style_model=tiny)
    assert [each.getMessage() for each in caplog.records if "left out subtitles" in each.getMessage()]


@pytest.mark.parametrize("check", [1, 20])
def test_interruption_leaves_no_file(pack, host, tiny, clip, check):
    host.interrupt_at = check
    with pytest.raises(InterruptProcessingException) as raised:
        pack.run("StylizeVideo", video=clip, style_model=tiny)
    assert raised.value is host.interruption
    assert list(host.temp.iterdir()) == []
