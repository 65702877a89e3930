"""Training photos and style images: folders of pictures to batches of crops.

Batch n of a run depends on the seed and n alone, not on any generator's state: that is what makes a resumed training
exact, and what lets a batch be prepared ahead in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ImageError, InputError, first_line
from ..images.folders import find_images
from ..images.pillow import open_image
from ..images.reading import read_image

Share = tuple[int, int]  # (part, parts), part from 0: what one of several processes takes of each batch
WHOLE: Share = (0, 1)

_LARGEST_ZOOM = 1.25  # a crop's photo has a short side of 1 to 1.25 times the crop: whole scenes, not details


class PhotoFolder:
    """Random crops and flips from the photos of a folder, in a new order each epoch.

    shadows: share of the crops that are `shaded`
    skipped: files that could not be read, each once, with the reason. The photo after it takes its place.

    Raises ImageError when the folder is missing or has no images.
    """

    def __init__(self, folder: str | Path, size: int, batch_size: int, seed: int = 0, shadows: float = 0.0) -> None:
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed}; expected a number from 0 to 2^63 - 1")
        self.files = find_images([folder])
        self.size, self.batch_size, self.seed, self.shadows = size, batch_size, seed, shadows
        self.skipped: dict[Path, str] = {}

    def batch(self, index: int, share: Share = WHOLE) -> Tensor:
        """Batch ``index`` of the run, or a share of it: (batch_size, 3, size, size) RGB in [0, 1]."""
        return torch.stack([self._crop(position) for position in positions(index, self.batch_size, share)])

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[Tensor]:
        """Batches start ... stop - 1, each prepared while the one before is in use."""
        return ahead(partial(self.batch, share=share), start, stop)

    def _crop(self, position: int) -> Tensor:
        for path in ordered(self.files, self.seed, position):
            if path not in self.skipped:
                # A new generator: the crop must not depend on whether an unreadable photo was met before or only now.
                random = np.random.default_rng([self.seed, 2, position])
                try:
                    crop = random_crop(path, self.size, random)
                    return shaded(crop, random) if random.random() < self.shadows else crop
                except Exception as error:  # on damaged data decoders raise nearly anything
                    self.skipped[path] = first_line(error)
        raise ImageError(
            f"none of the {len(self.files)} photos can be read; the first: {next(iter(self.skipped.items()))}"
        )


def positions(index: int, batch_size: int, share: Share = WHOLE) -> range:
    """Where in the run the photos of batch ``index`` are, or those of a share of it."""
    part, parts = share
    return range(index * batch_size + part, (index + 1) * batch_size, parts)


class StyledPhotos(PhotoFolder):
    """A PhotoFolder for ``styles`` styles that are trained together: each crop comes with the one that it is to learn.

    All styles take turns, in a new order each time, so that none has more crops than another.
    """

    def __init__(self, styles: int, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.styles = styles

    def batch(self, index: int, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """Batch ``index`` of the run: photos as PhotoFolder's, and the rows of their styles, int64."""
        rows = [self._row(position) for position in positions(index, self.batch_size, share)]
        return super().batch(index, share), torch.tensor(rows)

    def _row(self, position: int) -> int:
        turn, place = divmod(position, self.styles)
        # not the photos' generator: as many photos as styles would meet the same style in each epoch
        return int(np.random.default_rng([self.seed, 4, turn]).permutation(self.styles)[place])


def ahead(batch: Callable[[int], Any], start: int, stop: int) -> Iterator[Any]:
    """batch(start) ... batch(stop - 1), each made in a thread while the one before is in use."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(batch, start) if start < stop else None
        for index in range(start, stop):
            current = following.result()
            if index + 1 < stop:
                following = pool.submit(batch, index + 1)
            yield current


def ordered(files: Sequence[Path], seed: int, position: int) -> Iterator[Path]:
    """The file at a position of a run that goes through ``files`` in a new order each epoch, then those after it."""
    epoch, place = divmod(position, len(files))
    order = _permutation(seed, epoch, len(files))
    return (files[order[(place + shift) % len(files)]] for shift in range(len(files)))


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, 1, epoch]).permutation(length)


def random_crop(path: Path, size: int, random: np.random.Generator) -> Tensor:
    """A random square of a photo, (3, size, size) RGB in [0, 1], flipped at random."""
    zoom, x, y, flip = random.random(4)
    with path.open("rb") as file:
        image = open_image(file)
        image.draft("RGB", (size * 2, size * 2))  # a large JPEG decodes at a fraction of its size
        if image.mode == "F" or image.mode.startswith("I"):  # grey of more than 8 bits, which convert would clip
            image = Image.fromarray(read_image(path).pixels[0].movedim(0, -1).mul(255).round().byte().numpy())
        image = ImageOps.exif_transpose(image).convert("RGB")
    short = round(size * (1 + zoom * (_LARGEST_ZOOM - 1)))
    scale = short / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = int(x * (width - size + 1)), int(y * (height - size + 1))
    box = (left / scale, top / scale, min((left + size) / scale, image.width), min((top + size) / scale, image.height))
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if flip < 0.5:
        image = ImageOps.mirror(image)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def shaded(crop: Tensor, random: np.random.Generator) -> Tensor:
    """Soft shadows down to black, or areas of one color. Photos have large ones, crops for training seldom: a network that
    has not learned them makes blots there (instance normalization lets it hide a peak where nothing is compared)."""
    side = int(random.integers(2, 5))
    noise = torch.from_numpy(random.random((1, 1, side, side), np.float32))
    light = torch.nn.functional.interpolate(noise, size=crop.shape[-2:], mode="bicubic", align_corners=True)[0]
    if random.random() < 0.5:
        return crop * torch.sigmoid(14 * (light - 0.45))
    y, x = (int(random.integers(length)) for length in crop.shape[-2:])
    color = crop[:, y, x, None, None] * float(random.choice((0.0, 0.15, 1.0)))
    return color + (crop - color) * torch.sigmoid(60 * (light - 0.5))


def fit_style_image(image: Tensor, style_size: int, smallest: int = 64) -> Tensor:
    """The style image (1, 3, H, W) with its longest side scaled to ``style_size`` px, aspect ratio kept.

    The longest side is what the authors' ``-style_image_size`` means in fact (torch's image.scale), though their
    documentation says the smaller one. Raises InputError for images too small to show a style.
    """
    height, width = image.shape[-2:]
    if min(height, width) < smallest:
        raise InputError(f"the style image is {width}x{height} px; expected at least {smallest} px on each side")
    scale = style_size / max(height, width)
    target = [max(32, round(height * scale)), max(32, round(width * scale))]  # what any loss network takes
    return torch.nn.functional.interpolate(image, size=target, mode="bicubic", antialias=True).clamp(0, 1)


def fitted(image: Tensor, longest: int) -> Tensor:
    """Images (N, C, H, W) reduced to ``longest`` px on the longest side, aspect ratio kept; smaller ones as they are."""
    sides = image.shape[-2:]
    if max(sides) <= longest:
        return image
    target = [max(1, round(side * longest / max(sides))) for side in sides]
    return torch.nn.functional.interpolate(image, size=target, mode="bicubic", antialias=True).clamp(0, 1)
