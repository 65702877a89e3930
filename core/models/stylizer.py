"""Apply a style with a strength, a stroke size, a choice of colors and a mask, to single images or to a video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageError, InputError
from ..images.color import keep_colors, match_palette
from ..images.masks import check_feather, feathered
from ..images.mixing import mix
from ..images.tensors import check_image
from ..images.wrapping import wrapped_axes
from ..network.arch import ArchSpec
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback, part_of
from .brush import Canvas, Painter
from .finite import checked_later
from .temporal import Steady

COLORS = ("style", "keep", "match")
SMALLEST_STROKE, LARGEST_STROKE = 0.25, 4.0
AUTO = "auto"  # the stroke size that depends on the size of the photo
USUAL_SIDE = 256  # px of training crops, in the paper and in the programs that follow it
_REACH = 9  # px around motion within which strokes of size 1 change


@dataclass(frozen=True)
class Controls:
    """Checked settings for stylizing, named and explained as in `BaseStyle.stylize`. A wrong one raises InputError."""

    strength: float = 1.0
    stroke_size: float | str = 1.0
    color: str = "style"
    feather: float = 0.0
    temporal: float = 0.0
    wrap: str = "none"

    def __post_init__(self) -> None:
        for name in ("strength", "temporal"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")
        size = self.stroke_size
        if size != AUTO and (isinstance(size, str) or not SMALLEST_STROKE <= size <= LARGEST_STROKE):
            raise InputError(
                f"stroke size is {size}; expected a number from {SMALLEST_STROKE} to {LARGEST_STROKE:g}, or {AUTO}"
            )
        if self.color not in COLORS:
            raise InputError(f"color is {self.color!r}; expected one of {', '.join(COLORS)}")
        check_feather(self.feather)
        wrapped_axes(self.wrap)


class BaseStyle(ABC):
    """A style that can be applied to images: one network (StyleModel), or several combined (blend.py).

    Attributes:
        name: Name of the style.
    """

    name: str

    @property
    @abstractmethod
    def spec(self) -> ArchSpec:
        """Architecture of the (first) network."""

    @property
    @abstractmethod
    def networks(self) -> tuple[TransformNet, ...]:
        """The networks that paint, each once."""

    @property
    def training_side(self) -> int:
        """Short side in px of the photos that the (first) network was trained with."""
        return USUAL_SIDE

    @abstractmethod
    def painter(self, canvas: Canvas) -> Painter:
        """Return what paints the photos of a canvas."""

    @abstractmethod
    def painting_bytes(self, canvas: Canvas) -> int:
        """Return the memory for painting on a canvas, beside networks, photo and result."""

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None,
        *, stroke_size: float | str = 1.0, temporal: float = 0.0, wrap: str = "none",
    ) -> int:  # fmt: skip
        """Return the memory planned for photos of this size, beside networks, input and result."""
        controls = Controls(stroke_size=stroke_size, temporal=temporal, wrap=wrap)
        return self.painting_bytes(self.canvas(controls, height, width, device, precision, memory))

    def canvas(
        self, controls: Controls, height: int, width: int, device: torch.device, precision: str, memory: int | None
    ) -> Canvas:
        """Return the canvas for photos of this size."""
        size = controls.stroke_size
        stroke_size = size if not isinstance(size, str) else min(height, width) / self.training_side
        canvas = Canvas(height, width, device, stroke_size, precision, memory, wrap=controls.wrap)
        # for a video: the last frame and its painting, and the intermediate results for the new ones
        return replace(canvas, beside=4 * canvas.photo_bytes) if controls.temporal else canvas

    def stylizer(
        self, *, mask: Tensor | None = None, precision: str = "auto", memory: int | None = None, **controls: Any
    ) -> Stylizer:
        """Return a Stylizer for single photos or the frames of one video; arguments and errors as `stylize`."""
        return Stylizer(self, Controls(**controls), mask, precision, memory)

    @torch.no_grad()
    def stylize(
        self, image: Tensor, *, strength: float = 1.0, stroke_size: float | str = 1.0, color: str = "style",
        mask: Tensor | None = None, feather: float = 0.0, temporal: float = 0.0, wrap: str = "none",
        precision: str = "auto", memory: int | None = None, progress: ProgressCallback | None = None,
    ) -> Tensor:  # fmt: skip
        """Stylize images.

        Args:
            image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it). It stays
                unchanged. Give `fill_transparent` images with alpha first.
            strength: From 0, the photo, to 1, the style. Values in between blend both and keep the local contrast
                (images/mixing.py).
            stroke_size: Size of the strokes relative to the strokes that the network was trained for, 0.25 to 4. "auto":
                as large, compared with the image's short side, as in training, so that a preview and a print look alike.
            color: "style" | "keep": Cb and Cr of the photo, Y of the style, where such a color exists | "match": the
                style's colors, shifted to the mean and covariance of the photo's.
            mask: (N or 1, 1, H, W) in [0, 1], the share of the result in each pixel. Where it is 0, the photo stays
                unchanged.
            feather: Width in px over which the mask fades in, measured inward from its edges.
            temporal: From 0, off, to 1: reduce flicker between N consecutive frames of a video (temporal.py).
            wrap: Edges that meet: "none" | "x", left and right, as of a 360-degree panorama | "xy", also top and bottom, as
                of a texture that tiles a plane. The result has no seam there. An image that is rolled around by a
                multiple of ``spec.multiple_of`` gives the rolled result, if its sides are such multiples and
                ``stroke_size`` is 1. (Others are resized to such multiples, and back.)
            precision: "auto" | "fp32" | "bf16" | "fp16". With "auto", residual blocks may be computed in bf16 on a CPU,
                and all but the first convolution in fp16 on a GPU (`formats.number_formats` states how far that is from
                fp32). For other people's networks "auto" is fp32, so that they give the pictures of their own programs.
            memory: Bytes to use beside network, input and result. If None, planned from the free memory.
            progress: Called many times per image. Any exception that it raises stops the work.

        Returns:
            (N, 3, H, W) in [0, 1], with image's dtype and device. Without ``temporal`` each image has its own
            statistics, so its result does not depend on the others.

        Raises:
            ImageError: If the image or the mask is wrong.
            InputError: If a setting is wrong.
            NetworkError: If the network gives nan or infinite values.
        """
        check_image(image)
        stylizer = self.stylizer(
            mask=mask, precision=precision, memory=memory, strength=strength, stroke_size=stroke_size, color=color,
            feather=feather, temporal=temporal, wrap=wrap,
        )  # fmt: skip
        if mask is not None and len(mask) not in (1, len(image)):
            raise ImageError(f"expected one mask or {len(image)}, one for each image, got {len(mask)}")
        result = torch.empty_like(image, memory_format=torch.contiguous_format)
        with checked_later():
            for i in range(len(image)):
                result[i] = stylizer.stylized(image[i : i + 1], part_of(progress, i, len(image)))[0]
        return result


@dataclass
class _Setup:
    """State shared by photos of one size.

    paint: the painter itself or, for a video, Steady around it
    faded: the mask with soft edges, and its index
    """

    canvas: Canvas
    painter: Painter
    paint: Callable[..., Tensor]
    faded: tuple[int, Tensor] | None = None


class Stylizer:
    """A style for photo after photo. With ``temporal`` the photos are the frames of one video, in order."""

    def __init__(
        self, style: BaseStyle, controls: Controls, mask: Tensor | None, precision: str, memory: int | None
    ) -> None:
        self.style, self.controls, self.mask = style, controls, mask
        self.precision, self.memory = precision, memory
        self._setup: _Setup | None = None
        self._next = 0
        if mask is not None:
            check_image(mask, channels=1, name="mask")

    def __call__(self, photo: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Return a photo (1, 3, H, W) in [0, 1], stylized. Raise ImageError for anything else."""
        check_image(photo)
        return self.stylized(photo, progress)

    @torch.no_grad()
    def stylized(self, photo: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Return a photo that the caller has checked, stylized."""
        index, self._next = self._next, self._next + 1
        setup = self._setup_for(photo)
        amount = self._amount(index, photo, setup)
        if self.controls.strength == 0 or (amount is not None and not amount.any()):
            if progress is not None:
                progress(Progress(1, 1))
            return photo.clamp(0, 1)
        frame = photo.float()
        painting = setup.paint(frame, index, progress=progress)
        result = mix(frame, painting, self.controls.strength, self.controls.wrap)
        if self.controls.color != "style":
            result = (keep_colors if self.controls.color == "keep" else match_palette)(result, frame)
        if amount is not None:
            result = frame.lerp(result, amount)  # at 0 and at 1 exactly the one or the other
        return result.clamp_(0, 1).to(photo.dtype)

    def _setup_for(self, photo: Tensor) -> _Setup:
        """Return the setup for photos of this size; a new size starts anew."""
        height, width = photo.shape[-2:]
        canvas = self.style.canvas(self.controls, height, width, photo.device, self.precision, self.memory)
        if self._setup is None or canvas != self._setup.canvas:
            self._check_mask(photo)
            painter = self.style.painter(canvas)
            paint: Callable[..., Tensor] = painter
            if self.controls.temporal:
                paint = Steady(painter, self.controls.temporal, round(_REACH * canvas.stroke_size))
            self._setup = _Setup(canvas, painter, paint)
        return self._setup

    def _check_mask(self, photo: Tensor) -> None:
        if self.mask is not None and self.mask.shape[-2:] != photo.shape[-2:]:
            (rows, columns), (height, width) = self.mask.shape[-2:], photo.shape[-2:]
            raise ImageError(
                f"the mask has {columns}x{rows} px, the image {width}x{height}; masks.fit_mask makes it fit"
            )

    def _amount(self, index: int, photo: Tensor, setup: _Setup) -> Tensor | None:
        """Return the share of the result in each pixel, (1, 1, H, W), or None for all of it."""
        covered = setup.painter.coverage(index)
        if self.mask is None:
            return None if covered is None else covered.float()
        index = min(index, len(self.mask) - 1)
        if setup.faded is None or setup.faded[0] != index:
            mask = self.mask[index, None].to(photo.device, torch.float32).clamp(0, 1)
            setup.faded = index, feathered(mask, self.controls.feather, self.controls.wrap)
        mask = setup.faded[1]
        return mask if covered is None else mask * covered
