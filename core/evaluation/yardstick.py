"""Measure styles by a yardstick that is the same for every network: other people's, too, and whatever it was trained with.

VGG-16 compares the pictures of photos with the style image and with the photos:

- Style distance: the squared distance of Gram matrices over the squared norm of the style image's, mean of four layers. The
  style image is shown in four sizes, and the nearest one counts, because the yardstick must not favor a stroke size.
- Content distance: the mean squared distance of the features at relu3_3, each scaled to length 1.
- Steadiness: the mean difference, in 255ths, between the picture of a photo and the picture of the photo moved by one pixel,
  moved back.

0 is best in all three. Distances depend on the file of weights: Caffe's VGG-16 and torchvision's give other numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from ..images.reading import read_image
from ..losses.functional import gram_matrix, style_loss
from ..losses.loss_network import LossNetwork
from ..models.stylizer import BaseStyle
from ..progress import Progress, ProgressCallback
from .panels import from_pillow, to_pillow

LOSS_NETWORK = "vgg16"
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LAYER = "relu3_3"
STYLE_SIZES = (256, 384, 512, 640)  # longest side of the style image, px
PHOTO_SIDE = 384  # short side of the photos, px
_MULTIPLE = 4  # of a photo's sides, so that networks with two strides keep them
_MARGIN = 24  # px at the edges of a picture that steadiness leaves out: the moved photo ends elsewhere


@dataclass(frozen=True)
class PhotoMeasures:
    """Measures of one picture.

    Attributes:
        photo: File name.
        style: Style distance by layer, at the size of the style image that is nearest on average.
        content: Content distance.
        steadiness: Mean difference after a move of one pixel, in 255ths.
    """

    photo: str
    style: Mapping[str, float]
    content: float
    steadiness: float


@dataclass(frozen=True)
class Measures:
    """Measures of one style.

    Attributes:
        style: Name of the style.
        size: Longest side of the style image that is nearest, px.
        unchanged: Style distance of the photos themselves, at the size that is nearest to them.
        photos: Measures of each picture.
    """

    style: str
    size: int
    unchanged: float
    photos: Sequence[PhotoMeasures]

    @property
    def layers(self) -> dict[str, float]:
        """Style distance by layer."""
        return {layer: statistics.fmean(photo.style[layer] for photo in self.photos) for layer in STYLE_LAYERS}

    @property
    def style_distance(self) -> float:
        """Style distance: the mean over layers and photos."""
        return statistics.fmean(self.layers.values())

    @property
    def content_distance(self) -> float:
        """Content distance: the mean over photos."""
        return statistics.fmean(photo.content for photo in self.photos)

    @property
    def steadiness(self) -> float:
        """Mean difference after a move of one pixel, in 255ths: the mean over photos."""
        return statistics.fmean(photo.steadiness for photo in self.photos)


class _Features(NamedTuple):
    """Features of an image: Gram matrices by layer, and those of content, each scaled to length 1."""

    grams: dict[str, Tensor]
    content: Tensor


class Yardstick:
    """The yardstick for a set of photos, ready to measure one style after the other.

    Args:
        photos: Photo files, which no style should have been trained on.
        weights: File with the weights of VGG-16, or its tensors.
        device: Device to compute on.

    Raises:
        ImageError: If a photo cannot be read, or there are none.
        CheckpointError: If the weights are something else.
    """

    def __init__(
        self, photos: Sequence[Path], weights: str | Path | Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> None:
        if not photos:
            raise ImageError("there are no photos to measure with")
        self.device = torch.device(device)
        self.network = LossNetwork(LOSS_NETWORK, weights, STYLE_LAYERS).to(self.device)
        self.names = [path.name for path in photos]
        self.photos = [yardstick_photo(path) for path in photos]
        self._targets = [self._look(photo.to(self.device)) for photo in self.photos]

    def measure(self, model: BaseStyle, style_image: Tensor, progress: ProgressCallback | None = None) -> Measures:
        """Measure a style.

        Args:
            model: The style. It runs in fp32.
            style_image: (1, 3, H, W) RGB in [0, 1], what its pictures should look like.
            progress: Called after each photo.

        Raises:
            InputError: If the style image is too small for the loss network.
            NetworkError: If the network gives nan or infinite values.
        """
        grams = {size: self._look(scaled(style_image, size, max).to(self.device)).grams for size in STYLE_SIZES}
        own = {size: [self._distances(each.grams, grams[size]) for each in self._targets] for size in STYLE_SIZES}
        found: dict[int, list[dict[str, float]]] = {size: [] for size in STYLE_SIZES}
        contents, changes = [], []
        for number, (photo, target) in enumerate(zip(self.photos, self._targets, strict=True), start=1):
            photo = photo.to(self.device)
            picture = model.stylize(photo, precision="fp32")
            seen = self._look(picture)
            for size in STYLE_SIZES:
                found[size].append(self._distances(seen.grams, grams[size]))
            contents.append(float((seen.content - target.content).square().sum(dim=1).mean()))
            changes.append(change_when_moved(model, photo, picture))
            if progress is not None:
                progress(Progress(number, len(self.photos)))
        size = min(STYLE_SIZES, key=lambda each: _mean(found[each]))
        values = zip(self.names, found[size], contents, changes, strict=True)
        unchanged = min(_mean(own[each]) for each in STYLE_SIZES)
        return Measures(model.name, size, unchanged, [PhotoMeasures(*each) for each in values])

    @torch.no_grad()
    def _look(self, image: Tensor) -> _Features:
        features = self.network(image)
        content = features[CONTENT_LAYER]
        content = content / (content.norm(dim=1, keepdim=True) + 1e-8)
        return _Features({layer: gram_matrix(features[layer]) for layer in STYLE_LAYERS}, content)

    @staticmethod
    def _distances(grams: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, float]:
        return {layer: float(style_loss(grams[layer], targets[layer], "relative")) for layer in STYLE_LAYERS}


def _mean(distances: Sequence[Mapping[str, float]]) -> float:
    return statistics.fmean(value for each in distances for value in each.values())


@torch.no_grad()
def change_when_moved(model: BaseStyle, photo: Tensor, picture: Tensor) -> float:
    """Return the mean difference between a picture and that of the photo moved by one pixel, moved back, in 255ths.

    Args:
        model: The style.
        photo: (1, 3, H, W). The moved photo lacks 1 px at the top and left and 3 px at the bottom and right, so that
            multiples of 4 px stay multiples.
        picture: The picture of the photo.
    """
    window = (..., slice(1, 1 - _MULTIPLE), slice(1, 1 - _MULTIPLE))
    moved = model.stylize(photo[window].contiguous(), precision="fp32")
    inner = (..., slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    return 255 * float((moved - picture[window])[inner].abs().mean())


def yardstick_photo(path: Path) -> Tensor:
    """Return a photo in the yardstick's size, (1, 3, H, W) RGB in [0, 1]. Raises ImageError."""
    return scaled(read_image(path).filled, PHOTO_SIDE, min, _MULTIPLE)


def scaled(image: Tensor, side: int, which: Callable[..., int], multiple: int = 1) -> Tensor:
    """Return an image with its shorter (``min``) or longer side (``max``) scaled to ``side`` px, in 8 bits.

    Pillow's Lanczos filter is fixed, so that figures can be compared across machines and versions.

    Args:
        image: (1, 3, H, W) RGB in [0, 1].
        side: Length of that side, px.
        which: min or max.
        multiple: Both sides are rounded down to multiples of it.
    """
    source = to_pillow(image[0].float().clamp(0, 1).cpu())
    factor = side / which(source.size)
    width, height = (max(round(each * factor) // multiple * multiple, multiple) for each in source.size)
    return from_pillow(source.resize((width, height), Image.Resampling.LANCZOS))[None]
