"""What a model does to the frames of a video, on each device that takes part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..devices import torch_threads
from ..engine.memory_plan import SHARE
from ..memory import free_memory
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..progress import ProgressCallback
from .pipeline import FrameFunction

_PIXEL_BYTES = 12  # of a frame
_COPIES = 3  # of a frame and of its result, in hand at a time


def frame_functions(
    model: BaseStyle | UpscaleModel,
    compute: Callable[..., Tensor],
    devices: Sequence[torch.device],
    height: int,
    width: int,
    *,
    precision: str = "auto",
    memory: int | None = None,
    planned: Mapping[str, Any] | None = None,
) -> list[FrameFunction]:
    """Return functions for `process_video`, one for each device, but on a CPU only as many as its memory holds.

    Args:
        model: The style or upscaler.
        compute: Computes a frame, as `StyleModel.stylize` does. Devices of different kinds get copies of it.
        devices: One device for each frame that is computed at the same time, see `devices.pick_devices`.
        height: Height of the frames in px.
        width: Width of the frames in px.
        precision: As in `StyleModel.stylize`.
        memory: As in `StyleModel.stylize`. On a CPU, all frames share it.
        planned: Further options of the model's ``working_bytes``.
    """
    on_cpu = devices[0].type == "cpu"
    if on_cpu:
        working = model.working_bytes(height, width, devices[0], precision, memory, **(planned or {}))
        needed = working + height * width * _PIXEL_BYTES * _COPIES * (1 + model.spec.scale**2)
        room = int(free_memory(devices[0]) * SHARE) if memory is None else memory
        devices = devices[: max(1, room // (needed if memory is None else working))]
    usual = torch.get_num_threads()
    threads = max(1, usual // len(devices)) if on_cpu else usual
    copies: dict[torch.device, Callable[..., Tensor]] = {}
    for device in devices:
        copies.setdefault(device, copy.deepcopy(compute) if copies else compute)
    return [_OnDevice(copies[device], device, precision, memory, threads, usual) for device in devices]


@dataclass(frozen=True)
class _OnDevice:
    compute: Callable[..., Tensor]
    device: torch.device
    precision: str
    memory: int | None
    threads: int
    usual: int

    def __call__(self, frame: Tensor, progress: ProgressCallback | None) -> Tensor:
        with torch_threads(self.threads, self.usual):
            return self.compute(frame.to(self.device), precision=self.precision, memory=self.memory, progress=progress)
