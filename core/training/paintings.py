"""Batches of paintings for training a predictor of styles: crops that are varied so that a few hundred reach far.

As with photos, batch n depends only on the seed and n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images.color import match_palette
from .photos import WHOLE, PhotoFolder, Share, ahead, decoded

_SMALLEST_PART = 0.6  # of a painting's short side: smaller crops would show details instead of a style
_OTHER_PALETTE, _HUE, _CONTRAST = 0.3, 0.3, 0.3  # shares of the crops that are changed so
_CONTRASTS = (0.6, 1.3)


class PaintingFolder(PhotoFolder):
    """Random crops of the paintings in a folder: scaled, flipped, and some of them in other colors.

    Arguments, attributes and errors are those of `PhotoFolder`. The order is another one than that of photos with the same
    seed, so that a painting does not always meet the same photo.
    """

    kind = "paintings"

    def __init__(self, folder: str | Path, size: int, batch_size: int, seed: int = 0) -> None:
        super().__init__(folder, size, batch_size, seed)
        self.seed = int(np.random.default_rng([seed, 5]).integers(2**62))

    def plain(self, path: Path) -> Tensor:
        """Return a painting's largest square in the middle, (3, size, size) RGB in [0, 1], unchanged."""
        image = decoded(path, self.size)
        side = min(image.size)
        return self._square(image, (image.width - side) / 2, (image.height - side) / 2, side)

    def _read(self, path: Path, random: np.random.Generator) -> Tensor:
        crop = self._random_square(path, random)
        if random.random() < _OTHER_PALETTE:
            other = self.files[int(random.integers(len(self.files)))]
            with suppress(Exception):  # a painting that cannot be read is reported when it is its turn
                crop = match_palette(crop[None], self.plain(other)[None])[0]
        if random.random() < _HUE:
            crop = turned(crop, random.uniform(0, 2 * math.pi))
        if random.random() < _CONTRAST:
            mean = crop.mean(dim=(1, 2), keepdim=True)
            crop = (mean + (crop - mean) * random.uniform(*_CONTRASTS)).clamp(0, 1)
        return crop

    def _random_square(self, path: Path, random: np.random.Generator) -> Tensor:
        part, x, y, flip = random.random(4)
        image = decoded(path, self.size)
        side = min(image.size) * (_SMALLEST_PART + part * (1 - _SMALLEST_PART))
        crop = self._square(image, x * (image.width - side), y * (image.height - side), side)
        return crop.flip(2) if flip < 0.5 else crop

    def _square(self, image: Image.Image, left: float, top: float, side: float) -> Tensor:
        box = (left, top, min(left + side, image.width), min(top + side, image.height))
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class PaintedPhotos:
    """Photos, each with the painting whose style it gets.

    Args:
        photos: the photos.
        paintings: the paintings, with the same batch size.

    Attributes:
        workers: number of batches that are prepared at once.
    """

    def __init__(self, photos: PhotoFolder, paintings: PaintingFolder) -> None:
        self.photos, self.paintings = photos, paintings
        self.files, self.batch_size = photos.files, photos.batch_size
        self.workers = 1

    @property
    def skipped(self) -> dict[Path, str]:
        """Photos and paintings that could not be read, with the reason."""
        return {**self.photos.skipped, **self.paintings.skipped}

    def batch(self, index: int, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """Return a batch, or a share of it: photos (N, 3, size, size) and paintings (N, 3, size, size)."""
        return self.photos.batch(index, share), self.paintings.batch(index, share)

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from start to stop - 1, preparing the next ones while one is in use."""
        return ahead(partial(self.batch, share=share), start, stop, self.workers)


def turned(image: Tensor, angle: float) -> Tensor:
    """Turn the colors of an image (3, H, W) around the axis of greys by an angle in radians, clamped to [0, 1].

    Greys stay as they are, and so does the sum of the three channels where nothing is clamped.
    """
    cosine, sine = math.cos(angle), math.sin(angle) / math.sqrt(3)
    same, before, after = cosine + (1 - cosine) / 3, (1 - cosine) / 3 - sine, (1 - cosine) / 3 + sine
    matrix = image.new_tensor([[same, before, after], [after, same, before], [before, after, same]])
    return (matrix @ image.flatten(1)).view_as(image).clamp(0, 1)
