"""The memory that is free: on a device, and for this process within the limits of containers and of the process itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

_UNKNOWN = 1 << 30  # bytes taken as free on a GPU that does not tell
_NO_LIMIT = 1 << 60  # cgroup v1 writes its absence as a number near 2^63


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free where ``device`` computes, those that torch keeps for reuse included."""
    if device.type in ("cpu", "mps"):  # Apple's GPUs share the machine's memory, up to a share of it
        return available_memory() if device.type == "cpu" else min(available_memory(), _left_for_mps())
    backend: Any = getattr(torch, device.type, None)
    if not hasattr(backend, "memory_reserved"):  # DirectML does not tell
        return min(available_memory(), _UNKNOWN)
    reserved, allocated = backend.memory_reserved(device), backend.memory_allocated(device)
    try:
        free = backend.mem_get_info(device)[0]
    except (AttributeError, RuntimeError):  # Intel's GPUs before torch 2.6, and those whose driver does not tell
        free = backend.get_device_properties(device).total_memory - reserved
    return max(0, free + reserved - allocated)


def _left_for_mps() -> int:
    most = getattr(torch.mps, "recommended_max_memory", None)  # torch 2.5 and newer
    return available_memory() if most is None else max(0, most() - torch.mps.current_allocated_memory())


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that are free for this process.

    The least of what the machine has available, what each control group of the process leaves (cgroup v1 and v2), and
    what RLIMIT_AS and RLIMIT_DATA leave.

    Args:
        root: folder that holds ``proc`` and ``sys``
    """
    return max(0, min([psutil.virtual_memory().available, *_left_by_groups(root), *_left_by_process()]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what the memory limit of each control group leaves, from the process's own group to the root."""
    places = root / "sys/fs/cgroup"
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            for mount in (places, places / "unified"):
                yield from _left(mount, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left(places / "memory", path, *names)


def _left(mount: Path, path: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Yield what the groups along a path leave. In a container, the path may not exist: its group is the mount."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        group = mount.joinpath(*parts[:depth])
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            most = int((group / limit).read_text())
            if most < _NO_LIMIT:
                yield most - int((group / usage).read_text()) + _cached(group, cache)


def _cached(group: Path, key: str) -> int:
    """Return the bytes of files that the system drops when memory is needed."""
    with suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == key:
                return int(number)
    return 0


def _left_by_process() -> Iterator[int]:
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limits
        import resource

        used = psutil.Process().memory_info()
        for limit, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", None))):
            most, _ = resource.getrlimit(limit)
            if most != resource.RLIM_INFINITY and taken is not None:  # macOS does not say how much is data
                yield most - taken
