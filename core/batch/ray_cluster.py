"""Process many photos on the machines of a Ray cluster, or in worker processes on this machine.

Workers are Ray actors that take one photo after the other and process it as local.py does. A worker that dies is
restarted, on another machine if necessary, and its photos are processed again. Nothing is lost, because no result is
ever left half-written.

These are plain actors, not a Ray Dataset: a photo that cannot be read is skipped, and each result is written at once,
under its own name and in its own format. The file systems are the ones of Ray Data (places.py).
"""

from __future__ import annotations

import importlib
import math
import os
import re
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..devices import pick_device
from ..errors import InputError, PerceptualStyleError
from ..files import remove_leftovers
from ..optional import need
from .local import MEMORY_SHARE, Outcome, Processor, Treatment
from .places import Job, is_there, is_uri

_IN_HAND = 3  # photos of a worker: one is read and one is written while one is computed
_ANSWER_SECONDS = 10  # time that a cluster has to answer


def process_on_ray(
    jobs: Sequence[Job],
    treatment: Treatment,
    address: str = "local",
    workers: int | None = None,
    device: str = "auto",
) -> Generator[Outcome, None, None]:
    """Carry out jobs on a Ray cluster and yield their outcomes, as `local.process_photos` does.

    Every machine needs this package and access to the photos: by paths that are the same on all machines, or by URIs.

    Args:
        jobs: The jobs.
        treatment: What is done to each photo.
        address: Address of the cluster, as for ray.init ("auto", "ray://head:10001", ...), or "local" for worker
            processes on this machine.
        workers: Number of workers. If None, one for each GPU of the cluster or, without GPUs, for each core.
        device: Device that the workers compute on: auto, cpu, cuda, ...

    Raises:
        InputError: If Ray is not installed, or there is no such cluster.
        PerceptualStyleError: If workers cannot start.
    """
    ray = need("ray", "ray", "--ray uses Ray's workers")
    if workers is not None and workers < 1:
        raise InputError(f"the number of workers is {workers}; expected 1 or more")
    jobs = [replace(job, source=_absolute(job.source), target=_absolute(job.target)) for job in jobs]
    ours = bool(jobs) and not ray.is_initialized()
    if ours:
        _connect(ray, address, workers)
    return _process(ray, jobs, treatment, workers, device, ours)


def _process(
    ray: Any, jobs: list[Job], treatment: Treatment, workers: int | None, device: str, ours: bool
) -> Generator[Outcome, None, None]:
    """Yield the outcomes; if the connection is ours, leave the cluster at the end."""
    if not jobs:
        return
    folders = {str(Path(job.target).parent) for job in jobs if not is_uri(job.target)}
    try:
        for folder in folders:
            remove_leftovers(folder)
        shipped = ray.put(treatment)  # kept until the end: a restarted worker fetches it again
        yield from _distribute(ray, jobs, _start_workers(ray, len(jobs), shipped, workers, device))
    except ray.exceptions.RayError as error:
        raise PerceptualStyleError(f"Ray's workers have stopped: {_last_line(error)}") from None
    finally:
        if ours:
            ray.shutdown()
        for folder in folders:
            remove_leftovers(folder)


def _connect(ray: Any, address: str, workers: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        if found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
            socket.create_connection((found[1], int(found[2])), _ANSWER_SECONDS).close()  # Ray tries for minutes
        ray.init(address=address, **options)
    except Exception as error:
        raise InputError(
            f"there is no Ray cluster at {address!r} ({_last_line(error)}); expected an address or local"
        ) from None


def _start_workers(ray: Any, jobs: int, shipped: Any, workers: int | None, device: str) -> list[Any]:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if device not in ("cpu", "mps") else 0
    units = gpus or int(resources.get("CPU", 0))
    if not units:
        raise InputError("the Ray cluster has no GPUs or CPUs to work with; add a machine")
    count = min(workers or units, jobs)
    options = {"num_gpus" if gpus else "num_cpus": 1 / math.ceil(count / units)}  # more workers than units share them
    on_each = math.ceil(count / max(1, sum(node["Alive"] for node in ray.nodes())))
    actor = ray.remote(max_restarts=-1, max_task_retries=1, max_concurrency=_IN_HAND, **options)(Worker)
    return [actor.remote([shipped], device, MEMORY_SHARE / on_each) for _ in range(count)]


def _distribute(ray: Any, jobs: list[Job], workers: list[Any]) -> Iterator[Outcome]:
    """Give each worker enough jobs that it never waits, and the next job when one ends.

    Photos that lost their worker twice are processed last, one at a time: one of them may be the cause.
    """
    waiting, suspects = deque(jobs), []
    running: dict[Any, tuple[Job, Any]] = {}

    def give(worker: Any) -> None:
        if waiting:
            job = waiting.popleft()
            running[worker.process.remote(job)] = job, worker

    for _ in range(_IN_HAND + 1):
        for worker in workers:
            give(worker)
    while running:
        ended, _ = ray.wait(list(running), timeout=1.0)
        for each in ended:
            job, worker = running.pop(each)
            outcome = _outcome(ray, each)
            if outcome is None:
                suspects.append(job)
            else:
                yield outcome
            give(worker)
    for job in suspects:
        died = Outcome(
            job, error=f"each worker that had {job.source} died; the photo may be too large for their memory"
        )
        yield _outcome(ray, workers[0].process.remote(job)) or died


def _outcome(ray: Any, result: Any) -> Outcome | None:
    """Return the outcome, or None if the worker died. Raises RayError if no worker can start."""
    try:
        return ray.get(result)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        if getattr(error, "actor_init_failed", False):
            raise
        return None


class Worker:
    """A Ray actor that carries out jobs on one device, in several threads."""

    def __init__(self, shipped: list[Any], device: str, memory_share: float) -> None:
        """Fetch the treatment.

        Args:
            shipped: Reference to the Treatment, in a list. Without the list, Ray would not fetch it again for a worker
                that it restarts.
            device: Name of the device.
            memory_share: Share of the machine's free memory for all photos in hand.
        """
        treatment = importlib.import_module("ray").get(shipped[0])
        self._processor = Processor(treatment, [pick_device(device)], cores=1, memory_share=memory_share)

    def process(self, job: Job) -> Outcome:
        """Carry out a job, unless another worker has."""
        # A result that did not exist before was written by a worker that died before it could report it.
        return Outcome(job) if job.new and is_there(job.target) else self._processor(job)


def _absolute(place: str) -> str:
    return place if is_uri(place) else os.path.abspath(place)


def _last_line(error: Exception) -> str:
    return getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
