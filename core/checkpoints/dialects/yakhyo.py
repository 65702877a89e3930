"""yakhyo, fast-neural-style-transfer: pytorch/examples with other names, and residual blocks that add their input twice."""

from __future__ import annotations

from .family import INSTANCE_REFLECT, Family
from .layout import Shapes, Slot, numbered
from .pytorch_examples import transformer


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers of pytorch/examples, with upsample_conv1..3 for deconv1..3."""
    return transformer(
        numbered(shapes, "res"), ("upsample_conv1.conv2d", "upsample_conv2.conv2d", "upsample_conv3.conv2d")
    )


FAMILY = Family(
    name="yakhyo",
    source="https://github.com/yakhyo/fast-neural-style-transfer",
    slots=slots,
    pixels="rgb in=255 out=255",
    options=INSTANCE_REFLECT | {"residual": "twice"},
)
