"""The command ``push``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import errors
from ..exporting.model_card import package
from ..files import atomic_write
from ..hub.manifest import ROOT
from ..hub.repositories import check_repository, upload
from ..images.reading import read_image
from ..models.style_model import StyleModel, load_style
from .options import add_overrides, prints, progress_bar

_EXAMPLES = ("astronaut.jpg", "coffee.jpg", "rocket.jpg")  # in the public domain or CC0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``push``."""
    command.description = (
        "Upload a style to the Hugging Face Hub: the weights, and a model card with painting, license, recipe, measures and "
        "pictures. Everybody can see it unless --private is given. `perceptual-style download USER/NAME` gets it back. Log in "
        "with `hf auth login` first, or set HF_TOKEN. --preview writes the same files into a folder and uploads nothing."
    )
    command.add_argument("style", metavar="FILE|NAME", help="the style; FILE#wave for one style of a file with several")
    command.add_argument("repository", metavar="USER/NAME", help="the repository, which is created")
    command.add_argument("--title", help="title of the style (default: the title in the file)")
    command.add_argument(
        "--license", metavar="NAME", help="license of the weights, such as cc0-1.0 (default: the license in the file)"
    )
    command.add_argument(
        "--painting", metavar="FILE", help="picture of the painting to show; only with the right to publish it"
    )
    command.add_argument(
        "--photos", nargs="*", metavar="FILE",
        help="photos to show in the style; only with the right to publish them (default: this project's example photos)",
    )  # fmt: skip
    command.add_argument(
        "--yardstick",
        metavar="FILE",
        help="yardstick.json that `perceptual-style evaluate style -o` wrote for this style",
    )
    command.add_argument("--private", action="store_true", help="let nobody else see a new repository")
    command.add_argument(
        "--update",
        action="store_true",
        help="replace the style in a repository that exists; the Hub keeps the earlier one",
    )
    command.add_argument(
        "--preview", metavar="FOLDER", help="write the files into this folder to look at them, and upload nothing"
    )
    add_overrides(command)
    command.set_defaults(run=prints(_push))


def _push(arguments: argparse.Namespace) -> str:
    check_repository(arguments.repository)
    model = load_style(arguments.style, channel_order=arguments.channel_order, output=arguments.output_function)
    photos = arguments.photos
    if photos is None:
        photos = [path for name in _EXAMPLES if (path := ROOT / "examples" / name).is_file()]
    measures = _measures(arguments.yardstick, model) if arguments.yardstick else None
    with progress_bar("picture") as show:
        files = package(
            model, arguments.repository, license_name=arguments.license, title=arguments.title,
            painting=read_image(arguments.painting).filled if arguments.painting else None,
            photos=[read_image(photo).filled for photo in photos], measures=measures, progress=show,
        )  # fmt: skip
    if arguments.preview:
        return _written(Path(arguments.preview), files)
    message = f"Upload {model.name} with perceptual-style"
    return upload(arguments.repository, files, message=message, private=arguments.private, update=arguments.update)


def _written(folder: Path, files: Mapping[str, bytes]) -> str:
    for name, content in files.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    return str(folder / "README.md")


def _measures(file: str, model: StyleModel) -> Mapping[str, Any]:
    """Return the measures of a style in a yardstick.json."""
    try:
        styles = json.loads(Path(file).read_text(encoding="utf-8"))["styles"]
        found = next((each for each in styles if each["style"] == model.name), None)
    except (ValueError, KeyError, TypeError):
        raise errors.InputError(f"{file} is not the yardstick.json of `perceptual-style evaluate style -o`") from None
    if found is None:
        raise errors.InputError(
            f"{file} has no measures of {model.name}; measure it with `perceptual-style evaluate style`"
        )
    return found
