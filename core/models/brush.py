"""One network as a brush: it paints photos of one size with strokes of a chosen size, on the grid that it is told.

Larger strokes are painted on a smaller photo, and the painting is enlarged. The photo's finest light and shadow, which the
small one could not hold, is then put on top: without it the painting is blurred, and a guided filter, which was looked at
as well, takes the strokes away. Smaller strokes are painted on an enlarged photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.color import luma
from ..images.filters import resize
from ..progress import ProgressCallback


@dataclass(frozen=True)
class Canvas:
    """What is known before the first photo.

    height, width, device: of the photos; stroke_size: the strokes' size over that of the network's own
    precision, memory: as `StyleModel.stylize`'s
    beside: bytes of the memory that are needed for something else than painting
    """

    height: int
    width: int
    device: torch.device
    stroke_size: float = 1.0
    precision: str = "auto"
    memory: int | None = None
    beside: int = 0

    @property
    def painted(self) -> tuple[int, int]:
        """Sides of the photo that the network paints on."""
        return tuple(max(round(side / self.stroke_size), 1) for side in (self.height, self.width))

    @property
    def photo_bytes(self) -> int:
        """Memory of one photo, or one painting."""
        return 12 * self.height * self.width

    @property
    def copies(self) -> int:
        """Memory of the resized photo and its painting, and of what makes one of their size from them."""
        height, width = self.painted
        if (height, width) == (self.height, self.width):
            return 0
        return 24 * height * width + self.photo_bytes


class Painter(Protocol):
    """What paints photos of one canvas's size."""

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        """(1, 3, H, W) float32 in [0, 1] -> its painting, the same; the photo is never changed.

        index: of the photo among those that are painted; moved: how many rows and columns the content has moved since the
        first of them: the grids of networks follow
        """

    def coverage(self, index: int) -> Tensor | None:
        """Where photo ``index`` is painted at all, (1, 1, H, W) bool; None: everywhere."""


class Brush:
    """Paints with the network of a StyleModel, everywhere."""

    def __init__(self, model: Any, canvas: Canvas) -> None:
        self.model, self.canvas = model, canvas
        self._run, self._sides = None, (0, 0)

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        sides, size = self.canvas.painted, photo.shape[-2:]
        small = resize(photo, *sides)
        small = small if small is photo else small.clamp_(0, 1)
        unit = self.model.spec.multiple_of
        top, left = (round(-step * new / old) % unit for step, new, old in zip(moved, sides, size, strict=True))
        framed = F.pad(small, (left, 0, top, 0), mode="replicate") if top or left else small
        painting = self._runner(framed)(framed, progress)[..., top:, left:]
        if painting.shape[-2:] == size:
            return painting
        large = resize(painting, *size)
        if self.canvas.stroke_size > 1:
            large += luma(photo).sub_(resize(luma(small), *size))
        return large.clamp_(0, 1)

    def coverage(self, index: int) -> None:
        return None

    def _runner(self, photo: Tensor) -> Any:
        """What runs the network on photos of this size."""
        if photo.shape[-2:] != self._sides:
            canvas, self._sides = self.canvas, photo.shape[-2:]
            self._run = self.model.runner(
                *self._sides, canvas.device, canvas.precision, canvas.memory, canvas.beside + canvas.copies
            )
        return self._run
