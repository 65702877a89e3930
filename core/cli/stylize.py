"""The command ``stylize``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..images.color import mask_of
from ..images.masks import fit_mask
from ..images.reading import read_image
from ..models.style_model import load_style
from ..models.stylizer import Controls
from .photos import add_photo_arguments, each_photo


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``stylize``."""
    command.description = (
        "Repaint photos in the style of a painting. Orientation, color profile, EXIF and transparency are kept."
    )
    command.add_argument(
        "--style", default="starry_night", metavar="NAME|FILE",
        help="a style by name, or a file (default: %(default)s); for a file with several styles, FILE#wave chooses one and "
        "FILE#wave=0.7,candy=0.3 mixes them",
    )  # fmt: skip
    _add_controls(command)
    add_photo_arguments(command)
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
        "--stroke-size", type=float, default=1.0, metavar="S",
        help="size of the strokes, from 0.25 to 4 times the usual size (default: 1)",
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
        "--temporal", type=float, default=0.0, metavar="T",
        help="reduce flicker, from 0 (off) to 1; the photos must be the frames of one video, in the order of their names "
        "(default: 0)",
    )  # fmt: skip


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
    names = ("strength", "stroke_size", "color", "feather", "temporal")
    controls = {name: getattr(arguments, name) for name in names}
    Controls(**controls)  # report a mistake once, not for each photo
    mask = None if arguments.mask is None else mask_of(read_image(arguments.mask))
    model = load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)
    compute = (_Filming if arguments.temporal else _Stylizing)(model, mask, controls)
    planned = {"stroke_size": arguments.stroke_size, "temporal": arguments.temporal}
    kept = [arguments.mask] if arguments.mask else []
    return each_photo(arguments, model, compute, in_order=bool(arguments.temporal), kept=kept, **planned)
