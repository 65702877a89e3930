"""Networks on the host's devices, and where its images live."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

import comfy.model_management as model_management
import comfy.model_patcher as model_patcher
import torch

from ...core.devices import release_memory
from ...core.models.network_runner import bytes_to_free
from ...core.models.stylizer import BaseStyle
from ...core.models.upscale_model import UpscaleModel

Model = TypeVar("Model", bound="BaseStyle | UpscaleModel")


@dataclass(frozen=True)
class HostedModel(Generic[Model]):
    """A model whose networks the host moves between devices like its own models.

    Attributes:
        model: The model, from core.
        patchers: The host's handle of each of its networks.
    """

    model: Model
    patchers: tuple[model_patcher.ModelPatcher, ...]

    @classmethod
    def of(cls, model: Model, *parts: HostedModel[Any]) -> HostedModel[Model]:
        """Hand a model to the host.

        Args:
            model: The model.
            *parts: Hosted models that it is made of. The host keeps one handle for each of their networks.
        """
        load, offload = model_management.get_torch_device(), model_management.unet_offload_device()
        make = _patcher_class()
        known = {id(patcher.model): patcher for part in parts for patcher in part.patchers}
        return cls(
            model,
            tuple(
                known.get(id(network)) or make(network, load_device=load, offload_device=offload)
                for network in model.networks
            ),
        )

    def load(self, height: int, width: int, **options: Any) -> torch.device:
        """Bring the networks to their device, and make room there for the fastest way to run images of this size.

        The way itself is planned later, from what the host has freed.

        Args:
            height: Height of the images in px.
            width: Width of the images in px.
            **options: Further arguments of the model's ``working_bytes``.

        Returns:
            The device.
        """
        device = self.patchers[0].load_device
        needed = bytes_to_free(self.model, height, width, device, **options)
        model_management.load_models_gpu(list(self.patchers), memory_required=needed)
        for network in self.model.networks:
            network.to(device)  # dynamic loading leaves parameters of foreign modules where they were
        return device


def _patcher_class() -> type[model_patcher.ModelPatcher]:
    """Return the class that the host's own loaders use.

    For any other class, newer hosts push large models out of memory. They choose the class at startup, so look it up late.
    """
    return getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)


@contextlib.contextmanager
def whole_device() -> Iterator[torch.device]:
    """Give the host's device to work that needs all of its memory.

    Other models are unloaded first. Afterwards the memory goes back to the host.
    """
    model_management.unload_all_models()
    model_management.soft_empty_cache()
    try:
        yield model_management.get_torch_device()
    finally:
        model_management.soft_empty_cache()


@contextlib.contextmanager
def training_device() -> Iterator[torch.device]:
    """Give the `whole_device` to a training run, outside of the inference mode in which the host runs nodes.

    Tensors made before are still inference tensors. Clone those that gradients must pass through.
    """
    try:
        with whole_device() as device, torch.inference_mode(False):
            yield device
    finally:
        gc.collect()
        release_memory(torch.device("cpu"))


class ImageOptions(TypedDict):
    """Device and dtype of a tensor, as arguments for torch's functions."""

    device: torch.device
    dtype: torch.dtype


def image_options() -> ImageOptions:
    """Return the device and dtype of images that travel between nodes."""
    dtype = getattr(model_management, "intermediate_dtype", lambda: torch.float32)()
    return {"device": model_management.intermediate_device(), "dtype": dtype}
