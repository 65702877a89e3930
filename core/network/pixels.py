"""PixelConvention: what a network takes for pixels, and what it gives.

Everywhere in this package an image is RGB in [0, 1]. Other people's networks want BGR, 0..255, a mean taken off, ...:
each an affine map per channel and an order of channels, kept outside the network and written into its file as a short
text such as ``rgb in=unit out=unit`` (ours) or ``bgr in=caffe out=caffe``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@dataclass(frozen=True)
class Coding:
    """value = pixel * scale + offset, for red, green and blue; pixel in [0, 1]."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    @classmethod
    def parse(cls, text: str) -> Coding:
        """A name of NAMED, or ``SCALE``, ``SCALE+OFFSET``, ``SCALE-OFFSET``: one for all channels or three with commas."""
        if text in NAMED:
            return NAMED[text]
        items = [re.fullmatch(rf"({_NUMBER})([+-]{_NUMBER})?", item) for item in text.split(",")]
        if len(items) not in (1, 3) or not all(items):
            raise InputError(
                f"pixels are {text!r}; expected {', '.join(NAMED)} or a scale and offset such as 255-127.5"
            )
        items *= 3 // len(items)
        scale = tuple(float(item[1]) for item in items)
        if not all(0 < value < 1e6 for value in scale):
            raise InputError(f"pixels are {text!r}; expected scales above 0")
        return cls(scale, tuple(float(item[2] or 0) for item in items))

    def __str__(self) -> str:
        for name, coding in NAMED.items():
            if coding == self:
                return name
        items = [f"{s!r}{b:+}" if b else repr(s) for s, b in zip(self.scale, self.offset, strict=True)]
        return items[0] if len(set(items)) == 1 else ",".join(items)

    def encode(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> the network's values."""
        return image if self == UNIT else image.float() * _column(self.scale, image) + _column(self.offset, image)

    def decode(self, values: Tensor) -> Tensor:
        """The inverse of `encode`."""
        if self == UNIT:
            return values
        return (values.float() - _column(self.offset, values)) / _column(self.scale, values)


UNIT = Coding((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
#: caffe: 0..255 minus the mean of VGG's authors; imagenet: torchvision's mean and standard deviation
NAMED = {
    "unit": UNIT,
    "255": Coding((255.0, 255.0, 255.0), (0.0, 0.0, 0.0)),
    "caffe": Coding((255.0, 255.0, 255.0), (-123.68, -116.779, -103.939)),
    "imagenet": Coding(
        tuple(1 / s for s in IMAGENET_STD), tuple(-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    ),
}


@dataclass(frozen=True)
class PixelConvention:
    """order of the channels (rgb | bgr), and the coding of pixels going in and coming out. ``str`` and `parse` invert.

    >>> str(PixelConvention.parse("bgr in=caffe out=255-127.5"))
    'bgr in=caffe out=255.0-127.5'
    """

    order: str = "rgb"
    input: Coding = UNIT
    output: Coding = UNIT

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise InputError(f"the channel order is {self.order!r}; expected rgb or bgr")

    @classmethod
    def parse(cls, text: str) -> PixelConvention:
        """Raises InputError for anything but ``rgb|bgr in=CODING out=CODING``."""
        match = re.fullmatch(r"(\w+) in=(\S+) out=(\S+)", text)
        if not match:
            raise InputError(f"the pixel convention is {text!r}; expected something like rgb in=unit out=unit")
        return cls(match[1], Coding.parse(match[2]), Coding.parse(match[3]))

    def __str__(self) -> str:
        return f"{self.order} in={self.input} out={self.output}"

    def with_order(self, order: str | None) -> PixelConvention:
        """The same with another channel order; None keeps it."""
        return self if order is None else replace(self, order=order)

    def to_network(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> what the network takes, float32; the image itself is never changed."""
        values = self.input.encode(image)
        return values.flip(1) if self.order == "bgr" else values

    def from_network(self, output: Tensor) -> Tensor:
        """What the network gave -> (N, 3, H, W) RGB, [0, 1] but not clamped."""
        return self.output.decode(output.flip(1) if self.order == "bgr" else output)


#: RGB in [0, 1] in and out, as the networks that this project trains
OURS = PixelConvention()


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, 3, 1, 1)
