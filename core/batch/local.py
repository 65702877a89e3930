"""Process many photos with one model: read and write some while others are computed, in bounded memory.

Each thread takes one photo through all steps, from its file to the file of its result. There are more threads than
photos that are computed at once, so that no core or GPU waits for a decoder, an encoder or a disk. "In hand" are the
photos that some thread is working on.
"""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..devices import is_out_of_memory, torch_threads
from ..errors import Cancelled, ImageError, NetworkError, PerceptualStyleError
from ..files import remove_leftovers
from ..images.masks import enlarge_alpha
from ..images.reading import ImageFile, count_frames, decode_frames, decode_image, image_size
from ..memory import free_memory
from ..models.finite import checked_later
from ..models.stylizer import BaseStyle
from ..models.transfers import Transfers
from ..models.upscale_model import UpscaleModel
from ..progress import Progress
from .places import Job, check_result, is_uri, open_photo, takes_frames, write_photo

MEMORY_SHARE = 0.6  # share of the free memory that all photos in hand may use together
_OF_PHOTO, _OF_RESULT = 20, 24  # bytes per pixel: as floats, as bytes and in the encoded file
_OF_FRAME = 8  # bytes per pixel of a frame that waits for the others, with alpha and up to 16 bits per channel
_SPARE_ON_CPU = 2  # photos in hand in addition to those that are computed
_SPARE_ON_GPU = 32  # the most of them on a GPU, which is faster than many encoders
_PATIENCE = 5.0  # seconds that running work has to stop
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Treatment:
    """The computation for each photo: a method of a model, and its arguments.

    Attributes:
        model: The model.
        compute: A method of the model such as `StyleModel.stylize`, or a partial of one.
        precision: Argument of ``compute``.
        memory: Argument of ``compute``. On a CPU it is shared by all photos that are computed at once.
        planned: Options of the model's working_bytes.
        in_order: Whether photos must be computed one after the other because ``compute`` remembers them.
    """

    model: BaseStyle | UpscaleModel
    compute: Callable[..., Tensor]
    precision: str = "auto"
    memory: int | None = None
    planned: Mapping[str, Any] = field(default_factory=dict)
    in_order: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job. Each optional part is one line of text.

    Attributes:
        job: The job.
        error: Why there is no result.
        warning: What the result's format could not hold.
        note: The photo's size and memory.
    """

    job: Job
    error: str | None = None
    warning: str | None = None
    note: str | None = None


def process_photos(
    jobs: Sequence[Job], treatment: Treatment, devices: Sequence[torch.device]
) -> Generator[Outcome, None, None]:
    """Carry out jobs and yield their outcomes in the order in which they end.

    If a photo cannot be read, computed or written, its outcome has an error, and the others continue. Closing the
    generator stops the work. No result is ever left half-written.

    Args:
        jobs: The jobs.
        treatment: What is done to each photo.
        devices: One device for each photo that is computed at the same time, see `pick_devices`. With
            ``treatment.in_order`` only the first one is used.
    """
    for folder in {str(Path(job.target).parent) for job in jobs if not is_uri(job.target)}:
        remove_leftovers(folder)
    devices = devices[: 1 if treatment.in_order else max(1, len(jobs))]
    processor = Processor(treatment, devices)
    spare = _SPARE_ON_CPU if processor.on_cpu else min(_SPARE_ON_GPU, os.cpu_count() or 1)
    spare = 0 if treatment.in_order else spare
    waiting, next_one = iter(jobs), threading.Lock()
    ended: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            while True:
                with next_one:
                    job = next(waiting, None)
                if job is None:
                    return
                ended.put(processor(job))
        except BaseException as error:
            ended.put(error)

    # Daemon threads delay the end of the program by at most _PATIENCE, even if a disk does not respond.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(devices) + spare, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            yield _wait_for(ended)
    finally:
        processor.stop()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))


def _wait_for(ended: queue.SimpleQueue[Outcome | BaseException]) -> Outcome:
    while True:
        with contextlib.suppress(queue.Empty):
            found = ended.get(timeout=0.5)  # without a timeout, Windows would block Ctrl-C
            if isinstance(found, BaseException):
                raise found
            return found


class Processor:
    """Carries out one job in each thread that calls it, and computes as many photos at a time as it has devices.

    Fewer large photos are in hand at a time, and each is then computed by more cores.

    Args:
        treatment: What is done to each photo.
        devices: One device for each photo that is computed at the same time.
        cores: CPU cores for all photos together. If None, as many as torch would use for one.
        memory_share: Share of the free memory for all photos in hand.
    """

    def __init__(
        self,
        treatment: Treatment,
        devices: Sequence[torch.device],
        cores: int | None = None,
        memory_share: float = MEMORY_SHARE,
    ) -> None:
        self.on_cpu = devices[0].type == "cpu"
        self._treatment, self._devices = treatment, devices
        self._usual_threads = torch.get_num_threads()
        self._cores = cores or self._usual_threads
        self._all = int(free_memory(_CPU) * memory_share)
        self._in_hand = Room(self._all)
        self._budget = Room(treatment.memory if self.on_cpu and treatment.memory else inf)
        self._stopped = threading.Event()
        self._free: queue.SimpleQueue[tuple[torch.device, Treatment, Transfers]] = queue.SimpleQueue()
        copies: dict[torch.device, Treatment] = {}
        for device in devices:  # each needs its own network
            if device not in copies:
                copies[device] = copy.deepcopy(treatment) if copies else treatment
            self._free.put((device, copies[device], Transfers(device)))

    def stop(self) -> None:
        """Make all running and later calls raise Cancelled."""
        self._stopped.set()

    def __call__(self, job: Job) -> Outcome:
        """Carry out one job. Raises Cancelled, and any error that no particular photo caused."""
        model, precision, memory = self._treatment.model, self._treatment.precision, self._treatment.memory
        try:
            self._check()
            with open_photo(job.source) as file:
                height, width = image_size(file, job.source)
                check_result(job.target, *(side * model.spec.scale for side in (height, width)))
                working = model.working_bytes(
                    height, width, self._devices[0], precision, memory, **self._treatment.planned
                )
                count = count_frames(file, job.source)
                several = count > 1 and takes_frames(job.target)
                others = (_OF_FRAME * (count - 1) * height * width * model.spec.scale**2) if several else 0
                if others > self._all:
                    raise ImageError(
                        f"{job.source}: its {count} frames need about {others / 2**30:.1f} GiB of memory, more than the "
                        f"{self._all / 2**30:.1f} GiB that may be used; extract them and give their folder"
                    )
                needed = height * width * (_OF_PHOTO + _OF_RESULT * model.spec.scale**2) + others
                needed += working if self.on_cpu else 0
                with self._in_hand.take(needed):
                    frames = decode_frames(file, job.source) if several else [decode_image(file, job.source)]
                    notes: dict[str, None] = {}
                    results = self._results(frames, working, self._threads(needed), notes)
                    # The frames of an animation are computed while they are collected.
                    warning = write_photo(job.target, results if several else list(results))
            if count > 1 and not several:
                notes[f"it has {count} frames, and only the first is written; use .gif, .webp, .png or .tif"] = None
            lines = [f"{job.source}: {'; '.join(notes)}"] if notes else []
            warning = "; ".join([*lines, *([warning] if warning else [])]) or None
            note = f"{job.source}: {width}x{height} px, working in {working / 2**20:,.0f} MiB"
            return Outcome(job, warning=warning, note=note)
        except Cancelled:
            raise
        except NetworkError as error:
            return Outcome(job, error=f"{job.source}: {error}")
        except PerceptualStyleError as error:
            return Outcome(job, error=str(error) if job.source in str(error) else f"{job.source}: {error}")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return Outcome(job, error=f"there is not enough memory for {job.source}; make it smaller")

    def _threads(self, needed: int) -> int:
        """Return the cores for a photo, supposing that all others in hand are as large."""
        at_once = max(1, min(len(self._devices), self._all // needed))
        return max(1, self._cores // at_once)

    def _results(
        self, images: Iterable[ImageFile], working: int, threads: int, notes: dict[str, None]
    ) -> Iterator[ImageFile]:
        """Yield the results of a photo or of frames, and collect notes on them."""
        for image in images:
            notes.update(dict.fromkeys(image.notes))
            yield self._compute(image, working, threads)
            self._check()

    def _compute(self, image: ImageFile, working: int, threads: int) -> ImageFile:
        """Wait for a free device and return the result. A GPU is free for the next photo before it has finished this one."""
        with checked_later():
            slot = device, treatment, transfers = self._free.get()
            try:
                with self._budget.take(working), torch_threads(threads, self._usual_threads):
                    self._check()
                    result = treatment.compute(
                        transfers.upload(image.filled),
                        precision=treatment.precision,
                        memory=treatment.memory,
                        progress=self._check,
                    )
                    arrived = transfers.download(result)
                    del result
            finally:
                self._free.put(slot)
            pixels = arrived().cpu()
        alpha, scale = image.alpha, treatment.model.spec.scale
        if alpha is not None and scale > 1:
            alpha = enlarge_alpha(alpha, scale)
        return replace(image, pixels=pixels, alpha=alpha)

    def _check(self, progress: Progress | None = None) -> None:
        if self._stopped.is_set():
            raise Cancelled("stopped")


class Room:
    """A budget of ``size`` bytes that threads share. A thread that needs more than that gets all of it."""

    def __init__(self, size: float) -> None:
        self._size, self._taken, self._changed = size, 0.0, threading.Condition()

    @contextlib.contextmanager
    def take(self, size: float) -> Iterator[None]:
        """Wait until ``size`` bytes are free, and hold them in the ``with`` block."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
