"""Super-resolution with a network: UpscaleModel, and where upscalers come from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.own_format import read_header
from ..errors import CheckpointError, InputError
from ..hub.manifest import bundled_file, bundled_path, entries, find_entry, names
from ..hub.places import Folder
from ..network.arch import ArchSpec
from ..network.transform_net import TransformNet, deepened, interpolate
from ..progress import ProgressCallback
from .image_model import ImageModel
from .loading import network_file, open_model

SCALES = (2, 4, 8)


@dataclass(frozen=True)
class UpscaleModel(ImageModel):
    """A super-resolution network and its facts.

    partner: the network that was trained for pixel values alone, where there is one: of the same architecture, or with
        fewer residual blocks
    """

    partner: TransformNet | None = None

    task, what = "upscale", "an x2, x4 or x8 upscaler"

    @staticmethod
    def takes(spec: ArchSpec) -> bool:
        return spec.scale in SCALES and spec.out_channels == 3

    @property
    def scale(self) -> int:
        """Side of the result over side of the image: 2, 4 or 8."""
        return self.spec.scale

    def blended(self, fidelity: float) -> UpscaleModel:
        """The model between this one (fidelity 0) and its partner (1); arguments and errors as `upscale`'s."""
        if not 0 <= fidelity <= 1:
            raise InputError(f"fidelity is {fidelity}; expected a number from 0 (perceptual) to 1 (pixel loss)")
        if fidelity == 0:
            return self
        if self.partner is None:
            named = self.facts.get("partner")
            hint = f", or put its partner {named!r} beside it" if named else ""
            raise InputError(f"{self.name} has no partner to blend it with for fidelity {fidelity}; use 0{hint}")
        partner = deepened(self.partner, self.network)
        if partner is None:
            raise InputError(
                f"the partner of {self.name} is another architecture ({self.partner.spec}, expected {self.spec}), "
                f"so that they cannot be blended; use fidelity 0"
            )
        return replace(self, network=interpolate(self.network, partner, fidelity), partner=None)

    @torch.no_grad()
    def upscale(
        self,
        image: Tensor,
        *,
        fidelity: float = 0.0,
        match_colors: bool = False,
        precision: str = "auto",
        memory: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Enlarge images by ``scale``.

        image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it); never changed
        fidelity: 0 is the perceptual network, 1 its partner, trained for pixel values alone: higher PSNR, less detail;
            between them the network whose weights are a blend of theirs, see `interpolate`
        match_colors: give the result the image's histogram of each channel, as the paper does (section 4.2)
        precision, memory, progress: as `StyleModel.stylize`'s

        Returns (N, 3, scale H, scale W) in [0, 1], with image's dtype and device; each image on its own. Raises ImageError
        or InputError for bad input, and for a fidelity above 0 without a partner that fits.
        """
        result = self.blended(fidelity)._run(image, precision, memory, progress)
        if match_colors:
            from ..images.color import match_colors as matched

            for i in range(len(image)):
                result[i] = matched(result[i : i + 1], image[i : i + 1])[0]
        return result


def list_upscalers() -> list[str]:
    """Names that `load_upscaler` knows without a path."""
    return names("upscale")


def upscaler_for(scale: int) -> str:
    """The name of the upscaler to take for a scale when none is named: a perceptual one, if there is one."""
    known = sorted(entries("upscale"), key=lambda entry: entry.partner is None)
    found = next((entry.id for entry in known if entry.scale == scale), None)
    if found is None:
        there = ", ".join(f"{each.id} (x{each.scale})" for each in known) or "the path of a file: none is bundled"
        raise CheckpointError(f"there is no upscaler for x{scale}; expected {there}")
    return found


def load_upscaler(
    name_or_path: str | Path,
    *,
    channel_order: str | None = None,
    output: str | None = None,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> UpscaleModel:
    """An upscaler by name, or from a file; arguments and errors as `load_style`'s.

    Its partner is opened, too, if it is there. A file names it in its facts: a bundled network, or a file beside it.
    """
    path = network_file(name_or_path, "upscale", download=download, folder=folder, progress=progress)
    model = open_model(UpscaleModel, path, name_or_path, channel_order=channel_order, output=output)
    other = partner_file(path)
    if other is None:
        return model
    partner = open_model(UpscaleModel, other, other, channel_order=channel_order, output=output)
    if partner.pixels != model.pixels:
        raise CheckpointError(
            f"{other}, the partner of {path}, has other pixels ({partner.pixels}, not {model.pixels})"
        )
    return replace(model, partner=partner.network)


def partner_file(path: Path) -> Path | None:
    """Where the partner is that an upscaler's file names: beside it, or bundled; None when it names none that is there."""
    name = read_header(path).get("partner")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name):  # never a path: files come from anywhere
        return None
    beside = next((each for suffix in ("", ".safetensors") if (each := path.with_name(name + suffix)).is_file()), None)
    entry = find_entry(name, "upscale")
    if entry is not None and entry.is_bundled and beside in (None, bundled_path(name)):
        return bundled_file(name)
    return beside
