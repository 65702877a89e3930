"""Plans for devices with little memory, and what is tried when memory runs out."""

from __future__ import annotations

import pytest
import torch
from helpers import frozen, style_model
from perceptual_style.core.engine import memory_plan
from perceptual_style.core.engine.formats import number_formats
from perceptual_style.core.engine.memory_plan import MemoryPlan, Planner
from perceptual_style.core.models.network_runner import bytes_to_free

CUDA = torch.device("cuda")  # only its name is used: planning allocates nothing
STYLE = "c9s1-16,d32,d64,R64x5,n2,c3s1-32,n2,c3s1-16,c9s1-3 padding=reflect"
NO_NORM = "c9s1-16,R16x2,p4-3 norm=none padding=zero base=bicubic output=linear"


def planner(arch: str, free: int, monkeypatch: pytest.MonkeyPatch, precision: str = "fp32") -> Planner:
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: free)
    return Planner(frozen(arch), 1080, 1920, CUDA, number_formats(CUDA, precision))


@pytest.mark.parametrize("free", [0, 64 << 20, 80 << 30])
def test_host_is_asked_to_free_enough_for_the_fastest_plan(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = style_model(STYLE)
    fastest = planner(STYLE, 80 << 30, monkeypatch, "auto").best()
    planner(STYLE, free, monkeypatch)
    asked = bytes_to_free(model, 1080, 1920, CUDA)
    assert asked > fastest.bytes
    found = planner(STYLE, asked, monkeypatch, "auto").best()
    assert found.whole and fastest.whole


def test_host_of_a_cpu_is_asked_for_the_plan() -> None:
    model = style_model(STYLE)
    assert bytes_to_free(model, 64, 64, torch.device("cpu")) == model.working_bytes(64, 64, torch.device("cpu"))


def ways(start: Planner) -> list[MemoryPlan]:
    """Return the plan that is chosen, and those that follow while memory runs out again and again."""
    found = [start.best()]
    while (following := start.after(found[-1])) is not None:
        found.append(following)
    return found


@pytest.mark.parametrize("free", [80 << 30, 512 << 20, 0])
def test_running_out_of_memory_ends_with_maps_of_the_host(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = ways(planner(STYLE, free, monkeypatch))
    assert [one.bytes for one in tried] == sorted((one.bytes for one in tried), reverse=True)
    assert tried[-1].host_maps and len(set(tried)) == len(tried)


def test_running_out_of_memory_leads_to_slabs_without_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    slabs = [one.slab for one in ways(planner(NO_NORM, 80 << 30, monkeypatch)) if one.slab]
    assert len(slabs) > 2 and slabs == sorted(slabs, reverse=True)
