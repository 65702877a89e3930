"""The layers of an arch string: one token for each, or for several equal ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ..errors import ArchError

#: Side of the kernel of a blur
BLUR_EXTENT = 3

_MAX_CHANNELS, _MAX_KERNEL, _MAX_STRIDE = 4096, 31, 8


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        kind: conv | transposed | subpixel | residual | upsample | nearest (``n``: no norm, no ReLU)
        channels: output channels, 0 for upsampling, which keeps their number
        kernel: side of the kernel, odd
        stride: stride of a convolution, or factor of an upsampling
        blur: whether the convolution's input is blurred first, see `stages.blurred`
    """

    kind: str
    channels: int = 0
    kernel: int = 3
    stride: int = 1
    blur: bool = False

    def __str__(self) -> str:
        if self.kind == "residual":
            return f"R{self.channels}"
        if self.kind in ("upsample", "nearest"):
            return f"{'U' if self.kind == 'upsample' else 'n'}{self.stride}"
        if self.kind == "subpixel":
            return f"p{self.stride}-{self.channels}"
        short, long = ("d", "c") if self.kind == "conv" else ("u", "f")
        prefix = "b" if self.blur else ""
        if (self.kernel, self.stride) == (3, 2):
            return f"{prefix}{short}{self.channels}"
        return f"{prefix}{long}{self.kernel}s{self.stride}-{self.channels}"

    @property
    def ratio(self) -> Fraction:
        """Output side over input side."""
        if self.kind == "conv":
            return Fraction(1, self.stride)
        return Fraction(self.stride)

    @property
    def extent(self) -> int:
        """Side of the square of input pixels that the kernel and the blur before it read together."""
        return self.kernel + BLUR_EXTENT - 1 if self.blur else self.kernel


_TOKENS = (
    (re.compile(r"c(\d+)s(\d+)-(\d+)"), lambda k, s, z: Layer("conv", z, k, s)),
    (re.compile(r"f(\d+)s(\d+)-(\d+)"), lambda k, s, z: Layer("transposed", z, k, s)),
    (re.compile(r"d(\d+)"), lambda z: Layer("conv", z, 3, 2)),
    (re.compile(r"bc(\d+)s(\d+)-(\d+)"), lambda k, s, z: Layer("conv", z, k, s, blur=True)),
    (re.compile(r"bd(\d+)"), lambda z: Layer("conv", z, 3, 2, blur=True)),
    (re.compile(r"u(\d+)"), lambda z: Layer("transposed", z, 3, 2)),
    (re.compile(r"p(\d+)-(\d+)"), lambda s, z: Layer("subpixel", z, 3, s)),
    (re.compile(r"R(\d+)"), lambda z: Layer("residual", z)),
    (re.compile(r"U(\d+)"), lambda f: Layer("upsample", stride=f)),
    (re.compile(r"n(\d+)"), lambda f: Layer("nearest", stride=f)),
)


def parse_token(token: str) -> list[Layer]:
    """Return the layers of a token: one, or N for ``TOKENxN``.

    Raises:
        ArchError: the token is unknown, or one of its numbers is out of range.
    """
    body, repeat = token, 1
    if match := re.fullmatch(r"(.+?)x(\d{1,3})", token):
        body, repeat = match[1], int(match[2])
    for pattern, make in _TOKENS:
        if match := pattern.fullmatch(body):
            if any(len(number) > 5 for number in match.groups()):
                break
            layer = make(*map(int, match.groups()))
            _check_layer(layer, token, repeat)
            return [layer] * repeat
    raise ArchError(
        f"unknown token {token!r} in the arch string; expected c, f, d, bd, u, U, R, n or p as in c9s1-32, d64, R128x5, n2, p4-3"
    )


def _check_layer(layer: Layer, token: str, repeat: int) -> None:
    has_filters = layer.kind not in ("upsample", "nearest")
    if has_filters and not 1 <= layer.channels <= _MAX_CHANNELS:
        raise ArchError(f"{token!r} has {layer.channels} filters; expected 1 to {_MAX_CHANNELS}")
    if layer.kernel % 2 == 0 or layer.kernel > _MAX_KERNEL:
        raise ArchError(f"{token!r} has a kernel of {layer.kernel}; expected an odd number up to {_MAX_KERNEL}")
    if not 1 <= layer.stride <= _MAX_STRIDE:
        raise ArchError(f"{token!r} has a stride or factor of {layer.stride}; expected 1 to {_MAX_STRIDE}")
    if layer.blur and layer.stride != 2:
        raise ArchError(f"{token!r} blurs before a stride of {layer.stride}; expected a stride of 2, as in bd64")
    if repeat < 1:
        raise ArchError(f"{token!r} repeats a layer {repeat} times; expected at least once")
