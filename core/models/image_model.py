"""ImageModel: a network together with the facts needed to use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..network.arch import ArchSpec
from ..network.pixels import OURS, PixelConvention
from ..network.transform_net import TransformNet
from .network_runner import NetworkRunner


@dataclass(frozen=True)
class ImageModel(ABC):
    """A network that turns an image into an image, with its facts: the common part of StyleModel and UpscaleModel.

    Attributes:
        network: The plain TransformNet. ``network(image)`` is the reference for what the model computes.
        name: Name of the model.
        facts: Title, license, credit, recipe, ... as in the file's metadata.
        pixels: Pixel convention of the network. Networks that this project trains take and return RGB in [0, 1].
        task: Task of such models, as in the manifest.
        what: Name of such models in error messages.
    """

    network: TransformNet
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: PixelConvention = OURS

    task: ClassVar[str]
    what: ClassVar[str]

    @staticmethod
    @abstractmethod
    def takes(spec: ArchSpec, facts: Mapping[str, Any]) -> bool:
        """Return whether a network of this architecture, with these facts, can do the task."""

    @property
    def spec(self) -> ArchSpec:
        """Architecture of the network."""
        return self.network.spec

    @property
    def networks(self) -> tuple[TransformNet, ...]:
        """The networks that a host has to move to the device."""
        return (self.network,)

    @property
    def runner(self) -> NetworkRunner:
        """Runner that plans memory for the network and runs it."""
        return NetworkRunner(self.network, self.pixels, exact="family" in self.facts, name=self.name)
