"""The commands that make photos of photos: ``stylize`` and ``upscale``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import errors
from .cli_checkpoints import add_overrides


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


def _add_common(command: Any) -> None:
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="for one photo a file (its suffix chooses the format) or a folder, for several a folder",
    )  # fmt: skip
    command.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="default: %(default)s"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ... (default: %(default)s)")
    command.add_argument(
        "--memory", type=_size, metavar="SIZE", help="memory to work in beside photo and result, as 800M or 2G"
    )
    command.add_argument("-v", "--verbose", action="store_true", help="say what each photo will take")
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


def _stylize(arguments: argparse.Namespace) -> int:
    from .color import luma
    from .images import read_image
    from .masks import fit_mask
    from .models import load_style
    from .stylizer import Controls

    names = ("strength", "stroke_size", "color", "feather")
    controls = {name: getattr(arguments, name) for name in names}
    Controls(**controls)  # a mistake is said once, not for each photo
    mask = None if arguments.mask is None else luma(read_image(arguments.mask).pixels)
    model = load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)

    def compute(photo: Any, **options: Any) -> Any:
        fitting = None if mask is None else fit_mask(mask, *photo.shape[-2:])
        return model.stylize(photo, mask=fitting, **controls, **options)

    return _each_photo(arguments, model, compute, stroke_size=arguments.stroke_size)


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


def _each_photo(arguments: argparse.Namespace, model: Any, compute: Callable[..., Any], **planned: Any) -> int:
    """Read each photo, ``compute`` its colors, enlarge its alpha as much, and write it; returns the exit status.

    planned: options of the model's working_bytes

    A photo that cannot be read or written is one line on stderr, and the others go on.
    """
    from tqdm import tqdm

    from .devices import pick_device
    from .images import read_image, save_image
    from .upscale import enlarge_mask

    device = pick_device(arguments.device)
    jobs = _plan(arguments.photos, Path(arguments.output))
    failed = 0
    for photo, target in tqdm(jobs, unit="photo", disable=len(jobs) == 1, file=sys.stderr):
        try:
            image = read_image(photo)
            if arguments.verbose:
                height, width = image.pixels.shape[-2:]
                options = (device, arguments.precision, arguments.memory)
                need = model.working_bytes(height, width, *options, **planned) / 2**20
                tqdm.write(f"{photo}: {width}x{height} px, working in {need:,.0f} MiB", file=sys.stderr)
            pixels = image.pixels.to(device)
            pixels = compute(pixels, precision=arguments.precision, memory=arguments.memory).cpu()
            alpha = image.alpha
            if alpha is not None and model.spec.scale > 1:
                alpha = 1 - enlarge_mask(1 - alpha, model.spec.scale)
            warning = save_image(target, pixels, alpha, image.icc_profile, image.exif)
            if warning:
                tqdm.write(f"perceptual-style: {warning}", file=sys.stderr)
        except errors.PerceptualStyleError as error:
            failed += 1
            tqdm.write(f"perceptual-style: {error}", file=sys.stderr)
    return 2 if failed else 0


def _plan(sources: Sequence[str], output: Path) -> list[tuple[Path, Path]]:
    """Pairs of photo and target. A photo in a folder keeps its path below that folder."""
    from .images import find_images

    single = len(sources) == 1 and not Path(sources[0]).is_dir()
    if single and output.suffix and not output.is_dir():
        jobs = [(Path(sources[0]), output)]
    elif output.suffix and output.is_file():
        raise errors.InputError(
            f"{output} is a file; with more than one photo, or a folder, give a folder as the output"
        )
    else:
        jobs = []
        for source in map(Path, sources):
            for photo in find_images([source]):
                below = photo.relative_to(source) if source.is_dir() else Path(photo.name)
                jobs.append((photo, output / below))
    photos = {photo.resolve() for photo, _ in jobs}
    targets: dict[Path, Path] = {}
    for photo, target in jobs:
        if target.resolve() in photos or (target.exists() and target.samefile(photo)):
            raise errors.InputError(
                f"{target} is one of the photos itself and would be replaced; choose another output"
            )
        if targets.setdefault(target, photo) != photo:
            raise errors.InputError(
                f"{photo} and {targets[target]} would both be written to {target}; give them separately"
            )
    return jobs
