"""PixelConvention: the pixel values that a network takes and returns.

Everywhere in this package an image is RGB in [0, 1]. Other people's networks expect BGR, 0..255, or values minus a mean.
Each of these is an affine map per channel and an order of channels. It is kept outside the network and written into its
file as a short text such as ``rgb in=unit out=unit`` (ours) or ``bgr in=caffe out=caffe``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError

#: torchvision's mean and standard deviation of RGB in [0, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_Channels = tuple[float, float, float]
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@dataclass(frozen=True)
class Coding:
    """An affine map: value = pixel * scale + offset, with pixel in [0, 1].

    Attributes:
        scale: factors of red, green and blue
        offset: offsets of red, green and blue
    """

    scale: _Channels
    offset: _Channels

    @classmethod
    def parse(cls, text: str) -> Coding:
        """Parse a name of NAMED, or ``SCALE``, ``SCALE+OFFSET`` or ``SCALE-OFFSET``: once, or once per channel with commas.

        Raises:
            InputError: the text has another form, or a scale is not above 0.
        """
        if text in NAMED:
            return NAMED[text]
        items = [re.fullmatch(rf"({_NUMBER})([+-]{_NUMBER})?", item) for item in text.split(",")]
        maps = [(float(item[1]), float(item[2] or 0)) for item in items if item]
        if len(items) not in (1, 3) or len(maps) < len(items):
            raise InputError(
                f"pixels are {text!r}; expected {', '.join(NAMED)} or a scale and offset such as 255-127.5"
            )
        red, green, blue = maps if len(maps) == 3 else maps * 3
        if not all(0 < scale < 1e6 for scale, _ in (red, green, blue)):
            raise InputError(f"pixels are {text!r}; expected scales above 0")
        return cls((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))

    def __str__(self) -> str:
        for name, coding in NAMED.items():
            if coding == self:
                return name
        items = [f"{s!r}{b:+}" if b else repr(s) for s, b in zip(self.scale, self.offset, strict=True)]
        return items[0] if len(set(items)) == 1 else ",".join(items)

    def encode(self, image: Tensor) -> Tensor:
        """Turn (N, 3, H, W) RGB in [0, 1] into the network's values."""
        return image if self == UNIT else image.float() * _column(self.scale, image) + _column(self.offset, image)

    def decode(self, values: Tensor) -> Tensor:
        """Turn the network's values into RGB in [0, 1], the inverse of `encode`."""
        if self == UNIT:
            return values
        return (values.float() - _column(self.offset, values)) / _column(self.scale, values)


def _normalizing(mean: _Channels, std: _Channels) -> Coding:
    """The coding (pixel - mean) / std."""
    return Coding((1 / std[0], 1 / std[1], 1 / std[2]), (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]))


#: RGB in [0, 1] as it is
UNIT = Coding((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
#: caffe: 0..255 minus the mean that VGG's authors use; imagenet: torchvision's mean and standard deviation
NAMED = {
    "unit": UNIT,
    "255": Coding((255.0, 255.0, 255.0), (0.0, 0.0, 0.0)),
    "caffe": Coding((255.0, 255.0, 255.0), (-123.68, -116.779, -103.939)),
    "imagenet": _normalizing(IMAGENET_MEAN, IMAGENET_STD),
}


@dataclass(frozen=True)
class PixelConvention:
    """Order of the channels and coding of the pixels of a network. ``str()`` and `parse` are inverse.

    >>> str(PixelConvention.parse("bgr in=caffe out=255-127.5"))
    'bgr in=caffe out=255.0-127.5'

    Attributes:
        order: rgb | bgr
        input: coding of the pixels that go in
        output: coding of the pixels that come out
    """

    order: str = "rgb"
    input: Coding = UNIT
    output: Coding = UNIT

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise InputError(f"the channel order is {self.order!r}; expected rgb or bgr")

    @classmethod
    def parse(cls, text: str) -> PixelConvention:
        """Parse ``rgb|bgr in=CODING out=CODING``, or raise InputError."""
        match = re.fullmatch(r"(\w+) in=(\S+) out=(\S+)", text)
        if not match:
            raise InputError(f"the pixel convention is {text!r}; expected something like rgb in=unit out=unit")
        return cls(match[1], Coding.parse(match[2]), Coding.parse(match[3]))

    def __str__(self) -> str:
        return f"{self.order} in={self.input} out={self.output}"

    def with_order(self, order: str | None) -> PixelConvention:
        """Return the convention with another channel order. None keeps the order."""
        return self if order is None else replace(self, order=order)

    def to_network(self, image: Tensor) -> Tensor:
        """Turn (N, 3, H, W) RGB in [0, 1] into the network's input, float32. The image itself is never changed."""
        values = self.input.encode(image)
        return values.flip(1) if self.order == "bgr" else values

    def from_network(self, output: Tensor) -> Tensor:
        """Turn the network's output into (N, 3, H, W) RGB in [0, 1], not clamped."""
        return self.output.decode(output.flip(1) if self.order == "bgr" else output)


#: RGB in [0, 1] in and out: the convention of networks that start from nothing here
OURS = PixelConvention()


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    # Filled there: copying numbers to a GPU would make the host wait for it.
    return torch.cat(
        [torch.full((1, 1, 1, 1), value, dtype=torch.float32, device=like.device) for value in values], dim=1
    )
