"""dxyang, StyleTransfer: norms named for encoder and decoder, a ReLU after each addition, ImageNet-normalized pixels.

Its deconv layers count down, and the last one's norm (in1_d) is stored but never used.
"""

from __future__ import annotations

from .family import INSTANCE_REFLECT, Family
from .layout import Names, Shapes, Slot, conv, nearest, numbered, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return conv1..3 with in1_e..in3_e, res1.., deconv3 and deconv2 with in3_d and in2_d, deconv1."""
    blocks = numbered(shapes, "res")
    if not blocks:
        return None
    return [
        conv("conv1.conv2d", "in1_e", 9),
        conv("conv2.conv2d", "in2_e", stride=2),
        conv("conv3.conv2d", "in3_e", stride=2),
        *[residual(f"{b}.conv1.conv2d", f"{b}.in1", f"{b}.conv2.conv2d", f"{b}.in2") for b in blocks],
        nearest(),
        conv("deconv3.conv2d", "in3_d"),
        nearest(),
        conv("deconv2.conv2d", "in2_d"),
        conv("deconv1.conv2d", kernel=9),
    ]


FAMILY = Family(
    name="dxyang",
    source="https://github.com/dxyang/StyleTransfer",
    slots=slots,
    pixels="rgb in=imagenet out=imagenet",
    options=INSTANCE_REFLECT | {"residual": "relu"},
    names=Names(unused=("running_mean", "running_var")),
    extra=("in1_d",),
)
