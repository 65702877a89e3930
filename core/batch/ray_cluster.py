"""Photos in bulk on the machines of a Ray cluster, or in worker processes of this one.

Workers are Ray actors that take one photo after the other; what becomes of photos and results is bulk.py's. A worker that
dies is started again, on another machine if need be, and its photos are done again: nothing is lost, since a result
appears under its name as a whole. These are plain actors, not a Ray Dataset: a photo that cannot be read is passed over,
and each result is written under its own name, in its own format, at once. The file systems are Ray Data's (places.py).
"""

from __future__ import annotations

import importlib
import math
import os
import re
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..devices import pick_device
from ..errors import InputError, PerceptualStyleError
from ..files import remove_leftovers
from ..optional import need
from .local import MEMORY_SHARE, Outcome, Processor, Treatment
from .places import Job, is_there, is_uri

_IN_HAND = 3  # photos of a worker: one is read and one written while one is computed
_ANSWER_SECONDS = 10  # that a cluster has to answer in


def process_on_ray(
    jobs: Sequence[Job],
    treatment: Treatment,
    address: str = "local",
    workers: int | None = None,
    device: str = "auto",
) -> Iterator[Outcome]:
    """As `bulk.process_photos`, on a Ray cluster.

    address: of the cluster, as ray.init takes it ("auto", "ray://head:10001", ...); "local": worker processes here
    workers: how many at the same time; None: one for each GPU of the cluster, or without GPUs for each core
    device: where they compute: auto, cpu, cuda, ...

    Every machine needs this package, and needs to see the same folders: paths are the same on all of them, or URIs.
    Raises InputError when there is no Ray, or no such cluster, PerceptualStyleError when workers cannot start.
    """
    ray = need("ray", "ray", "--ray computes in the workers of Ray")
    if workers is not None and workers < 1:
        raise InputError(f"the number of workers is {workers}; expected 1 or more")
    jobs = [replace(job, source=_absolute(job.source), target=_absolute(job.target)) for job in jobs]
    ours = bool(jobs) and not ray.is_initialized()
    if ours:
        _connect(ray, address, workers)
    return _process(ray, jobs, treatment, workers, device, ours)


def _process(
    ray: Any, jobs: list[Job], treatment: Treatment, workers: int | None, device: str, ours: bool
) -> Iterator[Outcome]:
    """ours: whether to leave the cluster at the end."""
    if not jobs:
        return
    folders = {str(Path(job.target).parent) for job in jobs if not is_uri(job.target)}
    try:
        for folder in folders:
            remove_leftovers(folder)
        shipped = ray.put(treatment)  # held until the end: a worker that is started again asks for it again
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
        raise InputError("the Ray cluster has neither GPUs nor CPUs to work with; add a machine")
    count = min(workers or units, jobs)
    options = {"num_gpus" if gpus else "num_cpus": 1 / math.ceil(count / units)}  # more workers than units share them
    on_each = math.ceil(count / max(1, sum(node["Alive"] for node in ray.nodes())))
    actor = ray.remote(max_restarts=-1, max_task_retries=1, max_concurrency=_IN_HAND, **options)(Worker)
    return [actor.remote([shipped], device, MEMORY_SHARE / on_each) for _ in range(count)]


def _distribute(ray: Any, jobs: list[Job], workers: list[Any]) -> Iterator[Outcome]:
    """Give each worker so many jobs that it never waits, and the next one when one is done.

    Photos whose worker died with them twice come last and alone: one of them may be what it died of.
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
        died = Outcome(job, error=f"each worker that had {job.source} died; it may be too large for their memory")
        yield _outcome(ray, workers[0].process.remote(job)) or died


def _outcome(ray: Any, result: Any) -> Outcome | None:
    """None when the worker died; raises RayError when none can start."""
    try:
        return ray.get(result)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        if getattr(error, "actor_init_failed", False):
            raise
        return None


class Worker:
    """What runs in Ray's processes: carries out jobs on one device, several threads at a time."""

    def __init__(self, shipped: list[Any], device: str, memory_share: float) -> None:
        """shipped: the reference to a Treatment, in a list: Ray would not fetch it again for a worker that it restarts."""
        treatment = importlib.import_module("ray").get(shipped[0])
        self._processor = Processor(treatment, [pick_device(device)], cores=1, memory_share=memory_share)

    def process(self, job: Job) -> Outcome:
        # Where nothing was, another worker has written this result and died before it could say so.
        return Outcome(job) if job.new and is_there(job.target) else self._processor(job)


def _absolute(place: str) -> str:
    return place if is_uri(place) else os.path.abspath(place)


def _last_line(error: Exception) -> str:
    return getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
