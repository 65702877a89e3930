"""Run a network on images of any size, in any pixel convention, and plan the memory for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..engine.engine import Engine
from ..engine.formats import number_formats
from ..engine.memory_plan import SHARE, plan_memory
from ..images.wrapping import wrapped_axes
from ..network.arch import ArchSpec
from ..network.pixels import PixelConvention
from ..network.transform_net import TransformNet, extend
from ..progress import ProgressCallback
from .finite import check_finite

_AMPLE = 1 << 60  # bytes; more than any device has
_IMAGES = 2  # copies of input and result that exist at once


@dataclass(frozen=True)
class NetworkRunner:
    """Runs one network through the engine.

    Attributes:
        network: The network.
        pixels: Its pixel convention.
        exact: Whether the precision "auto" means fp32. It does for other people's networks, which should give the
            pictures of their own programs.
        name: Name of the network in messages.
    """

    network: TransformNet
    pixels: PixelConvention
    exact: bool = False
    name: str = "the network"

    @property
    def spec(self) -> ArchSpec:
        """Architecture of the network."""
        return self.network.spec

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None,
        beside: int = 0, wrap: str = "none",
    ) -> int:  # fmt: skip
        """Return the memory planned for images of this size, beside network, input and result.

        Args:
            height: Height of the images.
            width: Width of the images.
            device: Device that the network runs on.
            precision: As in `StyleModel.stylize`.
            memory: As in `StyleModel.stylize`.
            beside: Bytes of ``memory`` that something else needs.
            wrap: Edges of the images that meet, see `Engine`.
        """
        height, width = self._sides(height, width, wrap)
        formats = number_formats(device, self._precision(precision))
        return plan_memory(
            self.network, height, width, device, formats=formats, memory=memory, beside=beside, wrap=wrap
        ).bytes

    def prepare(
        self, height: int, width: int, device: torch.device, precision: str, memory: int | None, beside: int = 0,
        wrap: str = "none",
    ) -> Callable[[Tensor, ProgressCallback | None], Tensor]:  # fmt: skip
        """Return a function that runs the network on images of this size; arguments as in `working_bytes`.

        The function takes (1, 3, H, W) in [0, 1] and returns (1, 3, scale H, scale W) float32 in [0, 1]. It raises
        NetworkError if the network gives nan or infinite values.
        """
        self.network.to(device)
        engine = Engine(
            self.network, *self._sides(height, width, wrap), device=device, precision=self._precision(precision),
            memory=memory, beside=beside, wrap=wrap,
        )  # fmt: skip
        least, scale = self._least_sides(wrap), self.spec.scale

        def run(image: Tensor, progress: ProgressCallback | None = None) -> Tensor:
            out = self.pixels.from_network(engine(self.pixels.to_network(extend(image, *least)), progress))
            out = out[..., : scale * height, : scale * width]
            self._check(out, precision)  # clamping would hide infinite values
            return out.clamp_(0, 1)

        return run

    def _check(self, result: Tensor, precision: str) -> None:
        why = "its weights are damaged"
        in_fp16 = precision == "fp16" or (precision == "auto" and result.device.type != "cpu")
        why += ", or precision fp16 overflowed; use fp32" if in_fp16 else "; download or train it again"
        check_finite(result, f"{self.name} gave nan or infinite values for this image: {why}")

    def _sides(self, height: int, width: int, wrap: str) -> tuple[int, int]:
        """Height and width of an image once `extend` has made it large enough for the network."""
        least_height, least_width = self._least_sides(wrap)
        return max(height, least_height), max(width, least_width)

    def _least_sides(self, wrap: str) -> tuple[int, int]:
        """Smallest height and width that the network takes: any that wraps."""
        rows, columns = (1 if wraps else self.spec.smallest_side for wraps in wrapped_axes(wrap))
        return rows, columns

    def _precision(self, precision: str) -> str:
        return "fp32" if precision == "auto" and self.exact else precision


class Planned(Protocol):
    """A style or an upscaler."""

    @property
    def spec(self) -> ArchSpec:
        """Architecture of the (first) network."""

    @property
    def working_bytes(self) -> Callable[..., int]:
        """Method that returns the memory planned for images of a size."""


def bytes_to_free(model: Planned, height: int, width: int, device: torch.device, **options: Any) -> int:
    """Return how much memory a host should free on a device before a model runs there, beside the networks.

    With so much, the fastest plan is chosen, whatever other models fill the device now. On a CPU, which has no models to
    evict, this is the plan for what is free.

    Args:
        model: The model.
        height: Height of the images.
        width: Width of the images.
        device: Device that the networks run on.
        **options: Further arguments of the model's ``working_bytes``, but for ``memory``.
    """
    if device.type == "cpu":
        return model.working_bytes(height, width, device, **options)
    images = _IMAGES * 12 * height * width * (1 + model.spec.scale**2)
    return math.ceil((model.working_bytes(height, width, device, memory=_AMPLE, **options) + images) / SHARE)
