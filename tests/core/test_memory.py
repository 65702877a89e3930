"""Free memory within the limits of containers (cgroup v1 and v2) and of the process."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
from perceptual_style.core.memory import available_memory

MiB = 1 << 20


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes files of a machine with 64 GiB available; returns its root."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 << 30))
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def make(groups: str, **files: object):
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return make


def test_machine_without_limits(machine):
    assert available_memory(machine("")) == 64 << 30
    assert available_memory(machine("0::/\n", **{"memory.max": "max", "memory.current": 5})) == 64 << 30
    assert available_memory(machine("nonsense\n4:memory:/\n")) == 64 << 30


def test_limit_of_version_2_without_file_cache(machine):
    files = {"memory.max": 1000 * MiB, "memory.current": 700 * MiB, "memory.stat": f"anon 5\ninactive_file {100 * MiB}"}
    assert available_memory(machine("0::/\n", **files)) == 400 * MiB
    assert available_memory(machine("0::/not/seen/in/the/container\n", **files)) == 400 * MiB


def test_smallest_limit_along_the_path_counts(machine):
    files = {
        "a/memory.max": 500 * MiB, "a/memory.current": 450 * MiB,
        "a/b/memory.max": 400 * MiB, "a/b/memory.current": 100 * MiB,
    }  # fmt: skip
    assert available_memory(machine("0::/a/b\n", **files)) == 50 * MiB


def test_limit_of_version_1(machine):
    files = {
        "memory/c/memory.limit_in_bytes": 300 * MiB, "memory/c/memory.usage_in_bytes": 290 * MiB,
        "memory/c/memory.stat": f"total_inactive_file {90 * MiB}",
        "memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 5,
    }  # fmt: skip
    assert available_memory(machine("9:cpu:/\n4:memory:/c\n0::/\n", **files)) == 100 * MiB


def test_used_up_limit_leaves_nothing(machine):
    assert available_memory(machine("0::/\n", **{"memory.max": 5 * MiB, "memory.current": 7 * MiB})) == 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems lack these limits or numbers")
@pytest.mark.parametrize(("limit", "used"), [("RLIMIT_AS", "vms"), ("RLIMIT_DATA", "data")])
def test_limits_of_the_process(limit, used, run_new_python):
    process = run_new_python(
        "import psutil, resource\n"
        "from perceptual_style.core.memory import available_memory\n"
        f"used = psutil.Process().memory_info().{used}\n"
        f"resource.setrlimit(resource.{limit}, (used + (64 << 20), resource.RLIM_INFINITY))\n"
        "assert 32 << 20 < available_memory() <= 64 << 20, available_memory()\n"
    )
    assert process.returncode == 0, process.stderr
