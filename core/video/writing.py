"""Write frames to a video file, with the sound and the subtitles of the video that they were made from.

Sound and subtitles are copied bit by bit if the container can hold them. Other sound is encoded anew, and other subtitles
are left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, VideoError
from ..files import atomic_write, check_writable, remove_leftovers
from .colors import Converter
from .failures import explained, load_av
from .reading import Frame, VideoReader

if TYPE_CHECKING:
    import av

#: Constant rate factors at which the encoding is hard to see, by codec
QUALITY = {"h264": 18.0, "hevc": 20.0, "av1": 24.0, "vp9": 24.0}
_WORST = 63  # the largest constant rate factor of any encoder
_CODECS = {".webm": "vp9"}  # of containers that cannot hold H.264
_MP4 = (".mp4", ".m4v", ".mov")
# These describe the old file.
_FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration", "bps"}
_FILE_TAGS |= {"number_of_frames", "number_of_bytes"}
_MOST_THREADS = 4  # x264 holds a few frames per thread
_LOOKAHEAD = {"libx264": {"rc-lookahead": "10"}}  # frames that x264 holds; its default is 40


class VideoWriter:
    """A video file that is being written, see `write_video`.

    Attributes:
        notes: Lines for the user about streams that could not be copied.
    """

    def __init__(
        self, path: Path, name: str, video: VideoReader, scale: int, codec: str | None, crf: float | None
    ) -> None:
        self.name, self.notes = name, list[str]()
        self._height, self._width = scale * video.height, scale * video.width
        self._av = load_av(f"cannot write {name}")
        # FFmpeg drops unknown tags, such as ComfyUI's workflow, and puts the index last, unless told otherwise.
        options = {"movflags": "use_metadata_tags+faststart"} if path.suffix.lower() in _MP4 else {}
        try:
            self.container = self._av.open(str(path), "w", options=options)
        except ValueError:
            raise VideoError(f"cannot write {name}: unknown suffix; use .mp4, .mov, .mkv or .webm") from None
        self.container.metadata.update(_tags(video.container))
        self._stream = self._video_stream(video, codec or _CODECS.get(path.suffix.lower(), "h264"), crf)
        self._converter = Converter(video.colors, min(self._height, self._width))
        self._durations: dict[int, int] = {}
        self._copies: dict[int, Any] = {}
        self._encoders: dict[int, Any] = {}
        for stream in video.others:
            self._add_other(stream, path.suffix)

    def write(self, item: Frame | av.Packet) -> None:
        """Encode a frame, or copy a packet of another stream of the video."""
        if isinstance(item, Frame):
            self._encode(item)
        else:
            self._copy(item)

    def _encode(self, frame: Frame) -> None:
        made = self._converter.to_frame(frame.pixels, self._stream.pix_fmt)
        made.pts, made.time_base = frame.time, self._stream.codec_context.time_base
        self._durations[frame.time] = frame.duration
        with self._explained():
            self._mux_video(made)

    def _copy(self, packet: av.Packet) -> None:
        index = packet.stream.index
        with self._explained():
            if index in self._copies:
                packet.stream = self._copies[index]
                self.container.mux(packet)
            elif index in self._encoders:
                with contextlib.suppress(self._av.error.InvalidDataError):
                    for decoded in packet.decode():
                        self.container.mux(self._encoders[index].encode(decoded))

    def finish(self) -> None:
        """Write what the encoders still hold, and the index."""
        with self._explained():
            self._mux_video(None)
            for encoder in self._encoders.values():
                self.container.mux(encoder.encode(None))
            self.container.close()

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(f"cannot write {self.name}")

    def _mux_video(self, made: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(made):
            packet.duration = self._durations.pop(packet.pts, 0)  # otherwise the last frame has none
            self.container.mux(packet)

    def _video_stream(self, video: VideoReader, codec: str, crf: float | None) -> Any:
        try:
            encoder = self._av.Codec(codec, "w")
        except ValueError:
            raise InputError(f"there is no encoder {codec!r} in this build of PyAV; use h264, or another one") from None
        if crf is not None and not 0 <= crf <= _WORST:
            raise InputError(f"crf is {crf:g}; expected a number from 0 to {_WORST}")
        crf = QUALITY.get(encoder.canonical_name) if crf is None else crf
        options = {**_LOOKAHEAD.get(encoder.name, {}), **({} if crf is None else {"crf": f"{crf:g}"})}
        with self._explained():
            stream = self.container.add_stream(codec, rate=video.rate, options=options)
        stream.width, stream.height = self._width, self._height
        stream.pix_fmt = _pixel_format(encoder, video.colors.bits, whole=bool(self._height % 2 or self._width % 2))
        stream.metadata.update(_tags(video.stream))
        context = stream.codec_context
        context.time_base = video.time_base  # so that each frame keeps its time exactly
        context.max_b_frames = 0  # mp4 counts durations in the order of decoding, which is wrong for a variable rate
        context.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
        context.sample_aspect_ratio = video.pixel_aspect
        colors = video.colors
        context.colorspace, context.color_range = colors.matrix, colors.range
        context.color_primaries, context.color_trc = colors.primaries, colors.transfer
        return stream

    def _add_other(self, stream: Any, suffix: str) -> None:
        """Add a stream of sound or subtitles: a copy, or else sound that is encoded anew."""
        what = f"{'sound' if stream.type == 'audio' else 'subtitles'} (stream {stream.index})"
        if stream.codec_context is None:
            self.notes.append(f"left out {what}: its format is unknown")
            return
        kind = stream.codec_context.codec.canonical_name
        try:
            self._copies[stream.index] = copy = self.container.add_stream_from_template(stream, opaque=True)
        except ValueError:
            if stream.type != "audio":
                self.notes.append(f"left out {what}: {suffix} cannot hold {kind}; .mkv can")
                return
            self._encoders[stream.index] = copy = self._sound_encoder(stream, suffix)
            self.notes.append(f"encoded {what} anew: {suffix} cannot hold {kind}; .mkv can")
        copy.metadata.update(_tags(stream))
        with contextlib.suppress(AttributeError):  # read-only in old versions of PyAV
            copy.disposition = stream.disposition.value

    def _sound_encoder(self, stream: Any, suffix: str) -> Any:
        codec, rate = ("libopus", 48_000) if suffix.lower() == ".webm" else ("aac", stream.codec_context.sample_rate)
        with self._explained():
            encoder = self.container.add_stream(codec, rate=rate)
            encoder.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        return encoder


@contextlib.contextmanager
def write_video(
    destination: str | Path, video: VideoReader, *, scale: int = 1, codec: str | None = None, crf: float | None = None
) -> Iterator[VideoWriter]:
    """Open a video file for writing. It appears at its place only once it is complete.

    Args:
        destination: The file. Its suffix chooses the container.
        video: The video that frames and packets come from.
        scale: Side of the frames to write divided by the side of the video's frames.
        codec: Codec or encoder, as FFmpeg calls it. By default H.264, and VP9 for .webm.
        crf: Constant rate factor, smaller is better. By default from `QUALITY`.

    Raises:
        VideoError: If the file cannot be written, or the suffix is unknown.
        InputError: If there is no such encoder, or the factor is out of range.
    """
    with explained(f"cannot write {destination}"):
        check_writable(destination)
    remove_leftovers(destination)
    with atomic_write(destination) as temporary:
        writer = VideoWriter(temporary, str(destination), video, scale, codec, crf)
        try:
            yield writer
            writer.finish()
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()  # so that no time is spent on moving the index of a file that goes away
            with contextlib.suppress(Exception):
                writer.container.close()
            raise


def _tags(source: Any) -> dict[str, str]:
    """Return the metadata of a container or a stream that are true of a copy, too."""
    tags = source.metadata.items()
    return {key: text for key, text in tags if key.lower() not in _FILE_TAGS and not key.startswith("_")}


def _pixel_format(encoder: Any, bits: int, whole: bool) -> str:
    """Return the encoder's best format for a bit depth; ``whole``: with whole color planes, which odd sides need."""
    chroma = "444" if whole else "420"
    wanted = [f"yuv{chroma}p10le", "p010le"] if bits > 8 else []
    wanted += [f"yuv{chroma}p", "yuv420p"]
    known = [each.name for each in encoder.video_formats or ()]
    found = next((each for each in wanted if each in known), None)
    if found is None and known:
        raise VideoError(
            f"the encoder {encoder.name} takes only {', '.join(known)}; choose another codec, such as h264"
        )
    return found or wanted[0]
