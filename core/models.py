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
from .dialects import load_foreign
from .errors import ArchError, CheckpointError, InputError
from .hub import Folder, fetch, find, missing
from .images import check_image
from .manifest import entries, find_entry
from .network import TransformNet, extend
from .pixels import OURS, PixelConvention
from .progress import Progress, ProgressCallback
from .stream import Engine, number_formats, plan_memory


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

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None
    ) -> int:
        """Memory that `stylize` plans to use for images of this size, beside network, input and result."""
        sides = (max(side, self.spec.smallest_side) for side in (height, width))
        dtype, _ = number_formats(device, self._precision(precision))
        return plan_memory(self.network, *sides, device, dtype=dtype, memory=memory).bytes

    def _precision(self, precision: str) -> str:
        return "fp32" if precision == "auto" and "family" in self.facts else precision

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
        precision: "auto" | "fp32" | "bf16" | "fp16"; auto may compute residual blocks in bf16 (stream.number_formats says
            how far that is from fp32), and is fp32 for other people's networks, which are to give the pictures of their
            own programs
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
            self.network, max(height, least), max(width, least), device=image.device,
            precision=self._precision(precision), memory=memory,
        )  # fmt: skip
        for i in range(len(image)):
            done = None if progress is None else _shifted(progress, i, len(image))
            out = engine(self.pixels.to_network(extend(image[i : i + 1], least)), done)
            result[i] = self.pixels.from_network(out)[0, :, :height, :width].clamp_(0, 1)
        return result


def _shifted(progress: ProgressCallback, index: int, images: int) -> ProgressCallback:
    """Progress of one image as part of all."""
    return lambda one: progress(Progress(index * one.total + one.done, images * one.total))


def list_styles() -> list[str]:
    """Names that `load_style` knows without a path: bundled styles, then those that can be downloaded.

    `manifest.find_entry` tells which is which (``is_bundled``, ``is_downloaded()``).
    """
    return [entry.id for entry in sorted(entries("style"), key=lambda entry: not entry.is_bundled)]


def load_style(
    name_or_path: str | Path,
    *,
    channel_order: str | None = None,
    output: str | None = None,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> StyleModel:
    """A style by name, or a style network from a file: ours, or of any family in `dialects`.

    channel_order: "rgb" | "bgr", output: "tanh150", "linear", ... (as in an arch string): what a file cannot tell, where
    its family's usual value is wrong
    download: whether a style of the Hub that is not on this machine may be downloaded, with ``progress`` in bytes
    folder: where such files are looked for and put; by default the Hub's cache

    Raises CheckpointError when there is no such name or file, or the file holds something else, HubError (one, too) when
    it was not downloaded.
    """
    path = style_file(name_or_path, download=download, folder=folder, progress=progress)
    network, pixels, facts = open_network(path, channel_order=channel_order, output=output)
    if facts.get("task") != "style" or network.spec.scale != 1 or network.spec.out_channels != 3:
        held = (
            f"an x{network.spec.scale} upscaler" if network.spec.scale > 1 else f"a network for {facts.get('task')!r}"
        )
        raise CheckpointError(f"{path} holds {held}, not a style")
    entry = find_entry(name_or_path, "style")
    if entry is not None and not entry.is_bundled:
        facts |= {"name": entry.id} | {key: value for key, value in entry.as_json().items() if key in _PUBLISHED}
    return StyleModel(network, str(facts.get("name", path.stem)), facts, pixels)


_PUBLISHED = ("title", "license", "credit", "recipe", "notes")  # what only the manifest knows of a file of the Hub


def style_file(
    name_or_path: str | Path,
    *,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """The file of a style's name, checked, or the path itself. Arguments and errors as `load_style`'s."""
    entry = find_entry(name_or_path, "style")
    if entry is not None:
        found = fetch(entry, folder=folder, progress=progress) if download else find(entry, folder)
        if found is None:
            raise missing(entry, folder)
        return found
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
