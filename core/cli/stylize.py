"""The command ``stylize``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InputError
from ..images.color import mask_of
from ..images.masks import fit_mask
from ..images.reading import read_image
from ..images.wrapping import WRAPS
from ..models.style_model import StyleModel, load_style
from ..models.stylizer import AUTO, Controls
from .paintings import add_prediction_arguments, predicted
from .photos import add_photo_arguments, each_photo
from .videos import add_video_arguments, each_video, takes_videos


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``stylize``."""
    command.description = (
        "Repaint photos or videos in the style of a painting. Photos keep orientation, color profile, EXIF and transparency; "
        "videos keep sound, subtitles, the time of each frame and 10 bits per channel."
    )
    style = command.add_mutually_exclusive_group()
    style.add_argument(
        "--style", default="starry_night", metavar="NAME|FILE",
        help="a style by name, or a file (default: %(default)s); for a file with several styles, FILE#wave chooses one and "
        "FILE#wave=0.7,candy=0.3 mixes them",
    )  # fmt: skip
    style.add_argument(
        "--style-image", action="append", metavar="FILE",
        help="a painting, whose style is found at once and without training; give it again for each painting to mix",
    )  # fmt: skip
    add_prediction_arguments(command, "--style-weights")
    _add_controls(command)
    add_photo_arguments(command)
    add_video_arguments(command)
    command.set_defaults(run=_stylize)


def _add_controls(command: Any) -> None:
    command.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="strength of the style, from 0 (the photo) to 1 (default: 1)",
    )
    command.add_argument(
        "--stroke-size", type=_stroke_size, default=1.0, metavar="S|auto",
        help="size of the strokes, from 0.25 to 4 times the usual size; auto: as large, compared with the picture, as in "
        "training, so that a preview and a print look alike (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--color", default="style", choices=("style", "keep", "match"),
        help="style: the painting's colors; keep: the photo's own colors; match: the painting's colors shifted to the photo's "
        "palette (default: style)",
    )  # fmt: skip
    command.add_argument(
        "--mask",
        metavar="FILE",
        help="an image: white areas are stylized, black areas stay unchanged; of an image with transparent parts, "
        "opaque areas are stylized",
    )
    command.add_argument(
        "--feather",
        type=float,
        default=0.0,
        metavar="PX",
        help="width of the soft edge in px, measured inward from the mask's edge (default: 0)",
    )
    command.add_argument(
        "--temporal", type=float, metavar="T",
        help="reduce flicker, from 0 (off) to 1; photos must then be the frames of one video, in the order of their names "
        "(default: 1 for videos, 0 for photos)",
    )  # fmt: skip
    command.add_argument(
        "--wrap", default="none", choices=WRAPS,
        help="edges of the picture that meet, where no seam may show: x for 360-degree panoramas, xy for textures that tile "
        "a plane (default: %(default)s)",
    )  # fmt: skip


def _stroke_size(text: str) -> float | str:
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a stroke size; expected a number, or {AUTO}") from None


def _fitted(mask: Any, photo: Any) -> Any:
    return None if mask is None else fit_mask(mask, *photo.shape[-2:])


@dataclass(frozen=True)
class _Stylizing:
    """`StyleModel.stylize` with controls and a mask scaled to each photo. It can be sent to other processes and devices."""

    model: Any
    mask: Any
    controls: Mapping[str, Any]

    def __call__(self, photo: Any, **options: Any) -> Any:
        return self.model.stylize(photo, mask=_fitted(self.mask, photo), **self.controls, **options)


@dataclass
class _Filming:
    """The same for the frames of a video, in order: each frame depends on the ones before it."""

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
    videos = takes_videos(arguments)
    if arguments.temporal is None:
        arguments.temporal = 1.0 if videos else 0.0
    names = ("strength", "stroke_size", "color", "feather", "temporal", "wrap")
    controls = {name: getattr(arguments, name) for name in names}
    Controls(**controls)  # report a mistake once, not for each photo
    mask = None if arguments.mask is None else mask_of(read_image(arguments.mask))
    model = _model(arguments)
    compute = partial(_Filming if arguments.temporal else _Stylizing, model, mask, controls)
    options = {name: getattr(arguments, name) for name in ("stroke_size", "temporal", "wrap")}
    options |= {
        "in_order": bool(arguments.temporal),
        "kept": [*filter(None, [arguments.mask, *(arguments.style_image or [])])],
    }
    if videos:
        return each_video(arguments, model, compute, **options)
    return each_photo(arguments, model, compute(), **options)


def _model(arguments: argparse.Namespace) -> StyleModel:
    """Return the style with that name, or the style of the paintings."""
    paintings, weights = arguments.style_image, arguments.style_weights
    if paintings is None:
        if weights is not None or arguments.predictor is not None:
            raise InputError("--style-weights and --predictor belong to paintings; name them with --style-image")
        return load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)
    return predicted(paintings, weights, arguments.predictor)
