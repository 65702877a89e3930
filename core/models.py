"""What nodes, the command line and Python users hold: a network together with the facts to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from .arch import ArchSpec
from .brush import Brush, Canvas, Painter
from .checkpoint import is_ours, load_network
from .dialects import load_foreign
from .errors import ArchError, CheckpointError, InputError
from .hub import Folder, fetch, find, missing
from .images import check_image
from .manifest import find_entry, names
from .network import TransformNet, extend
from .pixels import OURS, PixelConvention
from .progress import ProgressCallback, part_of
from .stream import Engine, number_formats, plan_memory
from .styles import Style, select, split, styles_in
from .stylizer import AnyStyle


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


class StyleModel(AnyStyle, ImageModel):
    """A style network and its facts."""

    task, what = "style", "a style"

    @staticmethod
    def takes(spec: ArchSpec) -> bool:
        return spec.scale == 1 and spec.out_channels == 3

    def painter(self, canvas: Canvas) -> Painter:
        return Brush(self, canvas)

    def painting_bytes(self, canvas: Canvas) -> int:
        beside = canvas.beside + canvas.copies
        sizes = (*canvas.painted, canvas.device, canvas.precision, canvas.memory, beside)
        return beside + ImageModel.working_bytes(self, *sizes)


def list_styles() -> list[str]:
    """Names that `load_style` knows without a path: bundled styles, then those that can be downloaded.

    `manifest.find_entry` tells which is which (``is_bundled``, ``is_downloaded()``).
    """
    return names("style")


def load_style(
    name_or_path: str | Path,
    *,
    style: Style | None = None,
    channel_order: str | None = None,
    output: str | None = None,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> StyleModel:
    """A style by name, or a style network from a file: ours, or of any family in `dialects`.

    name_or_path: of a file of several styles (core/styles.py) also FILE#STYLE, where STYLE is as in ``wave`` or in
        ``wave=0.7,candy=0.3``
    style: the same apart from the name: a style of the file, or the amounts of a mixture by name, relative to their sum
    channel_order: "rgb" | "bgr", output: "tanh150", "linear", ... (as in an arch string): what a file cannot tell, where
    its family's usual value is wrong
    download: whether a style of the Hub that is not on this machine may be downloaded, with ``progress`` in bytes
    folder: where such files are looked for and put; by default the Hub's cache

    Raises CheckpointError when there is no such name or file, the file holds something else, or several styles and none
    is chosen; HubError (one, too) when it was not downloaded; InputError when there is no such style in it.
    """
    if style is None:
        name_or_path, style = split(name_or_path)
    path = network_file(name_or_path, "style", download=download, folder=folder, progress=progress)
    return open_model(StyleModel, path, name_or_path, style=style, channel_order=channel_order, output=output)


def network_file(
    name_or_path: str | Path,
    task: str | None = None,
    *,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """The file of a network's name, checked, or the path itself. Arguments and errors as `load_style`'s.

    task: whose names count, as in the manifest; None: all
    """
    entry = find_entry(name_or_path, task)
    if entry is not None:
        found = fetch(entry, folder=folder, progress=progress) if download else find(entry, folder)
        if found is None:
            raise missing(entry, folder)
        return found
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        what = {"style": "style", "upscale": "upscaler"}.get(str(task), "network")
        known = " or ".join(filter(None, [", ".join(names(task)), "the path of a file"]))
        raise CheckpointError(f"there is no {what} named {str(name_or_path)!r}; expected {known}")
    return path


Kind = TypeVar("Kind", bound=ImageModel)


def open_model(
    kind: type[Kind],
    path: Path,
    name: str | Path,
    *,
    style: Style | None = None,
    channel_order: str | None = None,
    output: str | None = None,
) -> Kind:
    """A model from a file that `network_file` gave for ``name``. Raises CheckpointError when it is of another kind."""
    network, pixels, facts = open_network(path, style=style, channel_order=channel_order, output=output)
    if facts.get("task") != kind.task or not kind.takes(network.spec):
        scale = network.spec.scale
        held = f"an x{scale} upscaler" if scale > 1 else f"a network for {facts.get('task')!r}"
        raise CheckpointError(f"{path} holds {held}, not {kind.what}")
    if network.spec.styles > 1:
        known = [each["name"] for each in styles_in(facts)]
        raise CheckpointError(
            f"{path} holds {len(known)} styles: {', '.join(known)}; choose one, as in {Path(name).name}#{known[0]}"
        )
    entry = find_entry(name, kind.task)
    if entry is not None and not entry.is_bundled and style is None:
        facts |= {"name": entry.id} | {key: value for key, value in entry.as_json().items() if key in _PUBLISHED}
    return kind(network, str(facts.get("name", path.stem)), facts, pixels)


_PUBLISHED = ("title", "license", "credit", "recipe", "notes")  # what only the manifest knows of a file of the Hub


def open_network(
    path: str | Path, *, style: Style | None = None, channel_order: str | None = None, output: str | None = None
) -> tuple[TransformNet, PixelConvention, dict[str, Any]]:
    """Any network that can be opened, style or upscaler: the network, its pixel convention and its facts.

    Arguments as `load_style`'s; without a ``style`` a network of several comes as it is. Raises CheckpointError, or
    InputError for an unknown style, channel order or output.
    """
    try:
        if is_ours(path):
            network, facts = load_network(path)
            pixels = PixelConvention.parse(str(facts.pop("pixels", OURS)))
        else:
            network, pixels, facts = load_foreign(path)
    except (ArchError, InputError) as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(f"{path}: {error}") from None
    if style is not None:
        network, facts = select(network, facts, style)
    if output is not None:
        network.spec = network.spec.with_options(output=output)
    return network, pixels.with_order(channel_order), facts
