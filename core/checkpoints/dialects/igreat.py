"""igreat, fast-style-transfer: one Sequential ``layers.0`` .. ``layers.20``, ImageNet-normalized pixels."""

from __future__ import annotations

from .family import Family
from .layout import Shapes, Slot, conv, nearest, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers: convolution, norm, ReLU at 0, 3, 6; residual blocks from 9 on; then three more convolutions."""
    blocks = 0
    while f"layers.{9 + blocks}.conv1.conv.weight" in shapes:
        blocks += 1
    up = 9 + blocks
    if not blocks:
        return None
    return [
        conv("layers.0.conv", "layers.1", 9),
        conv("layers.3.conv", "layers.4", stride=2),
        conv("layers.6.conv", "layers.7", stride=2),
        *[
            residual(
                *(f"layers.{n}.{name}" for name in ("conv1.conv", "instance_norm1", "conv2.conv", "instance_norm2"))
            )
            for n in range(9, up)
        ],
        nearest(),
        conv(f"layers.{up}.conv.conv", f"layers.{up + 1}"),
        nearest(),
        conv(f"layers.{up + 3}.conv.conv", f"layers.{up + 4}"),
        conv(f"layers.{up + 6}.conv", kernel=9),
    ]


FAMILY = Family(
    name="igreat",
    source="https://github.com/igreat/fast-style-transfer",
    slots=slots,
    pixels="rgb in=imagenet out=imagenet",
)
