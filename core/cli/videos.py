"""Videos as input of ``stylize`` and ``upscale``: their options, and the loop over them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import errors
from ..batch.places import is_uri
from ..devices import pick_devices
from ..files import is_same_file
from ..images.folders import expanded
from ..progress import Progress
from ..video.functions import frame_functions
from ..video.process import process_video
from ..video.reading import VIDEO_SUFFIXES, open_video
from .options import show_notes, tell

_ANIMATIONS = (".gif", ".png", ".apng")  # read as videos if the output is one
_WRITABLE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_OPTIONS = ("start", "end", "codec", "crf")  # for videos alone


def add_video_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options that are for videos alone."""
    group = command.add_argument_group("videos")
    group.add_argument(
        "--start", type=_seconds, metavar="TIME", help="start of the part to process: 90, 1:30 or 0:01:30.5"
    )
    group.add_argument("--end", type=_seconds, metavar="TIME", help="end of the part to process")
    group.add_argument(
        "--codec", metavar="NAME",
        help="video codec or encoder of FFmpeg, such as hevc or libsvtav1 (default: h264, or vp9 for .webm)",
    )  # fmt: skip
    group.add_argument(
        "--crf", type=float, metavar="N",
        help="quality of the encoding: smaller is better and makes larger files (default: 18 for H.264; the loss is hard to see)",
    )  # fmt: skip


def takes_videos(arguments: argparse.Namespace) -> bool:
    """Return whether the inputs are videos. Check that the options suit them.

    Raises:
        InputError: If the inputs are videos and others, or an option is for the other kind.
        ImageError: If a pattern matches no file.
    """
    found = [_is_video(place, arguments.output) for place in _inputs(arguments)]
    if any(found) and not all(found):
        raise errors.InputError("some inputs are videos and some are not; process them separately")
    if not any(found):
        if given := [name for name in _OPTIONS if getattr(arguments, name) is not None]:
            raise errors.InputError(f"--{given[0]} is for videos; expected one such as clip.mp4")
        return False
    if arguments.ray:
        raise errors.InputError("--ray is for photos; remove it, and use --workers to share the frames of a video")
    return True


def each_video(
    arguments: argparse.Namespace,
    model: Any,
    compute: Callable[[], Callable[..., Any]],
    in_order: bool = False,
    kept: Sequence[str] = (),
    **planned: Any,
) -> int:
    """Process each video and write the result. One that fails becomes one line on stderr, and the others continue.

    Args:
        arguments: Options of `add_photo_arguments` and `add_video_arguments`.
        model: The style or upscaler.
        compute: Makes what computes the frames of one video, see `frame_functions`.
        in_order: Whether each frame needs the ones before it.
        kept: Further files that are read and must not be replaced.
        planned: Options of the model's working_bytes.

    Returns:
        The exit status: 0, or 2 if a video failed.

    Raises:
        InputError: If the options contradict each other.
    """
    if in_order and arguments.workers not in (None, 1):
        raise errors.InputError(
            "--temporal is on for videos, so each frame needs the ones before it; add --temporal 0, or remove --workers"
        )
    devices = pick_devices(arguments.device, 1 if in_order else arguments.workers)
    failed = 0
    for source, target in _targets(_inputs(arguments), arguments.output, kept):
        if arguments.skip_existing and target.exists():
            tell(f"skipped {source}: {target} exists already")
            continue
        try:
            _process(arguments, source, target, model, compute(), devices, planned)
        except errors.PerceptualStyleError as error:
            text = str(error)
            tell(text if str(source) in text or str(target) in text else f"{source}: {text}")
            failed += 1
    return 2 if failed else 0


def _process(
    arguments: argparse.Namespace, source: Path, target: Path, model: Any, compute: Callable[..., Any],
    devices: Sequence[Any], planned: Mapping[str, Any],
) -> None:  # fmt: skip
    with open_video(source, start=arguments.start or 0.0, end=arguments.end) as video:
        height, width = video.height, video.width
    options = {"precision": arguments.precision, "memory": arguments.memory, "planned": planned}
    functions = frame_functions(model, compute, devices, height, width, **options)
    if arguments.verbose:
        at_once = f", {len(functions)} frames at a time" if len(functions) > 1 else ""
        tell(f"{source}: {width}x{height} px{at_once}")
    with _frame_bar() as show:
        process_video(
            source, target, functions, scale=model.spec.scale, start=arguments.start or 0.0, end=arguments.end,
            codec=arguments.codec, crf=arguments.crf, progress=show,
        )  # fmt: skip


@contextmanager
def _frame_bar() -> Iterator[Callable[[Progress], None]]:
    """Yield a callback for `process_video` that draws a bar of frames, with frames per second and the time left."""
    # Drawn at each frame: with tqdm's interval, a short clip would end without a line.
    with tqdm(total=None, unit="frame", bar_format=_BAR, delay=1e-3, mininterval=0, miniters=1, file=sys.stderr) as bar:

        def show(progress: Progress) -> None:
            show_notes(progress)
            if progress.preview is not None:  # a frame is finished
                frames = progress.total - 1
                bar.total = frames if bar.n < frames else None  # the number is an estimate
                bar.update()

        yield show


def _inputs(arguments: argparse.Namespace) -> list[str]:
    places: list[str] = arguments.photos
    return [each for place in places for each in ([place] if is_uri(place) else map(str, expanded([place])))]


def _is_video(place: str, output: str) -> bool:
    suffix = Path(place).suffix.lower()
    if suffix in VIDEO_SUFFIXES and not Path(place).is_dir():
        if is_uri(place):
            raise errors.InputError(f"{place} is a URI; videos are read from and written to local paths")
        return True
    return suffix in _ANIMATIONS and Path(output).suffix.lower() in _WRITABLE


def _targets(sources: Sequence[str], output: str, kept: Sequence[str]) -> list[tuple[Path, Path]]:
    """Return each video with the file to write.

    Raises:
        InputError: If the output is wrong, or a file that is read would be replaced.
    """
    paths = list(dict.fromkeys(Path(source) for source in sources))
    place = Path(output)
    if is_uri(output):
        raise errors.InputError(f"{output} is a URI; videos are read from and written to local paths")
    if place.suffix and not place.is_dir():
        if len(paths) > 1:
            raise errors.InputError(
                f"{output} is the name of one file; for several videos, give a folder as the output"
            )
        if place.suffix.lower() not in _WRITABLE:
            raise errors.InputError(f"cannot write {output}: a video ends in one of {', '.join(_WRITABLE)}")
        pairs = [(paths[0], place)]
    else:
        pairs = [(path, place / _name(path)) for path in paths]
    targets: dict[Path, Path] = {}
    for path, target in pairs:
        if any(is_same_file(target, each) for each in [*map(str, paths), *kept]):
            raise errors.InputError(f"{target} is read and would be replaced; choose another output")
        if targets.setdefault(target, path) != path:
            raise errors.InputError(f"{path} and {targets[target]} would both go to {target}; process them separately")
    return pairs


def _name(path: Path) -> str:
    return path.name if path.suffix.lower() in _WRITABLE else f"{path.stem}.mp4"


def _seconds(text: str) -> float:
    """Return the seconds of a time such as 90, 1:30 or 0:01:30.5."""
    if not re.fullmatch(r"(\d{1,4}:)?(\d{1,4}:)?\d{1,9}(\.\d{1,9})?", text.strip(), re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; expected seconds, or something like 1:30 or 0:01:30.5"
        )
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
