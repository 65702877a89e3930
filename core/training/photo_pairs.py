"""Pairs of low and high resolution crops from a folder of photos: what upscalers are trained on.

As in data.py, batch n of a run depends on the seed and n alone.
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
from .photos import WHOLE, Share, ahead, ordered, positions

_CACHE_BYTES = 2 << 30  # of decoded photos: decoding takes longer than a step
_SIZES = (1.0, 0.7, 0.5)  # of a photo, which is sharper when it is smaller, and shows other detail


class PairFolder:
    """Random crops (LR, HR), flipped and turned, from the photos of a folder in a new order each epoch.

    factor: HR side over LR side; size: side of the LR crops, px
    candidates: places from which that with most detail is chosen for a crop
    degradation: how LR comes from HR, a name of resample.DEGRADATIONS, or "mix": one of them at random
    skipped: files that could not be used, each once, with the reason. The photo after it takes its place.

    The low resolution image is made of the whole photo, as those of the test sets are: a crop has no edges of its own.
    Raises ImageError when the folder is missing or has no images.
    """

    def __init__(
        self, folder: str | Path, factor: int, size: int, batch_size: int, degradation: str = "bicubic", seed: int = 0,
        candidates: int = 1,
    ) -> None:  # fmt: skip
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed}; expected a number from 0 to 2^63 - 1")
        if degradation not in (*DEGRADATIONS, "mix"):
            raise InputError(f"the degradation is {degradation!r}; expected {', '.join(DEGRADATIONS)} or mix")
        self.kinds = DEGRADATIONS if degradation == "mix" else (degradation,)
        self.files = find_images([folder])
        self.factor, self.size, self.batch_size, self.seed = factor, size, batch_size, seed
        self.candidates = candidates
        self.skipped: dict[Path, str] = {}
        self._decoded: dict[tuple[Path, float], dict[str, Tensor]] = {}
        self._bytes = 0

    def batch(self, index: int, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """Batch ``index`` of the run, or a share of it: LR (N, 3, size, size), HR (N, 3, factor size, factor size), RGB in
        [0, 1]."""
        pairs = [self._pair(position) for position in positions(index, self.batch_size, share)]
        low, high = (torch.stack(images).float() / 255 for images in zip(*pairs, strict=True))
        return low, high

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches start ... stop - 1, each prepared while the one before is in use."""
        return ahead(partial(self.batch, share=share), start, stop)

    def _pair(self, position: int) -> tuple[Tensor, Tensor]:
        for path in ordered(self.files, self.seed, position):
            if path not in self.skipped:
                # A new generator: the crop must not depend on whether an unreadable photo was met before or only now.
                random = np.random.default_rng([self.seed, 2, position])
                try:
                    return self._crop(self._images(path, _SIZES[int(random.integers(len(_SIZES)))]), random)
                except Exception as error:  # on damaged data decoders raise nearly anything
                    self.skipped[path] = first_line(error)
        raise ImageError(
            f"none of the {len(self.files)} photos can be used; the first: {next(iter(self.skipped.items()))}"
        )

    def _crop(self, images: dict[str, Tensor], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        kind = self.kinds[int(random.integers(len(self.kinds)))]
        low, high, size, factor = images[kind], images["hr"], self.size, self.factor
        places = [[int(random.integers(side - size + 1)) for side in low.shape[-2:]] for _ in range(self.candidates)]
        y, x = max(places, key=lambda place: detail(low[:, place[0] : place[0] + size, place[1] : place[1] + size]))
        low = low[:, y : y + size, x : x + size]
        high = high[:, factor * y : factor * (y + size), factor * x : factor * (x + size)]
        flip, turns = random.random() < 0.5, int(random.integers(4))
        return turned(low, flip, turns), turned(high, flip, turns)

    def _images(self, path: Path, size: float) -> dict[str, Tensor]:
        """The photo at this size, if that is not too small, and its low resolution images, (3, H, W) uint8.

        Each is made once while there is room.
        """
        if (path, size) in self._decoded:
            return self._decoded[path, size]
        photo, least = read_image(path).pixels[:, :3], self.size * self.factor
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


def turned(image: Tensor, flip: bool, turns: int) -> Tensor:
    """An image (..., H, W), mirrored if ``flip``, and then turned by so many quarters."""
    return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))


def detail(image: Tensor) -> float:
    """Mean absolute difference of neighbors of (3, H, W) uint8, in the green channel."""
    green = image[1].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())
