"""What nodes, the command line and Python users hold: a network together with the facts to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .arch import ArchSpec
from .checkpoint import load_network
from .errors import CheckpointError
from .images import check_image
from .manifest import bundled_file, entries
from .network import TransformNet, extend
from .progress import Progress, ProgressCallback
from .stream import Engine, number_formats, plan_memory


@dataclass(frozen=True)
class StyleModel:
    """A style network and its facts (title, license, credit, recipe, figures, ... as in the file's metadata).

    network: the plain TransformNet; ``network(image)`` is the reference of what `stylize` computes
    """

    network: TransformNet
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ArchSpec:
        return self.network.spec

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None
    ) -> int:
        """Memory that `stylize` plans to use for images of this size, beside network, input and result."""
        sides = (max(side, self.spec.smallest_side) for side in (height, width))
        dtype, _ = number_formats(device, precision)
        return plan_memory(self.network, *sides, device, dtype=dtype, memory=memory).bytes

    @torch.no_grad()
    def stylize(
        self,
        image: Tensor,
        *,
        precision: str = "auto",
        memory: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Stylize images.

        image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it); never changed
        precision: "auto" | "fp32" | "bf16" | "fp16"; auto is as fast as it gets within 2/255 of fp32
        memory: bytes to use beside network, input and result; None: planned from what is free
        progress: called many times an image; what it raises stops the work

        Returns (N, 3, H, W) in [0, 1], with image's dtype and device. Each image has its own statistics: its result does
        not depend on the others. Raises ImageError or InputError for bad input.
        """
        check_image(image)
        self.network.to(image.device)
        height, width = image.shape[-2:]
        result = torch.empty_like(image, memory_format=torch.contiguous_format)
        least = self.spec.smallest_side
        engine = Engine(
            self.network, max(height, least), max(width, least), device=image.device, precision=precision, memory=memory
        )
        for i in range(len(image)):
            done = None if progress is None else _shifted(progress, i, len(image))
            out = engine(extend(image[i : i + 1], least), done)
            result[i] = out[0, :, :height, :width].clamp_(0, 1)
        return result


def _shifted(progress: ProgressCallback, index: int, images: int) -> ProgressCallback:
    """Progress of one image as part of all."""
    return lambda one: progress(Progress(index * one.total + one.done, images * one.total))


def list_styles() -> list[str]:
    """Names that `load_style` knows without a path."""
    return [entry.id for entry in entries("style")]


def load_style(name_or_path: str | Path) -> StyleModel:
    """A bundled style by name, or a style network from a file.

    Raises CheckpointError when there is no such name or file, or the file holds something else.
    """
    if name_or_path in list_styles():
        path = bundled_file(str(name_or_path))
    else:
        path = Path(name_or_path)
        if not path.suffix and not path.exists():
            raise CheckpointError(
                f"there is no style named {str(name_or_path)!r}; expected {', '.join(list_styles())} or the path of a file"
            )
    network, facts = load_network(path)
    if facts.get("task") != "style" or network.spec.scale != 1 or network.spec.out_channels != 3:
        raise CheckpointError(f"{path} holds a network for {facts.get('task')!r}, not a style")
    return StyleModel(network, str(facts.get("name", path.stem)), facts)
