"""A-Jacobson, Super_Resolution: Johnson-type x4 super-resolution with tied weights.

One residual block is used four times and one upsampling block twice. Its batch norms use the image's own statistics,
which for one image is instance normalization. (The stored running statistics mix all uses of a layer.)
"""

from __future__ import annotations

from ...network.layers import Layer
from .family import Family
from .layout import Names, Shapes, Slot, conv, nearest, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return conv_in, resblock four times, upblock twice, conv_out."""
    return [
        conv("conv_in.conv", "conv_in.batchnorm", 9),
        *[residual("resblock.conv3x3", "resblock.batchnorm", "resblock.conv3x3", "resblock.batchnorm")] * 4,
        nearest(),
        conv("upblock.conv", "upblock.batchnorm"),
        nearest(),
        conv("upblock.conv", "upblock.batchnorm"),
        conv("conv_out", kernel=9),
    ]


def one_width(layers: tuple[Layer, ...]) -> bool:
    """Return whether the shared layers can follow each other."""
    return {layer.channels for layer in layers[:-1] if layer.channels} == {layers[0].channels}


FAMILY = Family(
    name="A-Jacobson",
    source="https://github.com/A-Jacobson/Super_Resolution",
    slots=slots,
    pixels="rgb in=unit out=unit",
    options={"norm": "instance", "padding": "zero", "output": "tanh1"},
    names=Names(unused=("running_mean", "running_var", "num_batches_tracked")),
    accepts=one_width,
)
