"""ArchSpec: one line of text describes a network.

The notation is that of the authors' code (fast-neural-style, models.lua and doc/flags.md), layers separated by commas:

    cXsY-Z   convolution X x X, stride Y, Z filters                    -> norm, ReLU
    fXsY-Z   fractionally strided (transposed) convolution, likewise   -> norm, ReLU
    dZ, uZ   short for c3s2-Z and f3s2-Z
    UX       nearest-neighbor upsampling by X                          -> norm, ReLU
    RZ       residual block: two 3x3 convolutions, no ReLU after the addition

The last layer has neither norm nor ReLU. Our extensions:

    nX       nearest-neighbor upsampling by X and nothing after it (a resize-convolution is ``n2,c3s1-64``)
    pX-Z     sub-pixel convolution: 3 x 3 to X * X * Z filters, which become the X x X pixels of Z   -> norm, ReLU
    TOKENxN  the layer N times: ``R128x5``

Options follow after blanks, ``norm=... padding=... output=...``; what is left out is the authors' default (instance,
reflect-start, tanh). Those from residual on are printed only where they differ.

    norm     instance | batch | none
    padding  reflect-start: one reflection padding of the image, residual convolutions unpadded (their skip is cropped),
                 all others zero-padded (the paper's supplement, table 1)
             reflect | replicate | zero: every convolution pads its own input
             same: as TensorFlow's SAME: zeros, with a stride of 2 none at the top and left and one at the bottom and right
    output   tanh: (tanh + 1) / 2, the paper's scaled tanh in [0, 1] units; tanhK: K tanh (the authors' code: tanh150)
             sigmoid | linear
    residual plain: no ReLU after the addition (the paper) | relu: one | twice: the input is added twice
    last     plain: the last layer has no norm | norm: it has one
    eps      of the norms, 1e-05
    base     none | bicubic: the result is added to the image, enlarged by bicubic interpolation (super-resolution)
    styles   1 | N: the instance norms hold a row of scale and shift for each of N styles, which share all convolutions
             (conditional instance normalization, Dumoulin et al. 2017, section 2.2)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import groupby
from typing import Any

from ..errors import ArchError
from ..images.bicubic import BICUBIC_REACH

NORMS = ("instance", "batch", "none")
PADDINGS = ("reflect-start", "reflect", "replicate", "zero", "same")
RESIDUALS = ("plain", "relu", "twice")
BASES = ("none", "bicubic")
_MAX_LAYERS, _MAX_CHANNELS, _MAX_KERNEL, _MAX_STRIDE, _MAX_STYLES = 256, 4096, 31, 8, 4096
_MAX_PERIOD = 1024  # pixels after which a network's strides repeat


@dataclass(frozen=True)
class Layer:
    """One token. kind: conv | transposed | subpixel | residual | upsample | nearest (``n``: no norm, no ReLU)."""

    kind: str
    channels: int = 0
    kernel: int = 3
    stride: int = 1

    def __str__(self) -> str:
        if self.kind == "residual":
            return f"R{self.channels}"
        if self.kind in ("upsample", "nearest"):
            return f"{'U' if self.kind == 'upsample' else 'n'}{self.stride}"
        if self.kind == "subpixel":
            return f"p{self.stride}-{self.channels}"
        short, long = ("d", "c") if self.kind == "conv" else ("u", "f")
        if (self.kernel, self.stride) == (3, 2):
            return f"{short}{self.channels}"
        return f"{long}{self.kernel}s{self.stride}-{self.channels}"

    @property
    def ratio(self) -> Fraction:
        """Output side over input side."""
        if self.kind == "conv":
            return Fraction(1, self.stride)
        return Fraction(self.stride)


_TOKENS = (
    (re.compile(r"c(\d+)s(\d+)-(\d+)"), lambda k, s, z: Layer("conv", z, k, s)),
    (re.compile(r"f(\d+)s(\d+)-(\d+)"), lambda k, s, z: Layer("transposed", z, k, s)),
    (re.compile(r"d(\d+)"), lambda z: Layer("conv", z, 3, 2)),
    (re.compile(r"u(\d+)"), lambda z: Layer("transposed", z, 3, 2)),
    (re.compile(r"p(\d+)-(\d+)"), lambda s, z: Layer("subpixel", z, 3, s)),
    (re.compile(r"R(\d+)"), lambda z: Layer("residual", z)),
    (re.compile(r"U(\d+)"), lambda f: Layer("upsample", stride=f)),
    (re.compile(r"n(\d+)"), lambda f: Layer("nearest", stride=f)),
)


@dataclass(frozen=True)
class ArchSpec:
    """A network described: ``layers`` and the options (see the module's text). ``str()`` and `parse` are inverse.

    >>> spec = ArchSpec.parse("c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3 norm=batch")
    >>> spec.scale, spec.multiple_of, spec.halo, spec.smallest_side
    (1, 4, 56, 41)

    Raises ArchError for unknown tokens or options, channels that do not fit, and networks that shrink the image.
    """

    layers: tuple[Layer, ...]
    norm: str = "instance"
    padding: str = "reflect-start"
    output: str = "tanh"
    residual: str = "plain"
    last: str = "plain"
    eps: float = 1e-5
    base: str = "none"
    styles: int = 1

    @classmethod
    def parse(cls, text: str) -> ArchSpec:
        """Parse an arch string with optional ``key=value`` options after it."""
        head, *options = text.split() or [""]
        if not head:
            raise ArchError("the arch string is empty; expected something like c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3")
        layers: list[Layer] = []
        for token in head.split(","):
            layers += _parse_token(token)
            if len(layers) > _MAX_LAYERS:
                raise ArchError(f"the arch string has more than {_MAX_LAYERS} layers")
        names = [field.name for field in fields(cls)][1:]
        known: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in names or key in known or not value:
                raise ArchError(f"cannot read the option {option!r}; expected {'=, '.join(names)}=, each at most once")
            known[key] = _NUMBERS[key](value) if key in _NUMBERS else value
        return cls(tuple(layers), **known)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArchError(f"norm is {self.norm!r}; expected one of {', '.join(NORMS)}")
        if self.padding not in PADDINGS:
            raise ArchError(f"padding is {self.padding!r}; expected one of {', '.join(PADDINGS)}")
        match = re.fullmatch(r"tanh(\d{1,5}(\.\d{1,5})?)?|sigmoid|linear", self.output)
        if not match or (match[1] and not float(match[1])):
            raise ArchError(f"output is {self.output!r:.60}; expected tanh, tanh150 (a number), sigmoid or linear")
        if self.residual not in RESIDUALS:
            raise ArchError(f"residual is {self.residual!r}; expected one of {', '.join(RESIDUALS)}")
        if self.last not in ("plain", "norm"):
            raise ArchError(f"last is {self.last!r}; expected plain or norm")
        if not 0 < self.eps < 1:
            raise ArchError(f"eps is {self.eps}; expected a small number such as 1e-05")
        if self.base not in BASES:
            raise ArchError(f"base is {self.base!r}; expected one of {', '.join(BASES)}")
        if not 1 <= self.styles <= _MAX_STYLES:
            raise ArchError(f"styles is {self.styles}; expected 1 to {_MAX_STYLES}")
        if self.styles > 1 and self.norm != "instance":
            raise ArchError(
                f"styles={self.styles} is for norm=instance, whose scale and shift make a style; norm is {self.norm}"
            )
        if not self.layers or self.layers[-1].kind not in ("conv", "transposed", "subpixel"):
            raise ArchError("the last layer must be a convolution (c, f or p), which gives the image")
        normed = self.layers if self.last == "norm" else self.layers[:-1]
        if self.styles > 1 and all(layer.kind == "nearest" for layer in normed):
            raise ArchError(f"styles={self.styles} is for networks that have norms; this one has none")
        channels = self.in_channels
        for layer in self.layers:
            if layer.kind == "residual" and layer.channels != channels:
                raise ArchError(f"{layer} follows a layer of {channels} channels; a residual block keeps their number")
            channels = layer.channels or channels
        if self._ratio().denominator != 1:
            raise ArchError(
                f"this network gives {self._ratio()} of the input's size; every stride needs its upsampling"
            )
        if self.multiple_of * self.scale > _MAX_PERIOD:
            raise ArchError(
                f"the strides make {self.multiple_of * self.scale} px one unit; expected at most {_MAX_PERIOD}"
            )
        if self.base != "none" and not (self.multiple_of == 1 < self.scale and self.out_channels == self.in_channels):
            raise ArchError("base=bicubic is for networks that only enlarge, with 3 channels in and out")
        side = (self.start_padding + 1) * self.multiple_of
        if self.padding == "reflect-start" and self.sizes(side)[-1] != side * self.scale:
            raise ArchError(
                f"no start padding in multiples of {self.multiple_of} px makes up for what these residual blocks take "
                f"from the edges; use padding=reflect"
            )

    def __str__(self) -> str:
        runs = ((str(layer), len(list(run))) for layer, run in groupby(self.layers))
        tokens = ",".join(token if n == 1 else f"{token}x{n}" for token, n in runs)
        text = f"{tokens} norm={self.norm} padding={self.padding} output={self.output}"
        for field in fields(self)[4:]:
            if getattr(self, field.name) != field.default:
                text += f" {field.name}={getattr(self, field.name)}"
        return text

    in_channels = 3

    @property
    def out_channels(self) -> int:
        return self.layers[-1].channels

    @property
    def width(self) -> int:
        """Channels of the first layer: 32 in the paper's style networks, 16 in half-width ones."""
        return next(layer.channels for layer in self.layers if layer.channels)

    def _ratio(self) -> Fraction:
        return math.prod((layer.ratio for layer in self.layers), start=Fraction(1))

    @property
    def scale(self) -> int:
        """Output side over input side: 1 for style networks, f for x f super-resolution."""
        return int(self._ratio())

    @property
    def multiple_of(self) -> int:
        """Sides that are multiples of this come out at exactly ``scale`` times their size; others come out larger."""
        ratio, multiple = Fraction(1), 1
        for layer in self.layers:
            ratio *= layer.ratio
            multiple = math.lcm(multiple, ratio.denominator)
        return multiple

    @property
    def start_padding(self) -> int:
        """Pixels of reflection at each edge that make up for unpadded residual blocks (40 in the paper), else 0."""
        if self.padding != "reflect-start":
            return 0
        ratio, pixels = Fraction(1), Fraction(0)
        for layer in self.layers:
            if layer.kind == "residual":
                pixels += 2 / ratio
            ratio *= layer.ratio
        return math.ceil(pixels / self.multiple_of) * self.multiple_of

    def sizes(self, side: int) -> list[int]:
        """Side after the start padding, then after each layer, for an input of ``side`` pixels.

        Raises ArchError when a reflection has too few pixels to mirror, or nothing is left.
        """
        reflects = self.padding in ("reflect", "reflect-start")
        if side <= (self.start_padding if reflects else 0):
            raise ArchError(f"a side of {side} px is too small to reflect {self.start_padding} px at each edge")
        sizes = [side + 2 * self.start_padding]
        for layer in self.layers:
            n = sizes[-1]
            pad = 0 if layer.kind in ("upsample", "nearest") else (layer.kernel - 1) // 2
            if self.padding == "reflect" and layer.kind in ("conv", "subpixel", "residual") and n <= pad:
                raise ArchError(f"a side of {side} px is too small: {layer} would reflect {pad} of {n} px")
            if layer.kind == "conv":
                n = (n - 1) // layer.stride + 1
            elif layer.kind == "residual":
                n -= 4 if self.padding == "reflect-start" else 0
            else:
                n *= layer.stride
            if n < 1:
                raise ArchError(f"a side of {side} px is too small: nothing is left at {layer}")
            sizes.append(n)
        return sizes

    @property
    def smallest_side(self) -> int:
        """Smallest side that the network can take as it is; all larger ones do."""
        side = 1
        while True:
            try:
                self.sizes(side)
                return side
            except ArchError:
                side += 1

    @property
    def halo(self) -> int:
        """Input pixels around any region that its output depends on, norms' statistics given; a multiple of `multiple_of`."""
        period = self.multiple_of * self.scale
        reach = max(max(self._reach(pixel, pixel)) for pixel in range(period))
        if self.base == "bicubic":
            reach = max(reach, BICUBIC_REACH)
        return math.ceil(reach / self.multiple_of) * self.multiple_of

    def _reach(self, first: int, last: int) -> tuple[int, int]:
        """Input pixels before and after the place of output pixels first..last that these depend on."""
        before, after = first // self.scale, last // self.scale
        for layer, exact in reversed(tuple(zip(self.layers, self._strides_fit(), strict=True))):
            k, s = layer.kernel, layer.stride
            p = (k - 1) // 2
            # The zeros of "same" before a side depend on its remainder: (k - s) // 2 to (k - 1) // 2.
            least = max(k - s, 0) // 2 if self.padding == "same" else p
            if layer.kind == "conv":
                first, last = first * s - (least if exact else p), last * s - least + k - 1
            elif layer.kind == "residual":
                first, last = first - 2, last + 2
            elif layer.kind == "subpixel":
                first, last = first // s - p, last // s + p
            elif layer.kind == "transposed":  # output o = input i * s - least + tap
                first, last = -((k - 1 - least - first) // s), (last + least) // s
            else:
                first, last = first // s, last // s
        return before - first, last - after

    def _strides_fit(self) -> list[bool]:
        """For each layer, whether its stride divides the side of its input whatever the side of the image."""
        divisor, fits = 1, []
        for layer in self.layers:
            fits.append(divisor % layer.stride == 0)
            if layer.kind != "conv":
                divisor *= layer.stride
            else:
                divisor = divisor // layer.stride if fits[-1] else 1
        return fits

    def with_options(self, **options: Any) -> ArchSpec:
        """The same layers with other options (norm, padding, output, styles, ...)."""
        return replace(self, **options)

    def with_width(self, width: int) -> ArchSpec:
        """The same network with ``width`` channels in its first layer and all others in proportion, but for the last one's.

        Raises ArchError where that gives no whole numbers, or too many channels.
        """

        def scaled(layer: Layer) -> Layer:
            channels = Fraction(layer.channels * width, self.width)
            if width < 1 or channels.denominator != 1:
                raise ArchError(f"{self} cannot be {width} channels wide; expected a number such as {2 * self.width}")
            return replace(layer, channels=int(channels))

        layers = (*map(scaled, self.layers[:-1]), self.layers[-1])
        return ArchSpec.parse(str(replace(self, layers=layers)))  # which checks their number


def _eps(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArchError(f"eps is {text!r}; expected a small number such as 1e-05") from None


def _styles(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise ArchError(f"styles is {text!r:.60}; expected how many styles the network holds")
    return int(text)


_NUMBERS = {"eps": _eps, "styles": _styles}


def _parse_token(token: str) -> list[Layer]:
    body, repeat = token, 1
    if match := re.fullmatch(r"(.+?)x(\d{1,3})", token):
        body, repeat = match[1], int(match[2])
    for pattern, make in _TOKENS:
        if match := pattern.fullmatch(body):
            if any(len(number) > 5 for number in match.groups()):
                break
            layer = make(*map(int, match.groups()))
            _check(layer, token, repeat)
            return [layer] * repeat
    raise ArchError(
        f"unknown token {token!r} in the arch string; expected c, f, d, u, U, R, n or p as in c9s1-32, d64, R128x5, n2, p4-3"
    )


def _check(layer: Layer, token: str, repeat: int) -> None:
    named = layer.kind not in ("upsample", "nearest")
    if named and not 1 <= layer.channels <= _MAX_CHANNELS:
        raise ArchError(f"{token!r} has {layer.channels} filters; expected 1 to {_MAX_CHANNELS}")
    if layer.kernel % 2 == 0 or layer.kernel > _MAX_KERNEL:
        raise ArchError(f"{token!r} has a kernel of {layer.kernel}; expected an odd number up to {_MAX_KERNEL}")
    if not 1 <= layer.stride <= _MAX_STRIDE:
        raise ArchError(f"{token!r} has a stride or factor of {layer.stride}; expected 1 to {_MAX_STRIDE}")
    if repeat < 1:
        raise ArchError(f"{token!r} repeats a layer {repeat} times; expected at least once")
