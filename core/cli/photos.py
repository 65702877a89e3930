"""Options of ``stylize`` and ``upscale``, and the loop over the photos."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, redirect_stdout
from pathlib import PurePath
from typing import Any

from tqdm import tqdm

from .. import errors
from ..batch.local import Outcome, Treatment, process_photos
from ..batch.places import left_out, plan_jobs
from ..batch.ray_cluster import process_on_ray
from ..devices import pick_devices
from ..images.folders import HEIF_SUFFIXES
from ..video.reading import VIDEO_SUFFIXES
from .options import add_device, add_overrides, tell
from .terminal import one_line

_NAMED = 5  # files that a message names
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def add_photo_arguments(command: argparse.ArgumentParser) -> None:
    """Add the photos, the output, and the options for processing them."""
    command.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image files, folders of them, or video files; images also by URIs such as s3://bucket/photos",
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="for one photo, a file (its suffix sets the format) or a folder; for several photos, a folder",
    )  # fmt: skip
    command.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="number format to compute with (default: %(default)s)",
    )
    add_device(command)
    command.add_argument(
        "--memory",
        type=_size,
        metavar="SIZE",
        help="memory to compute in, such as 800M or 2G, not counting photo and result (default: depends on what is free)",
    )
    command.add_argument(
        "-v", "--verbose", action="store_true", help="print the size of each photo and the memory used"
    )
    command.add_argument(
        "--skip-existing", action="store_true",
        help="skip photos whose result already exists, even one made with other settings; resumes an interrupted run",
    )  # fmt: skip
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="photos, or frames of a video, at the same time (default: one for each GPU or, without a GPU, for each core)",
    )
    command.add_argument(
        "--ray", metavar="ADDRESS|local",
        help="process the photos on the Ray cluster at ADDRESS, or `local` for worker processes on this machine",
    )  # fmt: skip
    add_overrides(command)


def _size(text: str) -> int:
    """Return the bytes of a number followed by a unit such as K, MB or GiB, or by nothing."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d*)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected something like 800M or 2G")
    return size


def each_photo(
    arguments: argparse.Namespace,
    model: Any,
    compute: Callable[..., Any],
    in_order: bool = False,
    kept: Sequence[str] = (),
    **planned: Any,
) -> int:
    """Process each photo and write the result.

    A photo that cannot be read or written becomes one line on stderr, and the others continue.

    Args:
        arguments: Options of `add_photo_arguments`.
        model: The style or upscaler, sent to workers together with ``compute``.
        compute: Computes a photo's colors, as `StyleModel.stylize` does. Its alpha is enlarged to the same size.
        in_order: Whether each photo must wait for the one before it, as the frames of a video do.
        kept: Further files that are read and must not be replaced.
        planned: Options of the model's working_bytes.

    Returns:
        The exit status: 0, or 2 if a photo failed.

    Raises:
        InputError: If the options contradict each other.
    """
    if in_order and (arguments.ray or arguments.skip_existing or arguments.workers not in (None, 1)):
        raise errors.InputError(
            "with --temporal, each frame needs the ones before it; remove --ray, --workers and --skip-existing"
        )
    treatment = Treatment(model, compute, arguments.precision, arguments.memory, planned, in_order)
    devices = [] if arguments.ray else pick_devices(arguments.device, arguments.workers)
    jobs = plan_jobs(arguments.photos, arguments.output, kept)
    if others := left_out(arguments.photos):
        tell(_left_out(others))
    if arguments.skip_existing and (existing := sum(not job.new for job in jobs)):
        jobs = [job for job in jobs if job.new]
        tell(f"skipped {existing} of {existing + len(jobs)} photos whose results already exist")
    if arguments.ray:
        outcomes = process_on_ray(jobs, treatment, arguments.ray, arguments.workers, arguments.device)
    else:
        outcomes = process_photos(jobs, treatment, devices)
    failed = 0
    with closing(_closable(outcomes)) as outcomes, redirect_stdout(sys.stderr):  # Ray prints about workers that died
        for outcome in tqdm(outcomes, total=len(jobs), unit="photo", disable=len(jobs) < 2, file=sys.stderr):
            failed += outcome.error is not None
            if arguments.verbose and outcome.note:
                tqdm.write(one_line(outcome.note), file=sys.stderr)
            for line in filter(None, (outcome.error, outcome.warning)):
                tell(line)
    return 2 if failed else 0


def _left_out(others: Sequence[PurePath]) -> str:
    """Return a line on files in folders that are not read."""
    named = ", ".join(each.name for each in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
    heif = any(each.suffix.lower() in HEIF_SUFFIXES for each in others)
    hint = "; HEIC photos need pillow-heif: pip install pillow-heif" if heif else ""
    if any(each.suffix.lower() in VIDEO_SUFFIXES for each in others):
        hint += "; give videos by their names"
    named_kinds = all(each.suffix for each in others)
    why = "in unsupported formats" if named_kinds else "without a suffix or in unsupported formats"
    return f"skipped {len(others)} file{'s' if len(others) > 1 else ''} {why}: {named}{hint}"


def _closable(outcomes: Iterator[Outcome]) -> Generator[Outcome, None, None]:
    """Return the outcomes with a ``close`` that stops the work."""
    yield from outcomes
