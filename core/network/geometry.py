"""How a network's layers change the size of an image, and how far its pixels depend on each other.

All functions work on one axis, as height and width behave alike. ``padding`` is the option of `ArchSpec`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from ..errors import ArchError
from .layers import Layer

_RESIDUAL_CROP = 2  # px that an unpadded residual block takes from each edge: two 3x3 convolutions


def total_ratio(layers: Sequence[Layer]) -> Fraction:
    """Return the output side over the input side."""
    return math.prod((layer.ratio for layer in layers), start=Fraction(1))


def side_multiple(layers: Sequence[Layer]) -> int:
    """Return the number of pixels whose multiples every stride divides."""
    ratio, multiple = Fraction(1), 1
    for layer in layers:
        ratio *= layer.ratio
        multiple = math.lcm(multiple, ratio.denominator)
    return multiple


def reflection_at_start(layers: Sequence[Layer], padding: str) -> int:
    """Return the pixels of reflection at each edge that make up for unpadded residual blocks, a multiple of the strides."""
    if padding != "reflect-start":
        return 0
    ratio, pixels = Fraction(1), Fraction(0)
    for layer in layers:
        if layer.kind == "residual":
            pixels += _RESIDUAL_CROP / ratio
        ratio *= layer.ratio
    multiple = side_multiple(layers)
    return math.ceil(pixels / multiple) * multiple


def layer_sides(layers: Sequence[Layer], padding: str, side: int) -> list[int]:
    """Return the side after the start padding, then after each layer, for an input of ``side`` pixels.

    Raises:
        ArchError: a reflection has too few pixels to mirror, or nothing is left.
    """
    start = reflection_at_start(layers, padding)
    if side < start + 1:
        raise ArchError(f"a side of {side} px is too small to reflect {start} px at each edge")
    sides = [side + 2 * start]
    for layer in layers:
        n = sides[-1]
        mirrored = _mirrored(layer, padding)
        if mirrored and n <= mirrored:
            raise ArchError(f"a side of {side} px is too small: {layer} would reflect {mirrored} of {n} px")
        if layer.kind == "conv":
            n = (n - 1) // layer.stride + 1
        elif layer.kind == "residual":
            n -= _cropped(padding)
        else:
            n *= layer.stride
        if n < 1:
            raise ArchError(f"a side of {side} px is too small: nothing is left at {layer}")
        sides.append(n)
    return sides


def least_side(layers: Sequence[Layer], padding: str) -> int:
    """Return the smallest side that `layer_sides` accepts; it accepts all larger ones.

    No layer gives a larger side a smaller result. So the smallest side follows from the last layer back to the first.
    """
    needed = 1
    for layer in reversed(layers):
        if layer.kind == "conv":
            needed = (needed - 1) * layer.stride + 1
        elif layer.kind == "residual":
            needed += _cropped(padding)
        else:
            needed = -(-needed // layer.stride)  # rounded up
        needed = max(needed, _mirrored(layer, padding) + 1)
    start = reflection_at_start(layers, padding)
    return max(needed - 2 * start, start + 1)


def _mirrored(layer: Layer, padding: str) -> int:
    """Pixels at each edge that the layer itself mirrors."""
    if padding == "reflect" and layer.kind in ("conv", "subpixel", "residual"):
        return (layer.extent - 1) // 2
    return 0


def _cropped(padding: str) -> int:
    """Pixels of a side that a residual block removes."""
    return 2 * _RESIDUAL_CROP if padding == "reflect-start" else 0


def reach(layers: Sequence[Layer], padding: str) -> int:
    """Return the largest distance, in input pixels, from an output pixel's place to an input pixel that it depends on."""
    scale, fits = int(total_ratio(layers)), _strides_fit(layers)
    period = side_multiple(layers) * scale
    return max(max(_reach_of(pixel, layers, padding, scale, fits)) for pixel in range(period))


def _reach_of(
    pixel: int, layers: Sequence[Layer], padding: str, scale: int, strides_fit: Sequence[bool]
) -> tuple[int, int]:
    """Input pixels before and after the place of an output pixel that it depends on."""
    first = last = pixel
    for layer, exact in reversed(tuple(zip(layers, strides_fit, strict=True))):
        k, s = layer.extent, layer.stride
        p = (k - 1) // 2
        # The number of zeros that "same" puts before a side depends on its remainder: (k - s) // 2 to (k - 1) // 2.
        least = max(k - s, 0) // 2 if padding == "same" else p
        if layer.kind == "conv":
            first, last = first * s - (least if exact else p), last * s - least + k - 1
        elif layer.kind == "residual":
            first, last = first - _RESIDUAL_CROP, last + _RESIDUAL_CROP
        elif layer.kind == "subpixel":
            first, last = first // s - p, last // s + p
        elif layer.kind == "transposed":  # output o = input i * s - least + tap
            first, last = -((k - 1 - least - first) // s), (last + least) // s
        else:
            first, last = first // s, last // s
    return pixel // scale - first, last - pixel // scale


def _strides_fit(layers: Sequence[Layer]) -> list[bool]:
    """For each layer, whether its stride divides the side of its input, whatever the side of the image."""
    divisor, fits = 1, []
    for layer in layers:
        fits.append(divisor % layer.stride == 0)
        if layer.kind != "conv":
            divisor *= layer.stride
        else:
            divisor = divisor // layer.stride if fits[-1] else 1
    return fits
