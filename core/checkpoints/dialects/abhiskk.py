"""abhiskk, fast-neural-style: pytorch/examples' forerunner with its own instance norm (scale, shift, eps 1e-9), in BGR."""

from __future__ import annotations

from .family import INSTANCE_REFLECT, Family
from .layout import Names
from .pytorch_examples import slots

FAMILY = Family(
    name="abhiskk",
    source="https://github.com/abhiskk/fast-neural-style",
    slots=slots,
    pixels="bgr in=255 out=255",
    options=INSTANCE_REFLECT | {"eps": 1e-9},
    names=Names(scale="scale", shift="shift"),
)
