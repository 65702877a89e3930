"""What nodes, the command line and Python users hold: a network together with the facts to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .arch import ArchSpec
from .checkpoint import is_ours, load_network
from .devices import PRECISIONS
from .dialects import load_foreign
from .errors import ArchError, CheckpointError, InputError
from .images import check_image
from .manifest import bundled_file, entries
from .network import TransformNet, extend, output_function
from .pixels import OURS, PixelConvention
from .progress import Progress, ProgressCallback


@dataclass(frozen=True)
class StyleModel:
    """A style network and its facts (title, license, credit, recipe, figures, ... as in the file's metadata).

    network: the plain TransformNet; ``network(image)`` is the reference of what `stylize` computes
    pixels: what the network takes and gives; RGB in [0, 1] for the networks that this project trains
    """

    network: TransformNet
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: PixelConvention = OURS

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
        x = self.pixels.to_network(extend(x, self.spec.smallest_side))
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
            for i, stage in enumerate(self.network.stages, start=1):
                x = stage(x)
                if progress is not None:
                    progress(Progress(done + i, total))
        output = output_function(x[..., :height, :width].float(), self.spec.output)
        return self.pixels.from_network(output).clamp_(0, 1)


def list_styles() -> list[str]:
    """Names that `load_style` knows without a path."""
    return [entry.id for entry in entries("style")]


def load_style(name_or_path: str | Path, *, channel_order: str | None = None, output: str | None = None) -> StyleModel:
    """A bundled style by name, or a style network from a file: ours, or of any family in `dialects`.

    channel_order: "rgb" | "bgr", output: "tanh150", "linear", ... (as in an arch string): what a file cannot tell, where
    its family's usual value is wrong
    Raises CheckpointError when there is no such name or file, or the file holds something else.
    """
    path = style_file(name_or_path)
    network, pixels, facts = open_network(path, channel_order=channel_order, output=output)
    if facts.get("task") != "style" or network.spec.scale != 1 or network.spec.out_channels != 3:
        held = (
            f"an x{network.spec.scale} upscaler" if network.spec.scale > 1 else f"a network for {facts.get('task')!r}"
        )
        raise CheckpointError(f"{path} holds {held}, not a style")
    return StyleModel(network, str(facts.get("name", path.stem)), facts, pixels)


def style_file(name_or_path: str | Path) -> Path:
    """The file of a bundled style, checked, or the path itself. Raises CheckpointError for what can only be a wrong name."""
    if name_or_path in list_styles():
        return bundled_file(str(name_or_path))
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise CheckpointError(
            f"there is no style named {str(name_or_path)!r}; expected {', '.join(list_styles())} or the path of a file"
        )
    return path


def open_network(
    path: str | Path, *, channel_order: str | None = None, output: str | None = None
) -> tuple[TransformNet, PixelConvention, dict[str, Any]]:
    """Any network that can be opened, style or upscaler: the network, its pixel convention and its facts.

    Arguments as `load_style`'s. Raises CheckpointError, or InputError for an unknown channel order or output.
    """
    try:
        if is_ours(path):
            network, facts = load_network(path)
            pixels = PixelConvention.parse(str(facts.pop("pixels", OURS)))
        else:
            network, pixels, facts = load_foreign(path)
    except (ArchError, InputError) as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(f"{path}: {error}") from None
    if output is not None:
        network.spec = network.spec.with_options(output=output)
    return network, pixels.with_order(channel_order), facts
