"""gordicaleksa, pytorch-nst-feedforward: pytorch/examples with up1, up2, up3, on ImageNet-normalized pixels."""

from __future__ import annotations

from .family import Family
from .layout import Shapes, Slot, numbered
from .pytorch_examples import transformer


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers of pytorch/examples with up1..3: up1 and up2 are modules around a padding convolution, up3 is one."""
    return transformer(numbered(shapes, "res"), ("up1.conv2d.conv2d", "up2.conv2d.conv2d", "up3.conv2d"))


FAMILY = Family(
    name="gordicaleksa",
    source="https://github.com/gordicaleksa/pytorch-nst-feedforward",
    slots=slots,
    pixels="rgb in=imagenet out=imagenet",
)
