"""eriklindernoren, Fast-Neural-Style-Transfer: one Sequential ``model.0`` .. ``model.10``, ImageNet-normalized pixels."""

from __future__ import annotations

from .family import Family
from .layout import Shapes, Slot, conv, nearest, residual


def slots(shapes: Shapes) -> list[Slot] | None:
    """Return the layers: blocks ``model.N.block.1`` (after padding) with ``model.N.norm``; residual blocks from model.3 on."""
    places = [int(key.split(".")[1]) for key in shapes if key.startswith("model.") and key.split(".")[1].isdigit()]
    last = max(places, default=0)
    if last < 6 or last > 100:
        return None
    return [
        _block(0, 9),
        _block(1, stride=2),
        _block(2, stride=2),
        *[
            residual(*(f"model.{n}.block.{part}.{name}" for part in (0, 1) for name in ("block.1", "norm")))
            for n in range(3, last - 2)
        ],
        nearest(),
        _block(last - 2),
        nearest(),
        _block(last - 1),
        conv(f"model.{last}.block.1", kernel=9),
    ]


def _block(n: int, kernel: int = 3, stride: int = 1) -> Slot:
    return conv(f"model.{n}.block.1", f"model.{n}.norm", kernel, stride)


FAMILY = Family(
    name="eriklindernoren",
    source="https://github.com/eriklindernoren/Fast-Neural-Style-Transfer",
    slots=slots,
    pixels="rgb in=imagenet out=imagenet",
)
