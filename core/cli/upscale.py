"""The command ``upscale``."""

from __future__ import annotations

import argparse
from functools import partial

from .. import errors
from ..models.upscale_model import SCALES, load_upscaler, upscaler_for
from .photos import add_photo_arguments, each_photo
from .videos import add_video_arguments, each_video, takes_videos


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``upscale``."""
    command.description = (
        "Enlarge photos or videos with a super-resolution network, or restore damaged photos. Photos keep orientation, color "
        "profile and EXIF, and transparency is enlarged, too. Videos keep sound, subtitles and the time of each frame."
    )
    command.add_argument(
        "--model", metavar="NAME|FILE", help="an upscaler by name, or a file (default: a bundled one for the factor)"
    )
    command.add_argument(
        "--factor",
        type=int,
        choices=SCALES,
        help="how many times to enlarge (default: the factor of --model; without it, 4)",
    )
    command.add_argument(
        "--fidelity", type=float, metavar="F",
        help="from 0 (crisp detail) to 1 (closest to the true pixels): blend the model with its partner (default: 0, unless "
        "the model states another)",
    )  # fmt: skip
    command.add_argument(
        "--denoise", type=float, metavar="D",
        help="for models that restore damaged photos, in place of --fidelity: from 0 (keep everything) to 1 (restore fully, the "
        "default)",
    )  # fmt: skip
    command.add_argument("--match-colors", action="store_true", help="give the result the color histogram of the photo")
    add_photo_arguments(command)
    add_video_arguments(command)
    command.set_defaults(run=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    videos = takes_videos(arguments)
    name, factor = arguments.model, arguments.factor
    model = load_upscaler(
        name or upscaler_for(factor or 4),
        channel_order=arguments.channel_order,
        output=arguments.output_function,
    )
    if factor not in (None, model.scale):
        raise errors.InputError(f"{name} enlarges {model.scale} times, not {factor}; choose another model or factor")
    model = model.blended(arguments.fidelity, arguments.denoise)
    compute = partial(model.upscale, match_colors=arguments.match_colors)
    return each_video(arguments, model, lambda: compute) if videos else each_photo(arguments, model, compute)
