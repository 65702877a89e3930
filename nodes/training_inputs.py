"""Conversion of TrainStyle's inputs to what a training run needs: recipe, loss network, base, photos and output file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import ImageError, InputError
from ..core.hub.manifest import Entry, find_entry
from ..core.images.filters import fitted
from ..core.images.folders import find_images
from ..core.images.reading import read_image
from ..core.models.loading import network_file
from ..core.models.predict import DEFAULT
from ..core.models.predictor_file import TASK as PREDICTOR
from ..core.training.base_styles import NOTHING, PREDICTED, base_file
from ..core.training.style_recipes import StyleRecipe, adjusted, get_recipe
from . import images
from .choices import Choices
from .host import (
    STYLE_FOLDER,
    input_folder,
    input_folders,
    is_network_file,
    model_folders,
    temporary_folder,
)
from .loss_networks import AUTO

NO_FOLDER = "(none)"
STYLES = Choices("style", STYLE_FOLDER, "style")

_PREVIEW_SIDE = 512  # px
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f/\\:*?"<>|#]')
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}


@dataclass(frozen=True)
class Settings:
    """The inputs of TrainStyle that are single values, named as in its schema.

    Attributes:
        content: Folder of photos, or ``NO_FOLDER``.
        name: Name of the new style.
        preset: Name of the recipe.
        steps: Training steps; here and below 0 stands for the recipe's own number.
        size: Side of the crops in px.
        batch: Photos per step.
        width: Channels of the network's first layer.
        content_weight: Factor on the recipe's content weights.
        style_weight: Factor on its style weights.
        tv_weight: Factor on its total variation weight.
        style_size: Longest side in px to which the style image is scaled.
        loss_network: Option of the loss network.
        start_from: Option of the base.
        resume: Whether to resume an interrupted training run.
        seed: Random seed.
    """

    content: str
    name: str
    preset: str
    steps: int = 0
    size: int = 0
    batch: int = 0
    width: int = 0
    content_weight: float = 1.0
    style_weight: float = 1.0
    tv_weight: float = 1.0
    style_size: int = 0
    loss_network: str = AUTO
    start_from: str = AUTO
    resume: bool = True
    seed: int = 0

    @classmethod
    def of(cls, inputs: Mapping[str, Sequence[Any]]) -> Settings:
        """Return the settings for inputs that the host passes as lists of one value."""
        return cls(**{name: only(values) for name, values in inputs.items()})

    def recipe(self) -> StyleRecipe:
        """Return the preset with the numbers and factors of these settings. Raise InputError for bad ones."""
        factors = {"content": self.content_weight, "style": self.style_weight, "tv": self.tv_weight}
        return adjusted(
            get_recipe(self.preset),
            factors,
            width=self.width or None,
            steps=self.steps or None,
            size=self.size or None,
            batch_size=self.batch or None,
            style_size=self.style_size or None,
        )


def only(values: Sequence[Any] | None) -> Any:
    """Return the value of an input that the host passes as a list of one, or None if it is not known yet."""
    return values[0] if values else None


def content_options() -> list[str]:
    """Return the options of the input for a folder of photos."""
    return [NO_FOLDER, *input_folders()]


def start_options() -> list[str]:
    """Return what a training run can start from: a prediction, or a style of one, of any program, on this machine."""
    styles = [name for name in STYLES.options() if is_network_file(name) or find_entry(name, "style")]
    return [AUTO, NOTHING, *([PREDICTED] if find_entry(DEFAULT, PREDICTOR) else []), *styles]


def validate_start(choice: str | None) -> bool | str:
    """Check a base for ``validate_inputs``: return True, or a message for the user."""
    return True if choice in (AUTO, NOTHING, PREDICTED) else STYLES.validate(choice)


def style_file(name: str) -> Path:
    """Return the file for a new style. Raise InputError for a name that is not a file name on every system."""
    if not isinstance(name, str):
        raise InputError(f"the style name is {name!r}; expected text, such as my_style")
    stem = name.strip().removesuffix(".safetensors")
    if not stem or len(stem.encode()) > 100:
        raise InputError(f"the style name is {name!r}; expected 1 to 100 characters, such as my_style")
    if found := _NOT_IN_NAMES.search(stem):
        raise InputError(f"the style name {name!r} contains {found[0]!r}; choose a name such as my_style")
    reserved = stem.endswith(".training") or stem.split(".")[0].upper() in _WINDOWS_DEVICES
    if reserved or stem[0] == "." or stem[-1] in ". ":
        raise InputError(f"a style cannot be named {name!r}: the name is reserved; choose a name such as my_style")
    return model_folders(STYLE_FOLDER)[0] / f"{stem}.safetensors"


def start_file(choice: str, recipe: StyleRecipe, width: int | None) -> Path | None:
    """Return the base for an option, or None for a new network.

    Args:
        choice: The option.
        recipe: The recipe, which decides what auto stands for.
        width: Width that the network must have, or None.

    Raises:
        InputError: If the option is unknown, or the base has another width.
        CheckpointError: If the base cannot be used.
    """
    if choice in (AUTO, NOTHING, PREDICTED):
        return base_file(None if choice == AUTO else choice, recipe.name, width)
    chosen = STYLES.chosen(choice)
    if isinstance(chosen, Entry) and not chosen.is_bundled:
        chosen = network_file(chosen.id, "style", folder=model_folders(STYLE_FOLDER))
    return base_file(chosen.id if isinstance(chosen, Entry) else chosen, recipe.name, width)


@contextmanager
def photo_folder(content: str, photos: Sequence[Tensor]) -> Iterator[Path]:
    """Yield the folder of photos to train on.

    Args:
        content: Name of a folder in the host's input folder.
        photos: IMAGEs to use instead, saved in a temporary folder. Empty to use ``content``.

    Raises:
        InputError: If there are no photos and no such folder.
        ImageError: If one of the photos is not an IMAGE.
    """
    if not photos:
        yield content_folder(content)
        return
    with TemporaryDirectory(prefix="photos-", dir=temporary_folder()) as folder:
        frames = (frame for image in photos for frame in _frames(image))
        for index, frame in enumerate(frames):
            bitmap = _bitmap(frame)
            # Training runs are the same if their photos have the same names, so names are made from the content.
            name = f"{index:06}-{hashlib.sha256(bitmap).hexdigest()[:16]}.bmp"
            (Path(folder) / name).write_bytes(bitmap)
        yield Path(folder)


def content_folder(name: str) -> Path:
    """Return a folder of photos in the host's input folder. Raise InputError if it does not exist."""
    folder = input_folder(name)
    if folder is not None:
        return folder
    what = "no photo folder is chosen" if name == NO_FOLDER else f"ComfyUI's input folder has no folder {name!r}"
    known = ", ".join(input_folders())
    choose = f"choose one of: {known} (press R to see new ones)" if known else "create one there and press R"
    raise InputError(f"{what}; {choose}, or connect images to photos")


def _frames(image: Tensor) -> Iterator[Tensor]:
    images.check(image)
    yield from image


def _bitmap(frame: Tensor) -> bytes:
    pixels = images.to_core(frame, torch.device("cpu"))[0].mul(255).round().byte().movedim(0, -1)
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "BMP")
    return file.getvalue()


def photos_fingerprint(content: str | None) -> str:
    """Return a text that changes with the photos in a folder. Never raises."""
    folder = input_folder(content) if content else None
    try:
        stats = [(path.name, path.stat()) for path in find_images([folder])] if folder else []
    except (InputError, OSError):  # execution reports it
        stats = []
    listing = "\n".join(f"{name} {stat.st_mtime_ns} {stat.st_size}" for name, stat in stats)
    return hashlib.sha256(listing.encode()).hexdigest()


def style_images(paintings: Sequence[Tensor]) -> list[Tensor]:
    """Return all style images, each (1, 3, H, W) without alpha. Raise ImageError if there is none."""
    for image in paintings:
        images.check(image)
    found = [images.to_core(frame, torch.device("cpu")) for image in paintings for frame in image]
    if not found:
        raise ImageError("there is no style image; connect a painting")
    return found


def first_photo(folder: Path) -> Tensor:
    """Return the first readable photo of a folder, (1, 3, H, W), reduced to at most 512 px a side.

    Raises:
        ImageError: If no photo can be read.
    """
    reasons = []
    for path in find_images([folder]):
        try:
            pixels = read_image(path).filled
        except ImageError as error:
            reasons.append(str(error))
            continue
        return fitted(pixels, _PREVIEW_SIDE)
    raise ImageError(f"none of the {len(reasons)} photos in {folder} can be read; the first error: {reasons[0]}")
