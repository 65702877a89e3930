"""ArchSpec: one line of text describes a network.

The notation comes from the authors' code (fast-neural-style, models.lua and doc/flags.md), layers separated by commas:

    cXsY-Z   convolution X x X, stride Y, Z filters                    -> norm, ReLU
    fXsY-Z   fractionally strided (transposed) convolution, likewise   -> norm, ReLU
    dZ, uZ   short for c3s2-Z and f3s2-Z
    UX       nearest-neighbor upsampling by X                          -> norm, ReLU
    RZ       residual block: two 3x3 convolutions, no ReLU after the addition

The last layer has neither norm nor ReLU. Our extensions:

    nX       nearest-neighbor upsampling by X and nothing after it (a resize-convolution is ``n2,c3s1-64``)
    pX-Z     sub-pixel convolution: 3 x 3 to X * X * Z filters, which become the X x X pixels of Z   -> norm, ReLU
    bdZ      dZ with a fixed blur of its input, so that pictures change less when the photo moves (Zhang 2019, "Making
             convolutional networks shift-invariant again", arXiv 1904.11486). Likewise bcXs2-Z. A network can take over
             the weights of the same network without blurs
    TOKENxN  the layer N times: ``R128x5``

Options follow after blanks, ``norm=... padding=... output=...``. The defaults are the authors' (instance, reflect-start,
tanh). Options from residual on are printed only if they differ from their default.

    norm     instance | batch | none
    padding  reflect-start: one reflection padding of the image, residual convolutions unpadded (their skip is cropped),
                 all others zero-padded (the paper's supplement, table 1)
             reflect | replicate | zero: every convolution pads its own input
             same: as TensorFlow's SAME: zeros, with a stride of 2 none at the top and left and one at the bottom and right
    output   tanh: (tanh + 1) / 2, the paper's scaled tanh in [0, 1] units; tanhK: K tanh (the authors' code: tanh150)
             sigmoid | linear
    residual plain: no ReLU after the addition (the paper) | relu: one | twice: the input is added twice
    first    norm: the layers before the first residual block have norms | plain: they have none
    last     plain: the last layer has no norm | norm: it has one
    eps      epsilon of the norms, 1e-05
    base     none | bicubic: the result is added to the image, enlarged by bicubic interpolation (super-resolution), or to
             the image itself if the scale is 1 (restoration)
    styles   1 | N: the instance norms hold a row of scale and shift for each of N styles, which share all convolutions
             (conditional instance normalization, Dumoulin et al. 2017, section 2.2)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import dropwhile, groupby
from typing import Any

from ..errors import ArchError
from ..images.bicubic import BICUBIC_REACH
from . import geometry
from .layers import Layer, parse_token

NORMS = ("instance", "batch", "none")
PADDINGS = ("reflect-start", "reflect", "replicate", "zero", "same")
RESIDUALS = ("plain", "relu", "twice")
BASES = ("none", "bicubic")
_CHOICES = {
    "norm": NORMS, "padding": PADDINGS, "residual": RESIDUALS, "first": ("norm", "plain"), "last": ("plain", "norm"),
    "base": BASES,
}  # fmt: skip
_ALWAYS_PRINTED = ("norm", "padding", "output")
_MAX_LAYERS, MAX_STYLES = 256, 4096
_MAX_TEXT = 10_000  # characters
_MAX_PERIOD = 1024  # pixels after which a network's strides repeat


@dataclass(frozen=True)
class ArchSpec:
    """A network's layers and options (see the module's text). ``str()`` and `parse` are inverse.

    >>> spec = ArchSpec.parse("c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3 norm=batch")
    >>> spec.scale, spec.multiple_of, spec.halo, spec.smallest_side
    (1, 4, 56, 41)

    Attributes:
        layers: Layers in order.
        norm: "instance", "batch" or "none".
        padding: "reflect-start", "reflect", "replicate", "zero" or "same".
        output: Output function: "tanh", "tanhK" with a number K, "sigmoid" or "linear".
        residual: "plain", "relu" or "twice".
        first: "norm" or "plain".
        last: "plain" or "norm".
        eps: Epsilon of the norms.
        base: "none" or "bicubic".
        styles: Number of styles that the network holds.
        in_channels: Channels of the image, 3.

    Raises:
        ArchError: a token or an option is unknown, channels do not fit, or the network shrinks the image.
    """

    layers: tuple[Layer, ...]
    norm: str = "instance"
    padding: str = "reflect-start"
    output: str = "tanh"
    residual: str = "plain"
    first: str = "norm"
    last: str = "plain"
    eps: float = 1e-5
    base: str = "none"
    styles: int = 1

    in_channels = 3  # of every network, so not a field

    @classmethod
    def parse(cls, text: str) -> ArchSpec:
        """Parse an arch string with optional ``key=value`` options after it.

        Raises:
            ArchError: see the class.
        """
        if len(text) > _MAX_TEXT:
            raise ArchError(f"the arch string has {len(text)} characters; expected at most {_MAX_TEXT}")
        head, *options = text.split() or [""]
        if not head:
            raise ArchError("the arch string is empty; expected something like c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3")
        layers: list[Layer] = []
        for token in head.split(","):
            layers += parse_token(token)
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
        self._check_options()
        self._check_layers()
        self._check_styles()
        self._check_geometry()

    def _check_options(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ArchError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
        match = re.fullmatch(r"tanh(\d{1,5}(\.\d{1,5})?)?|sigmoid|linear", self.output)
        if not match or (match[1] and not float(match[1])):
            raise ArchError(f"output is {self.output!r:.60}; expected tanh, tanh150 (a number), sigmoid or linear")
        if not 0 < self.eps < 1:
            raise ArchError(f"eps is {self.eps}; expected a small number such as 1e-05")
        if not 1 <= self.styles <= MAX_STYLES:
            raise ArchError(f"styles is {self.styles}; expected 1 to {MAX_STYLES}")

    def _check_layers(self) -> None:
        if len(self.layers) > _MAX_LAYERS:
            raise ArchError(f"the network has {len(self.layers)} layers; expected at most {_MAX_LAYERS}")
        if not self.layers or self.layers[-1].kind not in ("conv", "transposed", "subpixel"):
            raise ArchError("the last layer must be a convolution (c, f or p), which gives the image")
        channels = self.in_channels
        for layer in self.layers:
            if layer.kind == "residual" and layer.channels != channels:
                raise ArchError(f"{layer} follows a layer of {channels} channels; a residual block keeps their number")
            channels = layer.channels or channels

    def _check_styles(self) -> None:
        if self.styles == 1:
            return
        if self.norm != "instance":
            raise ArchError(
                f"styles={self.styles} needs norm=instance, whose scale and shift make a style; norm is {self.norm}"
            )
        normed = self.layers if self.last == "norm" else self.layers[:-1]
        if self.first == "plain":
            normed = tuple(dropwhile(lambda layer: layer.kind != "residual", normed))
        if all(layer.kind == "nearest" for layer in normed):
            raise ArchError(f"styles={self.styles} is for networks that have norms; this one has none")

    def _check_geometry(self) -> None:
        ratio = geometry.total_ratio(self.layers)
        if ratio.denominator != 1:
            raise ArchError(f"this network gives {ratio} of the input's size; every stride needs its upsampling")
        period = self.multiple_of * self.scale
        if period > _MAX_PERIOD:
            raise ArchError(f"the strides repeat only after {period} px; expected at most {_MAX_PERIOD}")
        if self.base != "none" and not (self.multiple_of == 1 and self.out_channels == self.in_channels):
            raise ArchError("base=bicubic is for networks without strides, with 3 channels in and out")
        side = (self.start_padding + 1) * self.multiple_of
        if self.padding == "reflect-start" and self.sizes(side)[-1] != side * self.scale:
            raise ArchError(
                f"no start padding in multiples of {self.multiple_of} px makes up for what these residual blocks take "
                f"from the edges; use padding=reflect"
            )

    def __str__(self) -> str:
        runs = ((str(layer), len(list(run))) for layer, run in groupby(self.layers))
        tokens = ",".join(token if n == 1 else f"{token}x{n}" for token, n in runs)
        options = [
            f" {field.name}={getattr(self, field.name)}"
            for field in fields(self)[1:]
            if field.name in _ALWAYS_PRINTED or getattr(self, field.name) != field.default
        ]
        return tokens + "".join(options)

    @property
    def out_channels(self) -> int:
        """Channels of the result: 3 for an image."""
        return self.layers[-1].channels

    @property
    def width(self) -> int:
        """Channels of the first layer: 32 in the paper's style networks, 16 in half-width ones."""
        return next(layer.channels for layer in self.layers if layer.channels)

    @property
    def scale(self) -> int:
        """Output side over input side: 1 for style networks, f for x f super-resolution."""
        return int(geometry.total_ratio(self.layers))

    @property
    def multiple_of(self) -> int:
        """Sides that are multiples of this come out at exactly ``scale`` times their size; others come out larger."""
        return geometry.side_multiple(self.layers)

    @property
    def start_padding(self) -> int:
        """Pixels of reflection at each edge that make up for unpadded residual blocks (40 in the paper), else 0."""
        return geometry.reflection_at_start(self.layers, self.padding)

    def sizes(self, side: int) -> list[int]:
        """Return the side after the start padding, then after each layer, for an input of ``side`` pixels.

        Raises:
            ArchError: a reflection has too few pixels to mirror, or nothing is left.
        """
        return geometry.layer_sides(self.layers, self.padding, side)

    @property
    def smallest_side(self) -> int:
        """Smallest side that the network can take as it is, as it can all larger ones."""
        return geometry.least_side(self.layers, self.padding)

    @property
    def halo(self) -> int:
        """Input pixels around a region that its output depends on, given the norms' statistics; a multiple of `multiple_of`."""
        reach = geometry.reach(self.layers, self.padding)
        if self.base == "bicubic":
            reach = max(reach, BICUBIC_REACH)
        return math.ceil(reach / self.multiple_of) * self.multiple_of

    def with_options(self, **options: Any) -> ArchSpec:
        """Return the same layers with other options (norm, padding, output, styles, ...)."""
        return replace(self, **options)

    def with_blurs_of(self, other: ArchSpec) -> ArchSpec:
        """Return the network with a blur before each convolution of stride 2 that has one in ``other``, and its own blurs.

        Raises:
            ArchError: ``other`` has blurs, and another number of such convolutions.
        """
        theirs = [layer.blur for layer in other.layers if _can_blur(layer)]
        places = [i for i, layer in enumerate(self.layers) if _can_blur(layer)]
        if not any(theirs):
            return self
        if len(places) != len(theirs):
            raise ArchError(
                f"{self} has {len(places)} convolutions of stride 2, and {other} has {len(theirs)}; their number must be "
                f"equal to take over blurs"
            )
        layers = list(self.layers)
        for i, blur in zip(places, theirs, strict=True):
            layers[i] = replace(layers[i], blur=layers[i].blur or blur)
        return replace(self, layers=tuple(layers))

    def with_width(self, width: int) -> ArchSpec:
        """Return the network with ``width`` channels in its first layer, and all others but the last in proportion.

        Raises:
            ArchError: that gives no whole numbers, or too many channels.
        """

        def scaled(layer: Layer) -> Layer:
            channels = Fraction(layer.channels * width, self.width)
            if width < 1 or channels.denominator != 1:
                raise ArchError(f"{self} cannot be {width} channels wide; expected a number such as {2 * self.width}")
            return replace(layer, channels=int(channels))

        layers = (*map(scaled, self.layers[:-1]), self.layers[-1])
        return ArchSpec.parse(str(replace(self, layers=layers)))  # parsing checks their number


def _can_blur(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.stride == 2


def _eps(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArchError(f"eps is {text!r}; expected a small number such as 1e-05") from None


def _styles(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise ArchError(f"styles is {text!r:.60}; expected the number of styles that the network holds")
    return int(text)


_NUMBERS = {"eps": _eps, "styles": _styles}
