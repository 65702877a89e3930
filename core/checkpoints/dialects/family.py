"""Families: the layout of one kind of checkpoint, and the facts that its files do not record."""

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
    """A network from another program.

    Attributes:
        network: the network
        pixels: its pixel convention
        facts: family, source, and whatever the file records
    """

    network: TransformNet
    pixels: PixelConvention
    facts: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family whose files are dicts of tensors.

    Attributes:
        name: what to call it
        source: the repository it comes from
        slots: returns the layers for these keys, or None if the keys belong to another family
        pixels: pixel convention, which no tensor records
        options: options of `ArchSpec`, which no tensor records
        names: names of the tensors of its norms
        extra: prefixes of norms that are stored but never used
        accepts: a further condition on the layers; by default, channels double with each stride
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
        """Return the architecture of a network of this family, or None unless keys and shapes match exactly."""
        slots = self.slots(shapes)
        found = fit(slots, shapes, self.names, self.extra) if slots else None
        if found is None or not self.accepts(found.layers):
            return None
        return ArchSpec(found.layers, **self.options), found

    def convert(self, recognized: tuple[ArchSpec, Fit], tensors: Mapping[str, Tensor]) -> Foreign:
        """Build the network of a recognized file around its tensors."""
        spec, found = recognized
        facts = {"family": self.name, "source": self.source}
        return Foreign(build(spec, found, tensors), PixelConvention.parse(self.pixels), facts)
