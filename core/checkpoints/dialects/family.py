"""Family: what one kind of checkpoint looks like, and what its file cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ...network.arch import ArchSpec
from ...network.layers import Layer
from ...network.pixels import PixelConvention
from ...network.transform_net import TransformNet
from .layout import Fit, Names, Shapes, Slot, build, doubles, fit

INSTANCE_REFLECT = {"norm": "instance", "padding": "reflect", "output": "linear"}


class Foreign(NamedTuple):
    """A network that was read, how it takes pixels, and facts: family, source and whatever the file itself said."""

    network: TransformNet
    pixels: PixelConvention
    facts: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family whose files are dicts of tensors.

    name, source: what to call it, and the repository it comes from
    slots: the layers for these keys, None when they are not the family's
    options: ArchSpec's options, which no tensor tells; pixels: likewise
    names: of the tensors of its norms; extra: prefixes of norms that are stored and never used
    accepts: what else must hold of the layers, by default channels that double with each stride
    """

    name: str
    source: str
    slots: Callable[[Shapes], list[Slot] | None]
    pixels: str
    options: Mapping[str, Any] = field(default_factory=lambda: INSTANCE_REFLECT)
    names: Names = Names()
    extra: tuple[str, ...] = ()
    accepts: Callable[[tuple[Layer, ...]], bool] = doubles

    def recognize(self, shapes: Shapes) -> tuple[ArchSpec, Fit] | None:
        """What these keys and shapes describe, None unless they are exactly a network of this family."""
        slots = self.slots(shapes)
        found = fit(slots, shapes, self.names, self.extra) if slots else None
        if found is None or not self.accepts(found.layers):
            return None
        return ArchSpec(found.layers, **self.options), found

    def convert(self, recognized: tuple[ArchSpec, Fit], tensors: Mapping[str, Tensor]) -> Foreign:
        """Build the network around the tensors of the file that was recognized."""
        spec, found = recognized
        facts = {"family": self.name, "source": self.source}
        return Foreign(build(spec, found, tensors), PixelConvention.parse(self.pixels), facts)
