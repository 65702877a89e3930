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
from .devices import PRECISIONS
from .errors import CheckpointError, InputError
from .images import check_image
from .manifest import bundled_file, entries
from .network import TransformNet, extend, output_function
from .progress import Progress, ProgressCallback


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

    @property
    def units(self) -> int:
        """Units of progress that `stylize` counts for one image."""
        return len(self.network.stages)

    def working_bytes(self, height: int, width: int) -> int:
        """Estimate of the memory that `stylize` needs beside network, input and result, for images of this size."""
        # Input, padded copy and output of a full-size stage, float32, and the convolution's own workspace.
        return 4 * self.spec.width * 4 * height * width

    @torch.no_grad()
    def stylize(self, image: Tensor, *, precision: str = "auto", progress: ProgressCallback | None = None) -> Tensor:
        """Stylize images.

        image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it); never changed
        precision: "auto" | "fp32" | "bf16" | "fp16"; auto is fp32
        progress: called after every stage of the network; what it raises stops the work

        Returns (N, 3, H, W) in [0, 1], with image's dtype and device. Each image has its own statistics: its result does
        not depend on the others. Raises ImageError or InputError for bad input.
        """
        check_image(image)
        if precision != "auto" and precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}; expected auto, {', '.join(PRECISIONS)}")
        self.network.to(image.device)
        result = torch.empty_like(image, memory_format=torch.contiguous_format)
        total = len(image) * len(self.network.stages)
        for i, frame in enumerate(image):
            done = i * len(self.network.stages)
            result[i] = self._stylize_one(frame[None].float(), precision, progress, done, total)[0]
        return result

    def _stylize_one(self, x: Tensor, precision: str, progress, done: int, total: int) -> Tensor:
        height, width = x.shape[-2:]
        dtype = PRECISIONS.get(precision, torch.float32)
        x = extend(x, self.spec.smallest_side)
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
            for i, stage in enumerate(self.network.stages, start=1):
                x = stage(x)
                if progress is not None:
                    progress(Progress(done + i, total))
        return output_function(x[..., :height, :width].float(), self.spec.output).clamp_(0, 1)


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
