"""joshbrew, onnxruntime-web-fast-style-transfer: the TransformerNet with one residual block, named ``resblock``.

Its block has a ReLU after the addition. The ONNX export shows it, the keys do not.
"""

from __future__ import annotations

from .family import INSTANCE_REFLECT, Family
from .layout import Shapes, Slot
from .pytorch_examples import transformer


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers of pytorch/examples, with another name of the block."""
    return transformer(["resblock"], ("deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"))


FAMILY = Family(
    name="joshbrew",
    source="https://github.com/joshbrew/onnxruntime-web-fast-style-transfer",
    slots=slots,
    pixels="rgb in=255 out=255",
    options=INSTANCE_REFLECT | {"residual": "relu"},
)
