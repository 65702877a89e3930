"""ImageModel: a network together with the facts needed to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..engine.engine import Engine, number_formats, plan_memory
from ..images.tensors import check_image
from ..network.arch import ArchSpec
from ..network.pixels import OURS, PixelConvention
from ..network.transform_net import TransformNet, extend
from ..progress import ProgressCallback, part_of


@dataclass(frozen=True)
class ImageModel:
    """What StyleModel and UpscaleModel share: a network that makes an image of an image, and its facts (title, license,
    credit, recipe, figures, ... as in the file's metadata).

    network: the plain TransformNet; ``network(image)`` is the reference of what the model computes
    pixels: what the network takes and gives; RGB in [0, 1] for the networks that this project trains
    """

    network: TransformNet
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: PixelConvention = OURS

    task: ClassVar[str]
    what: ClassVar[str]  # as messages call it

    @staticmethod
    def takes(spec: ArchSpec) -> bool:
        """Whether a network of this architecture can do the task."""
        raise NotImplementedError

    @property
    def spec(self) -> ArchSpec:
        return self.network.spec

    @property
    def networks(self) -> tuple[TransformNet, ...]:
        """What a host has to bring to the device."""
        return (self.network,)

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None,
        beside: int = 0,
    ) -> int:  # fmt: skip
        """Memory that the model plans to use for images of this size, beside network, input and result.

        beside: bytes of ``memory`` that are needed for something else
        """
        sides = (max(side, self.spec.smallest_side) for side in (height, width))
        dtype, _ = number_formats(device, self._precision(precision))
        return plan_memory(self.network, *sides, device, dtype=dtype, memory=memory, beside=beside).bytes

    def runner(
        self, height: int, width: int, device: torch.device, precision: str, memory: int | None, beside: int = 0
    ) -> Callable[[Tensor, ProgressCallback | None], Tensor]:
        """What runs the network: (1, 3, H, W) in [0, 1] of this size -> (1, 3, scale H, scale W) float32 in [0, 1]."""
        self.network.to(device)
        least, scale = self.spec.smallest_side, self.spec.scale
        engine = Engine(
            self.network, max(height, least), max(width, least), device=device, precision=self._precision(precision),
            memory=memory, beside=beside,
        )  # fmt: skip

        def run(image: Tensor, progress: ProgressCallback | None = None) -> Tensor:
            out = self.pixels.from_network(engine(self.pixels.to_network(extend(image, least)), progress))
            return out[..., : scale * height, : scale * width].clamp_(0, 1)

        return run

    def _precision(self, precision: str) -> str:
        return "fp32" if precision == "auto" and "family" in self.facts else precision

    @torch.no_grad()
    def _run(self, image: Tensor, precision: str, memory: int | None, progress: ProgressCallback | None) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale H, scale W) in [0, 1], one image after the other, as `StyleModel.stylize` says."""
        check_image(image)
        height, width = image.shape[-2:]
        result = image.new_empty(len(image), 3, height * self.spec.scale, width * self.spec.scale)
        run = self.runner(height, width, image.device, precision, memory)
        for i in range(len(image)):
            result[i] = run(image[i : i + 1], part_of(progress, i, len(image)))[0]
        return result
