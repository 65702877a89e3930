"""kleinicke, fast_web_style_transfer: pytorch/examples' key names, but no strides, no upsampling, and one width.

It is recognized by its channels, which stay the same throughout, and its two residual blocks.
"""

from __future__ import annotations

from ...network.layers import Layer
from .family import Family
from .layout import Shapes, Slot, conv, numbered, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return conv1..3, res1 and res2, deconv1..3, all of stride 1."""
    blocks = numbered(shapes, "res")
    if len(blocks) != 2:
        return None
    return [
        conv("conv1.conv2d", "in1", 9),
        conv("conv2.conv2d", "in2"),
        conv("conv3.conv2d", "in3"),
        *[residual(f"{b}.conv1.conv2d", f"{b}.in1", f"{b}.conv2.conv2d", f"{b}.in2") for b in blocks],
        conv("deconv1.conv2d", "in4"),
        conv("deconv2.conv2d", "in5"),
        conv("deconv3.conv2d", kernel=9),
    ]


def one_width(layers: tuple[Layer, ...]) -> bool:
    """Return whether all layers but the last have as many channels as the first."""
    return {layer.channels for layer in layers[:-1]} == {layers[0].channels} and layers[-1].channels == 3


FAMILY = Family(
    name="kleinicke",
    source="https://github.com/kleinicke/fast_web_style_transfer",
    slots=slots,
    pixels="rgb in=255 out=255",
    accepts=one_width,
)
