"""Small clips, made with PyAV, and what is in a video file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

WIDTH, HEIGHT, FRAMES = 64, 48, 12
CONSTANT = [512 * n for n in range(FRAMES)]  # at 25 frames a second, in units of 1/12800 s
VARIABLE = [0, 512, 1024, 3000, 3512, 6000, 6100, 6200, 8000, 9000, 9500, 12000]


@dataclass(frozen=True)
class Contents:
    """What is in a video file.

    Attributes:
        times: Times of the frames in s.
        pixels: The frames, as shown before rotation, (frames, H, W, 3) uint8.
        stream: Facts of the video stream by name.
        packets: Content and time in s of the packets of each other stream, by its type.
        end: End of the last frame in s.
    """

    times: list[float]
    pixels: np.ndarray
    stream: dict[str, Any]
    packets: dict[str, list[tuple[bytes, float]]]
    end: float


def contents(path: Path, decode: bool = True) -> Contents:
    """Read a video file with PyAV alone. A long film should not be decoded: its pixels need much memory."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = video.codec_context
        packets: dict[str, list[tuple[bytes, float]]] = {each.type: [] for each in container.streams if each != video}
        frames, times, end = [], [], 0.0
        for packet in container.demux():
            if packet.stream == video:
                frames += packet.decode() if decode else []
                if packet.pts is not None:
                    times.append(float(packet.pts * packet.time_base))
                    end = max(end, float((packet.pts + packet.duration) * packet.time_base))
            elif packet.dts is not None:
                packets[packet.stream.type].append((bytes(packet), float(packet.pts * packet.time_base)))
        stream = {
            "codec": context.codec.canonical_name, "format": context.pix_fmt, "size": (context.width, context.height),
            "matrix": int(context.colorspace), "range": int(context.color_range),
            "rotation": frames[0].rotation if frames else None,
            "primaries": int(context.color_primaries), "transfer": int(context.color_trc),
            "aspect": video.sample_aspect_ratio, "rate": video.average_rate, "title": container.metadata.get("title"),
            "languages": [each.language for each in container.streams if each.type == "audio"],
        }  # fmt: skip
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]) if frames else np.empty(0)
        return Contents(
            [float(frame.time) for frame in frames] if decode else sorted(times), pixels, stream, packets, end
        )


def sound_tracks(path: Path) -> list[tuple[str, list[bytes]]]:
    """Return the language and the packets of each track of sound."""
    with av.open(str(path)) as container:
        tracks = {each.index: (each.language, []) for each in container.streams.audio}
        for packet in container.demux(*container.streams.audio):
            if packet.dts is not None:
                tracks[packet.stream.index][1].append(bytes(packet))
    return list(tracks.values())


def scene(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return frame ``index`` of the clips, (H, W, 3) uint8: a gradient, with a bright corner at the top left."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(30, 180, width)
    pixels[..., 1] = np.linspace(60, 150, height)[:, None]
    pixels[..., 2] = 40 + index * 10 % 200
    pixels[: height // 4, : width // 4] = 240
    return pixels


def write_clip(
    path: Path, *, times: list[int] = CONSTANT, size: tuple[int, int] = (HEIGHT, WIDTH),
    sound: str | None = "aac", codec: str = "h264", pix_fmt: str = "yuv420p", rotation: int = 0,
    matrix: int = 2, value_range: int = 0, aspect: Fraction | None = None, subtitles: bool = False, tracks: int = 1,
) -> Path:  # fmt: skip
    """Write a clip of 12 frames, with sound and whatever else is asked for, and return its path."""
    height, width = size
    samples = (times[1] - times[0]) * 48_000 // 12_800  # of sound for each frame
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "A clip"
        video = container.add_stream(
            codec, rate=25, options={"crf": "4", "preset": "ultrafast"} if codec == "h264" else {}
        )
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        context = video.codec_context
        context.time_base = Fraction(1, 12_800)
        context.max_b_frames = 0
        context.colorspace, context.color_range = matrix, value_range
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotation:
            if not hasattr(video, "set_display_rotation"):
                pytest.skip("this PyAV writes no rotation")
            video.set_display_rotation(rotation)
        audios = []
        for language in ("fra", "deu")[: tracks if sound else 0]:
            audios.append(container.add_stream(sound, rate=48_000))
            audios[-1].layout = "stereo"
            audios[-1].metadata["language"] = language
        if subtitles:
            if not hasattr(container, "add_mux_stream"):
                pytest.skip("this PyAV writes no subtitles")
            text = container.add_mux_stream("subrip")
            text.time_base = Fraction(1, 1000)
        random = np.random.default_rng(0)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(index, height, width))
            how = {} if pix_fmt.startswith("rgb") else {"dst_colorspace": matrix, "dst_color_range": value_range or 1}
            frame = frame.reformat(format=pix_fmt, src_color_range=2, **how)
            frame.pts, frame.time_base = time, Fraction(1, 12_800)
            container.mux(video.encode(frame))
            for audio in audios:
                noise = random.uniform(-0.2, 0.2, (1, 2 * samples)).astype(np.float32)
                piece = av.AudioFrame.from_ndarray(noise, format="flt", layout="stereo")
                piece.sample_rate, piece.pts, piece.time_base = 48_000, samples * index, Fraction(1, 48_000)
                container.mux(audio.encode(piece))
            if subtitles and index in (2, 7):
                packet = av.Packet(f"line {index}".encode())
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = 40 * index
                packet.duration = 120
                container.mux(packet)
        container.mux(video.encode())
        for audio in audios:
            container.mux(audio.encode())
    return path
