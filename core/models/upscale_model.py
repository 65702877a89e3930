"""UpscaleModel, one super-resolution network with its facts, and how to find and load one."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.own_format import read_header
from ..errors import CheckpointError, InputError
from ..hub.manifest import bundled_file, bundled_path, entries, find_entry, names
from ..hub.places import Folder
from ..images.tensors import check_image
from ..network.arch import ArchSpec
from ..network.interpolation import deepened, interpolate
from ..network.transform_net import TransformNet
from ..progress import ProgressCallback, part_of
from .finite import checked_later
from .image_model import ImageModel
from .loading import network_file, open_model

SCALES = (2, 4, 8)


@dataclass(frozen=True)
class UpscaleModel(ImageModel):
    """A super-resolution network and its facts, see `ImageModel` for the other attributes.

    Attributes:
        partner: The network that was trained for pixel values alone, on clean images, if any. It has the same
            architecture, or fewer residual blocks.
    """

    partner: TransformNet | None = None

    task, what = "upscale", "an x2, x4 or x8 upscaler"

    @staticmethod
    def takes(spec: ArchSpec, facts: Mapping[str, Any]) -> bool:
        """Return whether the network enlarges by a scale of SCALES, or restores, and has three channels out."""
        return spec.scale in ((1, *SCALES) if _restores(facts) else SCALES) and spec.out_channels == 3

    @property
    def scale(self) -> int:
        """Side of the result over side of the image: 2, 4 or 8, or 1 for a network that only restores."""
        return self.spec.scale

    @property
    def restores(self) -> bool:
        """Whether the network was trained on damaged photos. Then its dial is ``denoise``, not ``fidelity``."""
        return _restores(self.facts)

    @property
    def has_partner(self) -> bool:
        """Whether the model can be blended, or names a partner, which may be missing."""
        return self.partner is not None or bool(self.facts.get("partner"))

    @property
    def default_fidelity(self) -> float:
        """The fidelity that is used unless another is given: what the file states, for networks with a partner, or 0."""
        if self.restores or self.partner is None or deepened(self.partner, self.network) is None:
            return 0.0
        stated = self.facts.get("fidelity", 0.0)
        return stated if isinstance(stated, (int, float)) and 0 <= stated <= 1 else 0.0

    def working_bytes(
        self, height: int, width: int, device: torch.device, precision: str = "auto", memory: int | None = None,
        beside: int = 0,
    ) -> int:  # fmt: skip
        """Return the memory planned for images of this size, see `NetworkRunner.working_bytes`."""
        return self.runner.working_bytes(height, width, device, precision, memory, beside)

    def blended(self, fidelity: float | None = None, denoise: float | None = None) -> UpscaleModel:
        """Return the model between this one and its partner, without a partner of its own; see `upscale`."""
        if self.restores:
            dial, value, weight = "denoise", denoise, 0.0 if denoise is None else 1 - denoise
        else:
            dial, value = "fidelity", self.default_fidelity if fidelity is None else fidelity
            weight = value
        self._check_dials(fidelity, denoise)
        if weight == 0:
            return self if self.partner is None else replace(self, partner=None)
        partner = _unchanging(self.network) if self.scale == 1 else self.partner
        if partner is None:
            named, alone = self.facts.get("partner"), 1 if self.restores else 0
            hint = f", or put its partner {named!r} beside it" if named else ""
            raise InputError(f"{self.name} has no partner to blend it with for {dial} {value}; use {alone}{hint}")
        fitting = deepened(partner, self.network)
        if fitting is None:
            raise InputError(
                f"the partner of {self.name} has another architecture ({partner.spec}, expected {self.spec}), "
                f"so they cannot be blended; use {dial} {1 if self.restores else 0}"
            )
        return replace(self, network=interpolate(self.network, fitting, weight), partner=None)

    def _check_dials(self, fidelity: float | None, denoise: float | None) -> None:
        if fidelity is not None and not 0 <= fidelity <= 1:
            raise InputError(f"fidelity is {fidelity}; expected a number from 0 (perceptual) to 1 (pixel loss)")
        if denoise is not None and not 0 <= denoise <= 1:
            raise InputError(
                f"denoise is {denoise}; expected a number from 0 (as for clean images) to 1 (fully restored)"
            )
        if self.restores and fidelity is not None:
            raise InputError(f"{self.name} restores damaged photos and has no fidelity; use denoise")
        if not self.restores and denoise is not None:
            raise InputError(f"{self.name} does not restore photos and has no denoise; use fidelity")

    @torch.no_grad()
    def upscale(
        self,
        image: Tensor,
        *,
        fidelity: float | None = None,
        denoise: float | None = None,
        match_colors: bool = False,
        precision: str = "auto",
        memory: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Enlarge images by ``scale``.

        Args:
            image: (N, 3, H, W) float RGB in [0, 1], any H, W >= 1, on any device (the network follows it). It stays
                unchanged. Give `fill_transparent` images with alpha first.
            fidelity: 0 for this, the perceptual network, 1 for its partner, which was trained for pixel values alone
                and has higher PSNR and less detail. In between, both networks' weights are blended, see `interpolate`.
                None uses `default_fidelity`.
            denoise: For restorers in place of fidelity: 1 restores fully, 0 is the partner, which keeps all that is in the
                image. In between, both are blended. None is 1.
            match_colors: Whether to match each channel's histogram to the image's, as the paper does (section 4.2).
            precision: As in `StyleModel.stylize`.
            memory: As in `StyleModel.stylize`.
            progress: As in `StyleModel.stylize`.

        Returns:
            (N, 3, scale H, scale W) in [0, 1], with image's dtype and device. No image depends on the others.

        Raises:
            ImageError: If the image is wrong.
            InputError: If a setting is wrong or is not one of this model, or if the fidelity is above 0, or denoise below 1,
                and no partner fits.
            NetworkError: If the network gives nan or infinite values.
        """
        check_image(image)
        enlarge = self.enlarger(
            fidelity=fidelity, denoise=denoise, match_colors=match_colors, precision=precision, memory=memory
        )
        height, width = image.shape[-2:]
        result = image.new_empty(len(image), 3, height * self.scale, width * self.scale)
        with checked_later():
            for i in range(len(image)):
                result[i] = enlarge(image[i : i + 1], part_of(progress, i, len(image)))[0]
        return result

    def enlarger(
        self, *, fidelity: float | None = None, denoise: float | None = None, match_colors: bool = False,
        precision: str = "auto", memory: int | None = None,
    ) -> Enlarger:  # fmt: skip
        """Return an Enlarger for photo after photo; arguments and errors as `upscale`."""
        return Enlarger(self.blended(fidelity, denoise), match_colors, precision, memory)


class Enlarger:
    """Enlarges photo after photo. What one size needs is prepared once, as long as the size stays the same."""

    def __init__(self, model: UpscaleModel, match_colors: bool, precision: str, memory: int | None) -> None:
        self.model, self.match_colors, self.precision, self.memory = model, match_colors, precision, memory
        self._place: tuple[int, int, torch.device] | None = None

    @torch.no_grad()
    def __call__(self, image: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Return a checked image (1, 3, H, W), enlarged, in its dtype."""
        height, width = image.shape[-2:]
        place = height, width, image.device
        if place != self._place:
            self._run = self.model.runner.prepare(*place, self.precision, self.memory)
            self._place = place
        result = self._run(image, progress).to(image.dtype)
        if self.match_colors:
            from ..images.color import match_colors as matched

            result = matched(result, image)
        return result


def _restores(facts: Mapping[str, Any]) -> bool:
    return facts.get("dial") == "denoise"


def _unchanging(network: TransformNet) -> TransformNet | None:
    """Return the network with zeros in its last layer, so that it returns its image, or None if it does not add to it."""
    if network.spec.base == "none" or network.spec.output != "linear":
        return None
    result = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in result.stages[-1].parameters():
            parameter.zero_()
    return result


def list_upscalers() -> list[str]:
    """Return the names that `load_upscaler` accepts."""
    return names("upscale")


def upscaler_for(scale: int) -> str:
    """Return the name of the default upscaler for a scale, a perceptual one if possible. Raises CheckpointError.

    Restorers, which clean images change, and networks that were replaced are not defaults.
    """
    current = [entry for entry in entries("upscale") if entry.dial is None and entry.replaced_by is None]
    known = sorted(current, key=lambda entry: entry.partner is None)
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
    """Load an upscaler by name or from a file, and its partner if that exists; arguments and errors as `load_style`.

    The facts of a file name its partner: a bundled network, or a file beside it.
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
    """Return the file of the partner that an upscaler names, beside it or bundled, or None if there is none."""
    name = read_header(path).get("partner")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name):  # never a path: files come from anywhere
        return None
    beside = next((each for suffix in ("", ".safetensors") if (each := path.with_name(name + suffix)).is_file()), None)
    entry = find_entry(name, "upscale")
    if entry is not None and entry.is_bundled and beside in (None, bundled_path(name)):
        return bundled_file(name)
    return beside
