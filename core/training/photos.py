"""Batches of training crops from a folder of photos, and style images and photos scaled to size.

Batch n of a training run depends only on the seed and n, not on the state of a generator. Therefore a resumed run is exact,
and a thread can prepare the next batch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ImageError, InputError, first_line
from ..images.deep import holds_numbers
from ..images.folders import find_images
from ..images.pillow import has_transparency, open_image
from ..images.reading import open_file, read_image

# torchvision is imported by the functions that use it: importing it takes seconds, which only they should cost.

Share = tuple[int, int]  # (part, parts), part from 0: the part of each batch that one of several processes handles
WHOLE: Share = (0, 1)

_MOST_WORKERS = 4  # threads that prepare batches for a GPU
_LARGEST_ZOOM = 1.25  # a photo's short side is 1 to 1.25 times the crop's, so that crops show whole scenes, not details

Batch = TypeVar("Batch")


class TrainingData(Protocol):
    """What the training loop needs of its data.

    Attributes:
        files: the photos.
        batch_size: photos in a batch, over all processes.
    """

    files: list[Path]
    batch_size: int

    @property
    def skipped(self) -> dict[Path, str]:
        """Files that could not be used, with the reason."""
        ...

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[Any]:
        """Yield the batches from start to stop - 1, or a share of each."""
        ...


class PhotoFolder:
    """Random crops of the photos in a folder, flipped at random, in a new order each epoch.

    A photo that cannot be read is skipped, and the next one in order is used instead.

    Args:
        folder: folder of photos.
        size: side of the square crops, px.
        batch_size: crops in a batch.
        seed: random seed of order, crops and flips, from 0 to 2^63 - 1.
        shadows: share of the crops to pass through `shaded`, 0 to 1.

    Attributes:
        files: the photos.
        skipped: files that could not be read, with the reason.
        workers: number of batches that are prepared at once.
        kind: what messages call the files.

    Raises:
        ImageError: The folder is missing or has no images.
        InputError: The seed is out of range.
    """

    kind = "photos"

    def __init__(self, folder: str | Path, size: int, batch_size: int, seed: int = 0, shadows: float = 0.0) -> None:
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed}; expected a number from 0 to 2^63 - 1")
        self.files = sorted(find_images([folder]))  # the order by which earlier runs chose their photos
        self.size, self.batch_size, self.seed, self.shadows = size, batch_size, seed, shadows
        self.skipped: dict[Path, str] = {}
        self.workers = 1

    def batch(self, index: int, share: Share = WHOLE) -> Tensor:
        """Return a batch of the run, or a share of it: (batch_size, 3, size, size) RGB in [0, 1].

        Raises:
            ImageError: None of the photos can be read.
        """
        return torch.stack([self._crop(position) for position in positions(index, self.batch_size, share)])

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[Tensor]:
        """Yield the batches from start to stop - 1, preparing the next ones while one is in use."""
        return ahead(partial(self.batch, share=share), start, stop, self.workers)

    def _crop(self, position: int) -> Tensor:
        for path in ordered(self.files, self.seed, position):
            if path not in self.skipped:
                # A new generator: the crop must not depend on whether an unreadable photo was met before or only now.
                random = np.random.default_rng([self.seed, 2, position])
                try:
                    return self._read(path, random)
                except Exception as error:  # on damaged data decoders raise nearly anything
                    self.skipped[path] = first_line(error)
        raise ImageError(
            f"none of the {len(self.files)} {self.kind} can be read; the first: {next(iter(self.skipped.items()))}"
        )

    def _read(self, path: Path, random: np.random.Generator) -> Tensor:
        crop = random_crop(path, self.size, random)
        return shaded(crop, random) if random.random() < self.shadows else crop


class StyledPhotos:
    """A PhotoFolder for several styles that are trained together, in which each crop is assigned to a style.

    The styles take turns, in a new order each turn, so that all get the same number of crops.

    Args:
        photos: the photos. Their seed also determines the order of the styles.
        styles: number of styles.
    """

    def __init__(self, photos: PhotoFolder, styles: int) -> None:
        self.photos, self.styles = photos, styles
        self.files, self.batch_size, self.skipped = photos.files, photos.batch_size, photos.skipped

    def batch(self, index: int, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """Return a batch of `PhotoFolder`, and the row of each crop's style, (N,) int64."""
        rows = [self._row(position) for position in positions(index, self.batch_size, share)]
        return self.photos.batch(index, share), torch.tensor(rows, device="cpu")

    def batches(self, start: int, stop: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from start to stop - 1, preparing the next ones while one is in use."""
        return ahead(partial(self.batch, share=share), start, stop, self.photos.workers)

    def _row(self, position: int) -> int:
        turn, place = divmod(position, self.styles)
        # Not the generator of the photos' order: with as many photos as styles, each photo would always get the same style.
        return int(np.random.default_rng([self.photos.seed, 4, turn]).permutation(self.styles)[place])


def positions(index: int, batch_size: int, share: Share = WHOLE) -> range:
    """Return the positions in the run of the photos of batch ``index``, or of a share of it."""
    part, parts = share
    return range(index * batch_size + part, (index + 1) * batch_size, parts)


def ahead(batch: Callable[[int], Batch], start: int, stop: int, workers: int = 1) -> Iterator[Batch]:
    """Yield batch(start) ... batch(stop - 1), computing the next ones in as many threads while the last one is in use."""
    with ThreadPoolExecutor(workers) as pool:
        following = deque(pool.submit(batch, index) for index in range(start, min(start + workers, stop)))
        for index in range(start + workers, stop + workers):
            if not following:
                return
            current = following.popleft().result()
            if index < stop:
                following.append(pool.submit(batch, index))
            yield current


def loader_workers(device: torch.device) -> int:
    """Return how many batches to prepare at once: for a GPU, whose step takes less time than decoding a batch, several."""
    return 1 if device.type == "cpu" else max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) - 1))


def on_device(batch: Tensor, device: torch.device) -> Tensor:
    """Return a batch on the device, channels last. The host does not wait for a CUDA device."""
    if device.type == "cuda" and batch.device.type == "cpu":
        batch = batch.pin_memory()
    layout = torch.channels_last if batch.ndim == 4 else torch.preserve_format
    return batch.to(device, memory_format=layout, non_blocking=device.type == "cuda")


def ordered(files: Sequence[Path], seed: int, position: int) -> Iterator[Path]:
    """Yield the file at a position of the run, then the files after it.

    The run goes through ``files`` in a new order each epoch.
    """
    epoch, place = divmod(position, len(files))
    order = _permutation(seed, epoch, len(files))
    return (files[order[(place + shift) % len(files)]] for shift in range(len(files)))


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, 1, epoch]).permutation(length)


def random_crop(path: Path, size: int, random: np.random.Generator) -> Tensor:
    """Return a random square of a photo, (3, size, size) RGB in [0, 1], flipped at random."""
    from torchvision.transforms.v2 import functional as transforms

    zoom, x, y, flip = random.random(4)
    image = decoded(path, size)
    short = round(size * (1 + zoom * (_LARGEST_ZOOM - 1)))
    scale = short / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = int(x * (width - size + 1)), int(y * (height - size + 1))
    box = (left / scale, top / scale, min((left + size) / scale, image.width), min((top + size) / scale, image.height))
    # Pillow resamples from a fractional box. torchvision's resized_crop would first cut the photo at whole pixels.
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if flip < 0.5:
        image = transforms.horizontal_flip(image)
    # torchvision's conversion multiplies by 1/255, which rounds differently from a division.
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def decoded(path: Path, size: int) -> Image.Image:
    """Return a photo, upright and in RGB, at least 2 ``size`` px wide and high if its file is."""
    with open_file(path) as file:
        image = None
        with suppress(ImageError):  # there are other readers for some kinds
            image = open_image(file)
        # convert would clip numbers, and show hidden colors
        if image is None or holds_numbers(image) or has_transparency(image):
            return Image.fromarray(read_image(path).filled[0].movedim(0, -1).mul(255).round().byte().numpy())
        image.draft("RGB", (size * 2, size * 2))  # a large JPEG decodes at a fraction of its size
        return ImageOps.exif_transpose(image).convert("RGB")


def shaded(crop: Tensor, random: np.random.Generator) -> Tensor:
    """Return a crop with soft shadows down to black, or with areas of a single color.

    Photos have large flat areas, but training crops seldom do. A network that has not learned them draws blots there,
    because instance normalization lets it hide a peak where nothing is compared.

    Args:
        crop: (3, H, W) RGB in [0, 1].
        random: generator of the shadows.
    """
    side = int(random.integers(2, 5))
    noise = torch.from_numpy(random.random((1, 1, side, side), np.float32))
    light = torch.nn.functional.interpolate(noise, size=crop.shape[-2:], mode="bicubic", align_corners=True)[0]
    if random.random() < 0.5:
        return crop * torch.sigmoid(14 * (light - 0.45))
    y, x = (int(random.integers(length)) for length in crop.shape[-2:])
    color = crop[:, y, x, None, None] * float(random.choice((0.0, 0.15, 1.0)))
    return color + (crop - color) * torch.sigmoid(60 * (light - 0.5))


def fit_style_image(image: Tensor, style_size: int, smallest: int = 64) -> Tensor:
    """Return the style image with its longest side scaled to ``style_size``, keeping the aspect ratio.

    The authors' ``-style_image_size`` scales the longest side too (torch's image.scale), although their documentation says
    the smaller one.

    Args:
        image: (1, 3, H, W) RGB in [0, 1].
        style_size: longest side of the result, px. The shorter side is at least 32 px.
        smallest: smallest side allowed for ``image``, px.

    Raises:
        InputError: The image is too small to show a style.
    """
    height, width = image.shape[-2:]
    if min(height, width) < smallest:
        raise InputError(f"the style image is {width}x{height} px; expected at least {smallest} px on each side")
    scale = style_size / max(height, width)
    # Every loss network takes images of 32 px.
    return _resize(image, [max(32, round(height * scale)), max(32, round(width * scale))])


def _resize(image: Tensor, size: list[int]) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    return transforms.resize(image, size, InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
