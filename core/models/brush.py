"""One network as a brush: it paints photos of one size, with strokes of a chosen size, on a grid that can move.

Three words recur here and in the modules that use this one. A canvas is the size and the settings shared by the photos
of one run. A painter turns photos of one canvas into paintings. A painting is the stylized picture before strength,
colors and mask are applied.

For larger strokes the network paints a smaller photo, and the painting is enlarged. The finest light and shadow of the
photo, which the small one cannot hold, are then added on top. Without them the painting is blurred. A guided filter was
tried as well, and removes the strokes. For smaller strokes the network paints an enlarged photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.color import luma
from ..images.wrapping import resize_wrapped, wrapped_axes
from ..progress import ProgressCallback
from .network_runner import NetworkRunner


@dataclass(frozen=True)
class Canvas:
    """Size, device and settings shared by the photos of one run.

    Attributes:
        height: Height of the photos.
        width: Width of the photos.
        device: Device of the photos.
        stroke_size: Size of the strokes relative to the network's own.
        precision: As in `StyleModel.stylize`.
        memory: As in `StyleModel.stylize`.
        beside: Bytes of ``memory`` that something other than painting needs.
        wrap: Edges of the photos that meet, one of `wrapping.WRAPS`.
    """

    height: int
    width: int
    device: torch.device
    stroke_size: float = 1.0
    precision: str = "auto"
    memory: int | None = None
    beside: int = 0
    wrap: str = "none"

    def painted(self, unit: int) -> tuple[int, int]:
        """Return height and width of the photo that the network sees. Sides that wrap become multiples of ``unit``."""
        sides = (max(round(side / self.stroke_size), 1) for side in (self.height, self.width))
        rows, columns = (
            -(-side // unit) * unit if wraps else side
            for side, wraps in zip(sides, wrapped_axes(self.wrap), strict=True)
        )
        return rows, columns

    @property
    def photo_bytes(self) -> int:
        """Memory of one photo, or of one painting."""
        return 12 * self.height * self.width

    def copies(self, unit: int) -> int:
        """Return the memory for the resized photo, its painting, and for bringing them back to the photo's size."""
        height, width = self.painted(unit)
        if (height, width) == (self.height, self.width):
            return 0
        return 24 * height * width + self.photo_bytes


class Painter(Protocol):
    """Paints photos of one canvas."""

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        """Return the painting of a photo, which stays unchanged; both are (1, 3, H, W) float32 in [0, 1].

        Args:
            photo: The photo.
            index: Number of the photo among those that are painted.
            moved: Rows and columns by which the content has moved since the first photo. The networks' grids follow.
            progress: Progress of this photo.
        """

    def coverage(self, index: int) -> Tensor | None:
        """Return where photo ``index`` is painted, (1, 1, H, W) bool, or None if it is painted everywhere."""


class Brush:
    """A painter that covers everything, with one network."""

    def __init__(self, runner: NetworkRunner, canvas: Canvas) -> None:
        self.runner, self.canvas = runner, canvas
        self._run: Callable[[Tensor, ProgressCallback | None], Tensor] | None = None
        self._sides = (0, 0)

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        """Return the painting, see `Painter`."""
        unit, wrap = self.runner.spec.multiple_of, self.canvas.wrap
        sides, size = self.canvas.painted(unit), photo.shape[-2:]
        (rows, columns), (height, width) = sides, size
        small = resize_wrapped(photo, rows, columns, wrap)
        small = small if small is photo else small.clamp_(0, 1)
        shift = tuple(round(-step * new / old) % unit for step, new, old in zip(moved, sides, size, strict=True))
        painting = self._painted(small, shift, progress)
        if painting.shape[-2:] == size:
            return painting
        large = resize_wrapped(painting, height, width, wrap)
        if self.canvas.stroke_size > 1:
            large += luma(photo).sub_(resize_wrapped(luma(small), height, width, wrap))
        return large.clamp_(0, 1)

    def _painted(self, photo: Tensor, shift: tuple[int, ...], progress: ProgressCallback | None) -> Tensor:
        """Run the network with its grid moved by rows and columns: an image that wraps is turned, others grow."""
        wraps = wrapped_axes(self.canvas.wrap)
        turn = tuple(step if around else 0 for step, around in zip(shift, wraps, strict=True))
        top, left = (0 if around else step for step, around in zip(shift, wraps, strict=True))
        framed = photo.roll(turn, (2, 3)) if any(turn) else photo
        framed = F.pad(framed, (left, 0, top, 0), mode="replicate") if top or left else framed
        painting = self._prepared(framed)(framed, progress)[..., top:, left:]
        return painting.roll([-step for step in turn], (2, 3)) if any(turn) else painting

    def coverage(self, index: int) -> None:
        """Return None: the whole photo is painted."""

    def _prepared(self, photo: Tensor) -> Callable[[Tensor, ProgressCallback | None], Tensor]:
        """Return a function that runs the network on photos of this size."""
        height, width = photo.shape[-2:]
        if self._run is None or (height, width) != self._sides:
            canvas, self._sides = self.canvas, (height, width)
            beside = canvas.beside + canvas.copies(self.runner.spec.multiple_of)
            self._run = self.runner.prepare(
                height, width, canvas.device, canvas.precision, canvas.memory, beside, canvas.wrap
            )
        return self._run
