"""Everything this pack needs of ComfyUI, in one place: the only file that imports it."""

from __future__ import annotations

import contextlib
import gc
import inspect
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import ComfyExtension, io, ui  # noqa: F401  (nodes take them from here)
from PIL import Image
from server import PromptServer

from ..core.devices import release_memory
from ..core.models.stylizer import BaseStyle
from ..core.models.upscale_model import UpscaleModel
from ..core.progress import Progress, ProgressCallback
from ..core.training.state import CHECKPOINT_SUFFIX

#: Not core's STYLE_MODEL, which is another thing.
StyleModelType = io.Custom("PERCEPTUAL_STYLE_MODEL")

STYLE_FOLDER, UPSCALE_FOLDER, LOSS_FOLDER = "fast_style", "perceptual_upscale", "loss_networks"
_CHECKPOINTS = {".safetensors", ".pth", ".pt", ".model", ".t7", ".onnx"}
_SUFFIXES = {
    STYLE_FOLDER: _CHECKPOINTS,
    UPSCALE_FOLDER: _CHECKPOINTS,
    LOSS_FOLDER: {".safetensors", ".pth", ".pt"},
}


def register_folders() -> None:
    """Add our folders to the host's model folders; folders mapped in extra_model_paths.yaml stay."""
    for name, ours in _SUFFIXES.items():
        folder = os.path.join(folder_paths.models_dir, name)
        folder_paths.add_model_folder_path(name, folder)
        with contextlib.suppress(OSError):  # a read-only installation works as well
            os.makedirs(folder, exist_ok=True)
        # The host registers a folder without suffixes, which would list every file in it.
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(suffixes) | ours)


register_folders()

_PREVIEW_SECONDS, _PREVIEW_SIDE = 0.5, 512  # the host makes a JPEG of each


def folders(name: str) -> list[Path]:
    """The host's folders of a kind of model; the first is the one to write to."""
    return [Path(path) for path in folder_paths.folder_names_and_paths[name][0]]


def advanced(make: Any, *arguments: Any, **options: Any) -> Any:
    """An input that newer hosts show among the advanced ones only."""
    if "advanced" in inspect.signature(make).parameters:
        options["advanced"] = True
    return make(*arguments, **options)


def search_aliases(*words: str) -> dict[str, list[str]]:
    """Arguments for a schema: other words that newer hosts find a node by."""
    return {"search_aliases": list(words)} if "search_aliases" in inspect.signature(io.Schema).parameters else {}


def model_files(folder: str) -> list[str]:
    """Names of the files in one of our folders, relative to it.

    Checkpoints of unfinished trainings are left out, and so are hidden files: those being written, and macOS's ``._*``.
    """
    paths = map(Path, folder_paths.get_filename_list(folder))
    return [
        str(path)
        for path in paths
        if path.suffix.lower() in _SUFFIXES[folder]
        and not any(part.startswith(".") for part in path.parts)
        and not path.name.endswith(CHECKPOINT_SUFFIX)
    ]


def model_path(folder: str, name: str) -> Path | None:
    """The file of a name that `model_files` gives, None for any other: names come from outside and are never trusted."""
    return listed_path(folder, name) if name in model_files(folder) else None


def listed_path(folder: str, name: str) -> Path | None:
    """The file of a name that `model_files` has just given."""
    path = folder_paths.get_full_path(folder, name)
    return None if path is None else Path(path)


def input_folders() -> list[str]:
    """Names of the folders in the host's input folder, and in those."""
    return sorted(folder_paths.get_input_subfolders())


def input_folder(name: str) -> Path | None:
    """The folder of a name that `input_folders` gives, None for any other."""
    return Path(folder_paths.get_input_directory()) / name if name in input_folders() else None


def temporary_folder() -> Path:
    """Where the host keeps what may be gone when it is started again."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class HostedModel:
    """A model whose networks the host moves between devices as it does its own models."""

    model: BaseStyle | UpscaleModel
    patchers: tuple[ModelPatcher, ...]

    @classmethod
    def of(cls, model: BaseStyle | UpscaleModel, *parts: HostedModel) -> HostedModel:
        """A model, or one that is made of those that are hosted already: the host knows each network once."""
        load, offload = model_management.get_torch_device(), model_management.unet_offload_device()
        known = {id(patcher.model): patcher for part in parts for patcher in part.patchers}
        return cls(
            model,
            tuple(
                known.get(id(network)) or ModelPatcher(network, load_device=load, offload_device=offload)
                for network in model.networks
            ),
        )

    def load(self, height: int, width: int, **options: Any) -> torch.device:
        """Bring the networks to their device, making room for images of this size beside them; returns the device.

        options: of the model's working_bytes
        """
        device = self.patchers[0].load_device
        needed = self.model.working_bytes(height, width, device, **options)
        model_management.load_models_gpu(list(self.patchers), memory_required=needed)
        for network in self.model.networks:
            network.to(device)  # dynamic loading leaves parameters of foreign modules where they were
        return device


@contextlib.contextmanager
def whole_device() -> Iterator[torch.device]:
    """The host's device, for work that needs all of its memory: other models are unloaded, and what was used is given back."""
    model_management.unload_all_models()
    model_management.soft_empty_cache()
    try:
        yield model_management.get_torch_device()
    finally:
        model_management.soft_empty_cache()


def intermediate() -> dict[str, torch.device | torch.dtype]:
    """Where, and as what, images travel between nodes: arguments for tensor factories."""
    dtype = getattr(model_management, "intermediate_dtype", lambda: torch.float32)()
    return {"device": model_management.intermediate_device(), "dtype": dtype}


def progress_callback(images: int) -> ProgressCallback:
    """A callback for ``images`` calls of core in a row, each of which counts from above 0 to a total.

    It draws the host's bar, shows previews, and raises the host's exception once the user interrupts.
    """
    bar = comfy.utils.ProgressBar(images * 1000)
    finished, last, shown = 0, 0.0, -math.inf

    def report(progress: Progress) -> None:
        nonlocal finished, last, shown
        model_management.throw_exception_if_processing_interrupted()
        share = progress.done / progress.total
        if share < last or last == 1:  # one step can be all that an image takes
            finished += 1
        last = share
        preview = None
        if progress.preview is not None and (share == 1 or time.monotonic() - shown >= _PREVIEW_SECONDS):
            shown = time.monotonic()
            preview = _preview(progress.preview)
        bar.update_absolute(min(round(1000 * (finished + share)), images * 1000), images * 1000, preview)

    return report


@contextlib.contextmanager
def training() -> Iterator[torch.device]:
    """`whole_device` for a training, outside of the inference mode in which the host runs nodes.

    Tensors that were made before are still inference tensors: clone what gradients are to go through.
    """
    try:
        with whole_device() as device, torch.inference_mode(False):
            yield device
    finally:
        gc.collect()
        release_memory(torch.device("cpu"))


def training_callback(node_id: str | None) -> ProgressCallback:
    """A callback for a training: the host's bar counts steps and shows previews, the node the time that is left.

    Notes go to the log. Once the user interrupts, it raises the host's exception.
    """
    bar = comfy.utils.ProgressBar(1)
    log, shown = logging.getLogger(__name__), -1.0

    def report(progress: Progress) -> None:
        nonlocal shown
        for note in progress.notes:
            log.warning("TrainStyle: %s", note)
        preview = None if progress.preview is None else _preview(progress.preview)
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(progress.done, progress.total, preview)
        if node_id is not None and (time.monotonic() - shown > 1 or progress.done == progress.total):
            shown = time.monotonic()
            PromptServer.instance.send_progress_text(_in_words(progress), node_id)

    return report


def _in_words(progress: Progress) -> str:
    """Steps, time and objective in one line."""
    if not progress.done or progress.seconds_left is None:
        return f"getting ready for {progress.total} steps"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"step {progress.done} of {progress.total}, {left} left, objective {sum(progress.losses.values()):.3g}"


def _preview(image: torch.Tensor) -> tuple[str, Image.Image, int]:
    """(1, 3, H, W) in [0, 1] as the host takes previews: format, picture, longest side (to which it would enlarge, too)."""
    picture = Image.fromarray(image[0].clamp(0, 1).mul(255).round().byte().movedim(0, -1).cpu().numpy())
    return "JPEG", picture, min(_PREVIEW_SIDE, max(picture.size))
