"""From what TrainStyle's inputs say to what a training takes: recipe, loss network, start, photos and a name for a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import ImageError, InputError
from ..core.hub.loss_networks import loss_weights_file
from ..core.hub.manifest import Entry, find_entry
from ..core.images.folders import find_images
from ..core.images.reading import read_image
from ..core.losses.loss_network import recognize
from ..core.training.base_styles import NOTHING, base_file
from ..core.training.photos import fitted
from ..core.training.style_recipes import StyleRecipe
from . import images
from .choices import Choices
from .host import (
    LOSS_FOLDER,
    STYLE_FOLDER,
    folders,
    input_folder,
    input_folders,
    progress_callback,
    temporary_folder,
)
from .loss_networks import AUTO, LOSS_NETWORKS, fitting

NO_FOLDER = "(none)"
STYLES = Choices("style", STYLE_FOLDER, "style")

_TEST_SIDE = 512  # px
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f/\\:*?"<>|#]')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}  # of Windows


def content_options() -> list[str]:
    return [NO_FOLDER, *input_folders()]


def start_options() -> list[str]:
    """Styles that a training can start from: of this project's own, and here already."""
    return [AUTO, NOTHING, *(name for name in STYLES.options() if name.endswith(".safetensors") or _is_bundled(name))]


def _is_bundled(name: str) -> bool:
    entry = find_entry(name, "style")
    return entry is not None and entry.is_bundled


def style_file(name: str) -> Path:
    """Where a new style of this name is written. Raises InputError for a name that cannot be a file's everywhere."""
    stem = name.strip().removesuffix(".safetensors")
    if not stem or len(stem.encode()) > 100:
        raise InputError(f"the name of the style is {name!r}; expected 1 to 100 characters, such as my_style")
    if found := _NOT_IN_NAMES.search(stem):
        raise InputError(f"the name of the style, {name!r}, has {found[0]!r} in it; expected one such as my_style")
    if stem[0] == "." or stem[-1] in ". " or stem.endswith(".training") or stem.split(".")[0].upper() in _DEVICES:
        raise InputError(f"a style cannot be named {name!r}, which stands for another file; expected e.g. my_style")
    return folders(STYLE_FOLDER)[0] / f"{stem}.safetensors"


def start_file(choice: str, recipe: StyleRecipe, width: int | None) -> Path | None:
    """The file to start from, None for a new network. Raises InputError, CheckpointError; see core.bases.base_file."""
    if choice in (AUTO, NOTHING):
        return base_file(None if choice == AUTO else choice, recipe.name, width)
    chosen = STYLES.chosen(choice)
    return base_file(chosen.id if isinstance(chosen, Entry) else chosen, recipe.name, width)


def with_loss_network(recipe: StyleRecipe, choice: str) -> tuple[StyleRecipe, Path]:
    """The recipe for the loss network that was chosen, and the file of its weights.

    One with a name is downloaded now, unless it is here, since it was asked for by that name. Raises CheckpointError when
    there is no such network, or no file that has the recipe's layers, saying what to do.
    """
    layers = recipe.weights.layers
    if choice == AUTO:
        return recipe, fitting(recipe, others=True)
    chosen = LOSS_NETWORKS.chosen(choice)
    if isinstance(chosen, Path):
        return replace(recipe, loss_network=recognize(chosen, layers, recipe.loss_network)), chosen
    name = str(chosen.family)
    file = loss_weights_file(name, layers, folders(LOSS_FOLDER), download=True, progress=progress_callback(1))
    return replace(recipe, loss_network=name), file


@contextmanager
def photo_folder(content: str, photos: Sequence[Tensor]) -> Iterator[Path]:
    """The folder of photos to learn on: that of a name, or one for a while, with the IMAGEs, where there are any.

    Raises InputError, ImageError.
    """
    if photos:
        with TemporaryDirectory(prefix="photos-", dir=temporary_folder()) as folder:
            for index, frame in enumerate(frame for image in photos for frame in _frames(image)):
                content = _bitmap(frame)
                # A training is the same when its photos have the same names: these are made of what is in them.
                (Path(folder) / f"{index:06}-{hashlib.sha256(content).hexdigest()[:16]}.bmp").write_bytes(content)
            yield Path(folder)
        return
    folder = input_folder(content)
    if folder is None:
        known = ", ".join(input_folders())
        what = "no folder of photos is chosen" if content == NO_FOLDER else f"ComfyUI's input folder has no {content!r}"
        raise InputError(
            f"{what}; choose one of {known or 'its folders (there is none yet)'}, where R shows new ones, or connect images "
            f"to photos"
        )
    yield folder


def _frames(image: Tensor) -> Iterator[Tensor]:
    images.check(image)
    yield from image


def _bitmap(frame: Tensor) -> bytes:
    pixels = images.to_core(frame, torch.device("cpu"))[0].mul(255).round().byte().movedim(0, -1)
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "BMP")
    return file.getvalue()


def painting(style_images: Sequence[Tensor]) -> Tensor:
    """The one style image, (1, 3, H, W), without its alpha. Raises ImageError when there are more."""
    for image in style_images:
        images.check(image)
    count = sum(map(len, style_images))
    if count != 1:
        raise ImageError(f"expected one style image, got {count}; choose one of them")
    return images.to_core(style_images[0][0], torch.device("cpu"))


def first_photo(folder: Path) -> Tensor:
    """The first photo of a folder that can be read, (1, 3, H, W) of at most 512 px a side. Raises ImageError for none."""
    reasons = []
    for path in find_images([folder]):
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            reasons.append(str(error))
            continue
        return fitted(pixels, _TEST_SIDE)
    raise ImageError(f"none of the {len(reasons)} photos in {folder} can be read; the first: {reasons[0]}")
