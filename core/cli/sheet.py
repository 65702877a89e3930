"""The command ``sheet``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import errors
from ..checkpoints.tensor_files import NETWORK_SUFFIXES
from ..devices import pick_device
from ..evaluation.sheet import LARGEST_SIDE, SMALLEST_SIDE, style_sheet
from ..hub.fetch import is_downloaded
from ..hub.manifest import entries
from ..images.reading import read_image
from ..images.writing import check_target, save_image
from ..models.style_model import StyleModel, load_styles
from ..network.styles import split
from .options import add_device, check_not_read, prints, progress_bar, tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``sheet``."""
    command.description = (
        "Show one photo in many styles on one sheet, with the name of each, to choose from. Without --styles, these are all "
        "styles that are bundled or downloaded."
    )
    command.add_argument("photo", metavar="PHOTO", help="an image file")
    command.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the image to write, such as sheet.png or sheet.jpg"
    )
    command.add_argument(
        "--styles", nargs="+", metavar="NAME|FILE|DIR",
        help="show these: styles by name, files, folders of files, or single styles of a file, as in FILE#wave (default: all)",
    )  # fmt: skip
    command.add_argument(
        "--size", type=int, default=384, metavar="PX",
        help=f"longest side of each picture, {SMALLEST_SIDE} to {LARGEST_SIDE} (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--columns", type=int, default=0, metavar="N", help="pictures in a row (default: as fits the sheet)"
    )
    add_device(command)
    command.set_defaults(run=prints(_sheet))


def _sheet(arguments: argparse.Namespace) -> str:
    check_target(arguments.output)
    check_not_read(Path(arguments.output), arguments.photo)
    photo = read_image(arguments.photo)
    styles = [(model.name, model) for model in _styles(arguments.styles)]
    with progress_bar("picture", bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as show:
        sheet = style_sheet(
            photo.filled.to(pick_device(arguments.device)),
            styles,
            side=arguments.size,
            columns=arguments.columns,
            progress=show,
        )
    save_image(arguments.output, sheet, icc_profile=photo.icc_profile)
    return str(arguments.output)


def _styles(given: list[str] | None) -> list[StyleModel]:
    """Return the styles to show: those that were given, or all that are on this machine."""
    if given is None:
        here = sorted(filter(is_downloaded, entries("style")), key=lambda entry: not entry.is_bundled)
        return [model for entry in here for model in load_styles(entry.id)]
    models: list[StyleModel] = []
    for each in dict.fromkeys(given):
        base, _ = split(each)
        models += _in_folder(Path(each)) if Path(base).is_dir() else load_styles(each)
    return models


def _in_folder(folder: Path) -> list[StyleModel]:
    """Return the styles in a folder. Other files of weights are skipped, each with a line."""
    models: list[StyleModel] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in NETWORK_SUFFIXES):
        try:
            models += load_styles(path)
        except errors.CheckpointError as error:
            tell(f"skipped {path.name}: {error}")
    if not models:
        raise errors.InputError(f"there are no styles in the folder {folder}")
    return models
