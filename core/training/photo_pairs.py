"""Pairs of low and high resolution crops from a folder of photos, on which upscalers are trained.

As in photos.py, batch n of a training run depends only on the seed and n.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError, InputError, first_line
from ..images.folders import find_images
from ..images.reading import read_image
from ..images.resample import DEGRADATIONS, bicubic_resize, crop_to_multiple, degrade
from .degradations import damaged
from .photos import WHOLE, Share, ahead, ordered, positions

_CACHE_BYTES = 2 << 30  # size of the cache of decoded photos, since decoding takes longer than a step
REAL = "real-3"  # the degradation of degradations.py with its third numbers, other for each crop
_MARGIN = 8  # LR px around a crop that are damaged with it, so that crops show no effects of an edge
_GREY = 0.1  # share of damaged crops without color: else networks tint black and white photos
_SIZES = (1.0, 0.7, 0.5)  # scales of a photo: reduced, it is sharper and shows other detail


class PairFolder:
    """Random crops (LR, HR) of the photos in a folder, flipped and rotated at random, in a new order each epoch.

    The low resolution image is made from the whole photo, as in the test sets, so that crops show no effects of an edge. With
    the degradation ``REAL``, it is made from the crop and a margin around it, differently for each position of the run.

    A photo that cannot be used is skipped, and the next one in order is used instead.

    Args:
        folder: folder of photos.
        factor: HR side over LR side.
        size: side of the LR crops, px.
        batch_size: pairs in a batch.
        degradation: how LR is made from HR: a name of `resample.DEGRADATIONS`, "mix" for a random one, or ``REAL`` for
            `degradations.damaged`.
        seed: random seed of order and crops, from 0 to 2^63 - 1.
        candidates: number of random places for a crop, of which the one with the most detail is chosen.

    Attributes:
        files: the photos.
        skipped: files that could not be used, with the reason.
        workers: number of batches that are prepared at once.

    Raises:
        ImageError: The folder is missing or has no images.
        InputError: The seed is out of range, or the degradation is unknown.
    """

    def __init__(
        self, folder: str | Path, factor: int, size: int, batch_size: int, degradation: str = "bicubic", seed: int = 0,
        candidates: int = 1,
    ) -> None:  # fmt: skip
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed}; expected a number from 0 to 2^63 - 1")
        if degradation not in (*DEGRADATIONS, "mix", REAL):
            raise InputError(f"the degradation is {degradation!r}; expected {', '.join(DEGRADATIONS)}, mix or {REAL}")
        self.kinds = {"mix": DEGRADATIONS, REAL: ()}.get(degradation, (degradation,))  # made from whole photos
        self.files = sorted(find_images([folder]))  # the order by which earlier runs chose their photos
        self.factor, self.size, self.batch_size, self.seed = factor, size, batch_size, seed
        self.candidates = candidates
        self.skipped: dict[Path, str] = {}
        self.workers = 1
        self._decoded: dict[tuple[Path, float], dict[str, Tensor]] = {}
        self._bytes = 0

    def batch(self, index: int, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """Return a batch of the run, or a share of it, as RGB in [0, 1].

        Returns:
            LR (N, 3, size, size) and HR (N, 3, factor size, factor size).

        Raises:
            ImageError: None of the photos can be used.
        """
        pairs = [self._pair(position) for position in positions(index, self.batch_size, share)]
        low, high = (torch.stack(images).float() / 255 for images in zip(*pairs, strict=True))
        return low, high

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from start to stop - 1, preparing each while the previous one is in use."""
        return ahead(partial(self.batch, share=share), start, stop, self.workers)

    def _pair(self, position: int) -> tuple[Tensor, Tensor]:
        for path in ordered(self.files, self.seed, position):
            if path not in self.skipped:
                # A new generator: the crop must not depend on whether an unreadable photo was met before or only now.
                random = np.random.default_rng([self.seed, 2, position])
                try:
                    images = self._images(path, _SIZES[int(random.integers(len(_SIZES)))])
                    if self.kinds:
                        return self._crop(images, random)
                    return self._damaged_crop(images["hr"], random, np.random.default_rng([self.seed, 6, position]))
                except Exception as error:  # on damaged data decoders raise nearly anything
                    self.skipped[path] = first_line(error)
        raise ImageError(
            f"none of the {len(self.files)} photos can be used; the first: {next(iter(self.skipped.items()))}"
        )

    def _crop(self, images: dict[str, Tensor], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        kind = self.kinds[int(random.integers(len(self.kinds)))]
        low, high, size, factor = images[kind], images["hr"], self.size, self.factor
        y, x = self._place(low, size, random)
        low = low[:, y : y + size, x : x + size]
        high = high[:, factor * y : factor * (y + size), factor * x : factor * (x + size)]
        return _turned_at_random(low, high, random)

    def _damaged_crop(
        self, photo: Tensor, random: np.random.Generator, damage: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return a crop and its damaged version. The margin differs, so that blocks of JPEG lie anywhere in the crop."""
        size, factor = self.size, self.factor
        y, x = (place // factor * factor for place in self._place(photo, size * factor, random))
        top, left = (min(factor * int(random.integers(_MARGIN, 2 * _MARGIN)), place) for place in (y, x))
        side = (size + _MARGIN) * factor
        around = photo[:, y - top : y + side, x - left : x + side]
        if damage.random() < _GREY:
            around = around.float().mean(0, keepdim=True).round().byte().expand(3, -1, -1)
        low = damaged(around, factor, damage)[:, top // factor :, left // factor :][:, :size, :size]
        high = around[:, top : top + factor * size, left : left + factor * size]
        return _turned_at_random(low, high, random)

    def _place(self, image: Tensor, size: int, random: np.random.Generator) -> tuple[int, int]:
        """Return top and left of the crop with the most detail among the candidates."""
        places = [[int(random.integers(side - size + 1)) for side in image.shape[-2:]] for _ in range(self.candidates)]
        y, x = max(places, key=lambda place: detail(image[:, place[0] : place[0] + size, place[1] : place[1] + size]))
        return y, x

    def _images(self, path: Path, size: float) -> dict[str, Tensor]:
        """Return the photo, scaled unless that makes it too small, and its low resolution images, (3, H, W) uint8.

        They are cached while there is room.
        """
        if (path, size) in self._decoded:
            return self._decoded[path, size]
        photo, least = read_image(path).filled, self.size * self.factor
        if size != 1 and min(photo.shape[-2:]) * size >= least:
            photo = bicubic_resize(photo, size).clamp(0, 1)
        high = crop_to_multiple(photo, self.factor)
        if min(high.shape[-2:]) < least:
            height, width = photo.shape[-2:]
            raise ImageError(f"{width}x{height} px is smaller than a crop of {least} px")
        images = {"hr": high, **{kind: degrade(high, self.factor, kind) for kind in self.kinds}}
        images = {name: image[0].mul(255).round().byte() for name, image in images.items()}
        taken = sum(image.numel() for image in images.values())
        if self._bytes + taken <= _CACHE_BYTES:
            self._decoded[path, size] = images
            self._bytes += taken
        return images


def _turned_at_random(low: Tensor, high: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    flip, turns = random.random() < 0.5, int(random.integers(4))
    return turned(low, flip, turns), turned(high, flip, turns)


def turned(image: Tensor, flip: bool, turns: int) -> Tensor:
    """Return an image (..., H, W), mirrored if ``flip`` and then rotated by ``turns`` times 90 degrees."""
    return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))


def detail(image: Tensor) -> float:
    """Return the mean absolute difference between neighbors in the green channel of (3, H, W) uint8."""
    green = image[1].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())
