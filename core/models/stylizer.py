"""How a style is applied: its strength, the size of its strokes, colors, a mask, and the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageError, InputError
from ..images.color import keep_colors, match_palette
from ..images.masks import check_feather, feathered
from ..images.mixing import mix
from ..images.tensors import check_image
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback, part_of
from .brush import Canvas, Painter
from .temporal import Steady

COLORS = ("style", "keep", "match")
SMALLEST_STROKE, LARGEST_STROKE = 0.25, 4.0
_REACH = 9  # px around motion in which strokes of size 1 change


@dataclass(frozen=True)
class Controls:
    """The choices of `AnyStyle.stylize`, checked. Raises InputError."""

    strength: float = 1.0
    stroke_size: float = 1.0
    color: str = "style"
    feather: float = 0.0
    temporal: float = 0.0

    def __post_init__(self) -> None:
        for name in ("strength", "temporal"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")
        if not SMALLEST_STROKE <= self.stroke_size <= LARGEST_STROKE:
            raise InputError(
                f"stroke size is {self.stroke_size}; expected a number from {SMALLEST_STROKE} to {LARGEST_STROKE:g}"
            )
        if self.color not in COLORS:
            raise InputError(f"color is {self.color!r}; expected one of {', '.join(COLORS)}")
        check_feather(self.feather)


class AnyStyle:
    """What stylizes: one network, or several put together (blend.py)."""

    #: The networks that paint, each once.
    networks: tuple[TransformNet, ...]

    def painter(self, canvas: Canvas) -> Painter:
        """What paints photos of this size."""
        raise NotImplementedError

    def painting_bytes(self, canvas: Canvas) -> int:
        """Memory that painting such photos takes, beside networks, photo and result."""
        raise NotImplementedError

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None,
        *, stroke_size: float = 1.0, temporal: float = 0.0,
    ) -> int:  # fmt: skip
        """Memory that the style plans to use for photos of this size, beside networks, input and result."""
        controls = Controls(stroke_size=stroke_size, temporal=temporal)
        return self.painting_bytes(_canvas(controls, height, width, device, precision, memory))

    def stylizer(
        self, *, mask: Tensor | None = None, precision: str = "auto", memory: int | None = None, **controls: Any
    ) -> Stylizer:
        """What stylizes photo after photo, or the frames of one video; arguments and errors as `stylize`'s."""
        return Stylizer(self, Controls(**controls), mask, precision, memory)

    @torch.no_grad()
    def stylize(
        self, image: Tensor, *, strength: float = 1.0, stroke_size: float = 1.0, color: str = "style",
        mask: Tensor | None = None, feather: float = 0.0, temporal: float = 0.0, precision: str = "auto",
        memory: int | None = None, progress: ProgressCallback | None = None,
    ) -> Tensor:  # fmt: skip
        """Stylize images.

        image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it); never changed
        strength: from 0, the photo, to 1, the style; between them a blend that keeps the local contrast (mixing.py)
        stroke_size: 0.25 to 4, the size of the strokes in the picture over what the network was trained for
        color: "style" | "keep": Cb and Cr of the photo, Y of the style, where such a color exists | "match": the style's
            colors, moved so that their mean and covariance are the photo's
        mask: (N or 1, 1, H, W) in [0, 1], how much of the result each pixel gets; where it is 0 the photo stays as it is
        feather: px over which the mask fades in, inside of its edges
        temporal: from 0, off, to 1: less flicker, for N consecutive frames of a video (temporal.py)
        precision: "auto" | "fp32" | "bf16" | "fp16"; auto may compute residual blocks in bf16 (stream.number_formats says
            how far that is from fp32), and is fp32 for other people's networks, which are to give the pictures of their
            own programs
        memory: bytes to use beside network, input and result; None: planned from what is free
        progress: called many times an image; what it raises stops the work

        Returns (N, 3, H, W) in [0, 1], with image's dtype and device. Without ``temporal`` each image has its own
        statistics: its result does not depend on the others. Raises ImageError or InputError for bad input.
        """
        check_image(image)
        stylizer = self.stylizer(
            mask=mask, precision=precision, memory=memory, strength=strength, stroke_size=stroke_size, color=color,
            feather=feather, temporal=temporal,
        )  # fmt: skip
        if mask is not None and len(mask) not in (1, len(image)):
            raise ImageError(f"expected one mask or {len(image)}, one for each image, got {len(mask)}")
        result = torch.empty_like(image, memory_format=torch.contiguous_format)
        for i in range(len(image)):
            result[i] = stylizer(image[i : i + 1], part_of(progress, i, len(image)))[0]
        return result


class Stylizer:
    """A style on photo after photo. With ``temporal`` they are the frames of one video, in order."""

    def __init__(
        self, style: AnyStyle, controls: Controls, mask: Tensor | None, precision: str, memory: int | None
    ) -> None:
        self.style, self.controls, self.mask = style, controls, mask
        self.precision, self.memory = precision, memory
        self._canvas: Canvas | None = None
        self._next = 0
        if mask is not None:
            check_image(mask, channels=1, name="mask")

    @torch.no_grad()
    def __call__(self, photo: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """(1, 3, H, W) in [0, 1] -> the same, stylized."""
        index, self._next = self._next, self._next + 1
        canvas = _canvas(self.controls, *photo.shape[-2:], photo.device, self.precision, self.memory)
        if canvas != self._canvas:
            self._check_mask(photo)
            self._faded: tuple[int, Tensor] | None = None
            self._canvas, self._painter = canvas, self.style.painter(canvas)
            self._paint = self._painter
            if self.controls.temporal:
                self._paint = Steady(self._painter, self.controls.temporal, round(_REACH * self.controls.stroke_size))
        amount = self._amount(index, photo)
        if self.controls.strength == 0 or (amount is not None and not amount.any()):
            if progress is not None:
                progress(Progress(1, 1))
            return photo.clamp(0, 1)
        frame = photo.float()
        result = mix(frame, self._paint(frame, index, progress=progress), self.controls.strength)
        if self.controls.color != "style":
            result = (keep_colors if self.controls.color == "keep" else match_palette)(result, frame)
        if amount is not None:
            result = frame.lerp(result, amount)  # at 0 and at 1 exactly the one or the other
        return result.clamp_(0, 1).to(photo.dtype)

    def _check_mask(self, photo: Tensor) -> None:
        if self.mask is not None and self.mask.shape[-2:] != photo.shape[-2:]:
            (rows, columns), (height, width) = self.mask.shape[-2:], photo.shape[-2:]
            raise ImageError(
                f"the mask has {columns}x{rows} px, the image {width}x{height}; masks.fit_mask makes it fit"
            )

    def _amount(self, index: int, photo: Tensor) -> Tensor | None:
        """How much of the result each pixel gets, (1, 1, H, W); None: all."""
        covered = self._painter.coverage(index)
        if self.mask is None:
            return None if covered is None else covered.float()
        index = min(index, len(self.mask) - 1)
        if self._faded is None or self._faded[0] != index:
            mask = self.mask[index, None].to(photo.device, torch.float32).clamp(0, 1)
            self._faded = index, feathered(mask, self.controls.feather)
        mask = self._faded[1]
        return mask if covered is None else mask * covered


def _canvas(
    controls: Controls, height: int, width: int, device: torch.device, precision: str, memory: int | None
) -> Canvas:
    canvas = Canvas(height, width, device, controls.stroke_size, precision, memory)
    # of a video: the last frame and its painting, and what the new ones are made with
    return replace(canvas, beside=4 * canvas.photo_bytes) if controls.temporal else canvas
