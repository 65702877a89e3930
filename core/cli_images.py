"""The commands that make photos of photos: ``stylize`` and ``upscale``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import errors
from .cli_checkpoints import add_overrides
from .cli_options import add_device


def add_image_commands(commands: Any) -> None:
    """Add ``stylize`` and ``upscale``."""
    command = commands.add_parser("stylize", help="give photos a painting's style")
    command.add_argument(
        "--style", default="starry_night", metavar="NAME|FILE",
        help="a style by name or a file (default: %(default)s); of a file of several styles FILE#wave, or a mixture, "
        "FILE#wave=0.7,candy=0.3",
    )  # fmt: skip
    _add_controls(command)
    _add_common(command)
    command.set_defaults(run=_stylize)

    command = commands.add_parser(
        "upscale",
        help="enlarge photos two, four or eight times",
        description="Enlarge photos with a super-resolution network. Transparency is enlarged with them.",
    )
    command.add_argument("--model", metavar="NAME|FILE", help="an upscaler by name or a file (default: by the factor)")
    command.add_argument(
        "--factor", type=int, choices=(2, 4, 8), help="how many times larger (default: the model's, or else 4)"
    )
    command.add_argument(
        "--fidelity", type=float, default=0.0, metavar="F",
        help="from 0, crisp detail, to 1, closest to the true pixels: blends the model with its partner (default: 0)",
    )  # fmt: skip
    command.add_argument("--match-colors", action="store_true", help="give the result the photo's histogram of colors")
    _add_common(command)
    command.set_defaults(run=_upscale)


def _add_controls(command: Any) -> None:
    command.add_argument(
        "--strength", type=float, default=1.0, metavar="S", help="from 0, the photo, to 1, the style (default: 1)"
    )
    command.add_argument(
        "--stroke-size", type=float, default=1.0, metavar="S",
        help="0.25 to 4: how large strokes are in the picture (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--color", default="style", choices=("style", "keep", "match"),
        help="the style's colors, each pixel's own color of the photo, or the style's in the photo's palette",
    )  # fmt: skip
    command.add_argument("--mask", metavar="FILE", help="an image: white is stylized, black left as it is")
    command.add_argument(
        "--feather", type=float, default=0.0, metavar="PX", help="px over which the mask fades in, inside of its edges"
    )
    command.add_argument(
        "--temporal", type=float, default=0.0, metavar="T",
        help="from 0 to 1: less flicker, for photos that are the frames of one video, in the order of their names",
    )  # fmt: skip


def _add_common(command: Any) -> None:
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


def _fitted(mask: Any, photo: Any) -> Any:
    from .masks import fit_mask

    return None if mask is None else fit_mask(mask, *photo.shape[-2:])


@dataclass(frozen=True)
class _Stylizing:
    """`StyleModel.stylize` with controls and a mask that fits each photo; goes to other processes and devices."""

    model: Any
    mask: Any
    controls: Mapping[str, Any]

    def __call__(self, photo: Any, **options: Any) -> Any:
        return self.model.stylize(photo, mask=_fitted(self.mask, photo), **self.controls, **options)


@dataclass
class _Filming:
    """The same for the frames of a video, in order: what one frame leaves behind, the next one needs."""

    model: Any
    mask: Any
    controls: Mapping[str, Any]
    stylizer: Any = None
    size: Any = None

    def __call__(self, photo: Any, *, progress: Any = None, **options: Any) -> Any:
        if photo.shape != self.size:
            mask = _fitted(self.mask, photo)
            self.size, self.stylizer = photo.shape, self.model.stylizer(mask=mask, **self.controls, **options)
        return self.stylizer(photo, progress)


def _stylize(arguments: argparse.Namespace) -> int:
    from .color import luma
    from .images import read_image
    from .models import load_style
    from .stylizer import Controls

    names = ("strength", "stroke_size", "color", "feather", "temporal")
    controls = {name: getattr(arguments, name) for name in names}
    Controls(**controls)  # a mistake is said once, not for each photo
    mask = None if arguments.mask is None else luma(read_image(arguments.mask).pixels)
    model = load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)

    compute = (_Filming if arguments.temporal else _Stylizing)(model, mask, controls)
    planned = {"stroke_size": arguments.stroke_size, "temporal": arguments.temporal}
    return _each_photo(arguments, model, compute, in_order=bool(arguments.temporal), **planned)


def _upscale(arguments: argparse.Namespace) -> int:
    from .upscale import load_upscaler, upscaler_for

    name, factor = arguments.model, arguments.factor
    model = load_upscaler(
        name or upscaler_for(factor or 4),
        channel_order=arguments.channel_order,
        output=arguments.output_function,
    )
    if factor not in (None, model.scale):
        raise errors.InputError(f"{name} enlarges {model.scale} times, not {factor}; choose another model or factor")
    model = model.blended(arguments.fidelity)
    return _each_photo(arguments, model, partial(model.upscale, match_colors=arguments.match_colors))


def _each_photo(
    arguments: argparse.Namespace, model: Any, compute: Callable[..., Any], in_order: bool = False, **planned: Any
) -> int:
    """Read each photo, ``compute`` its colors, enlarge its alpha as much, and write it; returns the exit status.

    in_order: one photo after the other; planned: options of the model's working_bytes

    A photo that cannot be read or written is one line on stderr, and the others go on.
    """
    from tqdm import tqdm

    from .bulk import Treatment, pick_devices, process_photos
    from .places import plan_jobs

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
        from .cluster import process_on_ray

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
