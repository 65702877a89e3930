"""What ``stylize`` and ``upscale`` share: their options for photos, and working through the photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from typing import Any

from tqdm import tqdm

from .. import errors
from ..batch.local import Treatment, pick_devices, process_photos
from ..batch.places import plan_jobs
from ..batch.ray_cluster import process_on_ray
from .options import add_device, add_overrides


def add_photo_arguments(command: argparse.ArgumentParser) -> None:
    """Add the photos, the output and the options on how they are processed."""
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="for one photo a file (its suffix chooses the format) or a folder, for several a folder",
    )  # fmt: skip
    command.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="default: %(default)s"
    )
    add_device(command)
    command.add_argument(
        "--memory", type=_size, metavar="SIZE", help="memory to work in beside photo and result, as 800M or 2G"
    )
    command.add_argument("-v", "--verbose", action="store_true", help="say what each photo took")
    command.add_argument(
        "--skip-existing", action="store_true",
        help="leave out photos whose result is there, whatever made it: goes on where an interrupted run stopped",
    )  # fmt: skip
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="photos computed at once (default: one for each GPU, or else each core)",
    )
    command.add_argument(
        "--ray", metavar="ADDRESS|local",
        help="use the machines of a Ray cluster, or worker processes here; photos and OUT may be URIs, s3://bucket/photos",
    )  # fmt: skip
    add_overrides(command)


def _size(text: str) -> int:
    """Bytes from a number with K, M or G."""
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 0)
    try:
        size = int(float(text[:-1]) * unit) if unit else int(text)
    except ValueError:
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected something like 800M or 2G")
    return size


def each_photo(
    arguments: argparse.Namespace, model: Any, compute: Callable[..., Any], in_order: bool = False, **planned: Any
) -> int:
    """Read each photo, ``compute`` its colors, enlarge its alpha as much, and write it; returns the exit status.

    in_order: one photo after the other; planned: options of the model's working_bytes

    A photo that cannot be read or written is one line on stderr, and the others go on.
    """

    def tell(text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    if in_order and (arguments.ray or arguments.skip_existing or arguments.workers not in (None, 1)):
        raise errors.InputError(
            "with --temporal each frame needs the ones before it: leave out --ray, --workers and --skip-existing"
        )
    treatment = Treatment(model, compute, arguments.precision, arguments.memory, planned, in_order)
    devices = None if arguments.ray else pick_devices(arguments.device, arguments.workers)
    jobs = plan_jobs(arguments.photos, arguments.output)
    if arguments.skip_existing and (there := sum(not job.new for job in jobs)):
        jobs = [job for job in jobs if job.new]
        tell(f"perceptual-style: skipped {there} of {there + len(jobs)} photos, whose results are there")
    if arguments.ray:
        outcomes = process_on_ray(jobs, treatment, arguments.ray, arguments.workers, arguments.device)
    else:
        outcomes = process_photos(jobs, treatment, devices)
    failed = 0
    with closing(outcomes), redirect_stdout(sys.stderr):  # where Ray tells of workers that died
        for outcome in tqdm(outcomes, total=len(jobs), unit="photo", disable=len(jobs) < 2, file=sys.stderr):
            failed += outcome.error is not None
            if arguments.verbose and outcome.note:
                tell(outcome.note)
            for line in filter(None, (outcome.error, outcome.warning)):
                tell(f"perceptual-style: {line}")
    return 2 if failed else 0
