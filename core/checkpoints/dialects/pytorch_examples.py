"""pytorch/examples, fast_neural_style: the TransformerNet that most ports copied. Any width.

Old files also hold running_mean and running_var, which InstanceNorm2d had up to torch 0.3 but never used.
"""

from __future__ import annotations

from .family import Family
from .layout import Names, Shapes, Slot, conv, nearest, numbered, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return conv1..3 with in1..3, res1.., deconv1..3 with in4, in5. Each convolution is in a module that pads, ``.conv2d``."""
    return transformer(numbered(shapes, "res"), ("deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"))


def transformer(blocks: list[str], ups: tuple[str, str, str]) -> list[Slot] | None:
    """Return the layers of a TransformerNet.

    Args:
        blocks: names of its residual blocks
        ups: names of its last three convolutions, two of them after an upsampling

    Returns:
        The layers, or None if there are no residual blocks.
    """
    if not blocks:
        return None
    return [
        conv("conv1.conv2d", "in1", 9),
        conv("conv2.conv2d", "in2", stride=2),
        conv("conv3.conv2d", "in3", stride=2),
        *[residual(f"{b}.conv1.conv2d", f"{b}.in1", f"{b}.conv2.conv2d", f"{b}.in2") for b in blocks],
        nearest(),
        conv(ups[0], "in4"),
        nearest(),
        conv(ups[1], "in5"),
        conv(ups[2], kernel=9),
    ]


FAMILY = Family(
    name="pytorch/examples",
    source="https://github.com/pytorch/examples/tree/main/fast_neural_style",
    slots=slots,
    pixels="rgb in=255 out=255",
    names=Names(unused=("running_mean", "running_var")),
)
