"""Put every frame of a video through a function, from file to file. Memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..models.finite import checked_later
from ..progress import Progress, ProgressCallback
from .pipeline import FrameFunction, computed, read_ahead, write_behind
from .reading import Frame, Source, open_video
from .writing import write_video


def process_video(
    source: Source,
    destination: str | Path,
    function: FrameFunction | Sequence[FrameFunction],
    *,
    scale: int = 1,
    start: float = 0.0,
    end: float | None = None,
    codec: str | None = None,
    crf: float | None = None,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> int:
    """Write a video with every frame replaced by a function of it.

    Sound, subtitles, metadata, the time of each frame, color tags and 10-bit depth are kept. The result is upright: its
    pixels are rotated as the original is shown. Decoding, computing and encoding go on at the same time.

    Args:
        source: The video, a path or an open file.
        destination: The file to write. Its suffix chooses the container. On any exception nothing is written.
        function: What to do with each frame (1, 3, H, W), in order and in the caller's thread, such as
            ``style.stylizer(temporal=1.0)``. Frames are on the CPU; results may be on any device. Several functions share
            the frames, in threads, where a frame's result does not depend on other frames.
        scale: Side of a result divided by the side of its frame.
        start: Start of the part to process in s.
        end: End of the part in s, or None for the video's end.
        codec: Codec or encoder, as FFmpeg calls it. By default H.264, and VP9 for .webm.
        crf: Constant rate factor, smaller is better. By default from `writing.QUALITY`.
        name: Name of the video in messages, by default its path.
        progress: Called at least once per frame, with the last result as preview. Any exception that it raises stops the
            work.

    Returns:
        The number of frames.

    Raises:
        VideoError: If a file cannot be read or written, or if PyAV is missing.
        InputError: If the part is empty, or the codec or its factor is wrong.
    """
    functions = [function] if callable(function) else list(function)
    done = 0
    with open_video(source, start=start, end=end, name=name) as video:
        report = _Report(progress, video.expected or 1)
        with (
            write_video(destination, video, scale=scale, codec=codec, crf=crf) as writer,
            read_ahead(video) as items,
            write_behind(writer.write) as hand_over,
            closing(computed(items, functions, report.of_frame)) as results,
            checked_later(),
        ):
            for item in results:
                hand_over(item)
                if isinstance(item, Frame):
                    done += 1
                    report.finished(done, item.pixels, tuple(writer.notes))
                    writer.notes.clear()
        if video.damaged:
            writer.notes.append(f"skipped damaged packets of {video.name}, whose frames are missing: {video.damaged}")
        if video.transparent:
            writer.notes.append(
                f"the transparency of {video.name} is lost; frames with alpha can be stylized as PNG files"
            )
    report.finished(report.frames + 1, None, tuple(writer.notes))
    return done


@dataclass(frozen=True)
class _Report:
    """Progress in frames, of which the number is only estimated, and one more step to complete the file."""

    progress: ProgressCallback | None
    frames: int

    def of_frame(self, index: int) -> ProgressCallback | None:
        """Return the callback for the progress within a frame."""
        if (report := self.progress) is None:
            return None

        def within(one: Progress) -> None:
            done = min(index * one.total + one.done, self.frames * one.total)
            report(Progress(done, (self.frames + 1) * one.total))

        return within

    def finished(self, done: int, preview: Tensor | None, notes: tuple[str, ...]) -> None:
        """Report frames that are finished."""
        if self.progress is not None:
            all_steps = self.frames + 1
            done = done if preview is None else min(done, self.frames)
            self.progress(Progress(done, all_steps, preview=preview, notes=notes))
