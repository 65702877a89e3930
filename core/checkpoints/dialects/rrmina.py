"""rrmina, fast-neural-style-pytorch, and zeroxoxo's ComfyUI-Fast-Style-Transfer, which has the same files. BGR.

A variant of its program ends in 150 tanh with the same keys: load it with ``output="tanh150"``. The program reads
training images with OpenCV, hence BGR. A copy trained on RGB needs ``channel_order="rgb"``.
"""

from __future__ import annotations

from .family import Family
from .layout import Shapes, Slot, conv, numbered, residual, transposed


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers: they alternate with ReLUs in ConvBlock and DeconvBlock, which upsamples by transposed convolutions."""
    blocks = numbered(shapes, "ResidualBlock.", start=0)
    if not blocks:
        return None
    return [
        conv("ConvBlock.0.conv_layer", "ConvBlock.0.norm_layer", 9),
        conv("ConvBlock.2.conv_layer", "ConvBlock.2.norm_layer", stride=2),
        conv("ConvBlock.4.conv_layer", "ConvBlock.4.norm_layer", stride=2),
        *[residual(*(f"{b}.conv{n}.{name}" for n in (1, 2) for name in ("conv_layer", "norm_layer"))) for b in blocks],
        transposed("DeconvBlock.0.conv_transpose", "DeconvBlock.0.norm_layer"),
        transposed("DeconvBlock.2.conv_transpose", "DeconvBlock.2.norm_layer"),
        conv("DeconvBlock.4.conv_layer", kernel=9),
    ]


FAMILY = Family(
    name="rrmina",
    source="https://github.com/rrmina/fast-neural-style-pytorch",
    slots=slots,
    pixels="bgr in=255 out=255",
)
