"""How much the engine launches, waits for and holds on a CUDA device without numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from perceptual_style.core import build_network
from perceptual_style.core.engine import engine as engine_module
from perceptual_style.core.engine import feature_maps, memory_plan, passes, torch_kernels
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.memory_plan import MemoryPlan
from perceptual_style.core.images import bicubic
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.objective import Objective, ObjectiveWeights
from pretended.fake_cuda import Recorder, fake_cuda, put
from small_networks import vgg16
from torch import Tensor

FULL = "c9s1-32,d64,d128,R128x5,n2,c3s1-64,n2,c3s1-32,c9s1-3 norm=instance padding=reflect"
UPSCALER = "c3s1-64,R64x8,p2-64,p2-64,c9s1-3 norm=batch padding=zero output=linear base=bicubic"
SMALL = "c9s1-16,d32,d32,R32x2,n2,c3s1-16,n2,c3s1-16,c9s1-3 norm=instance padding=reflect"
NO_NORM = "c9s1-32,R32x4,c3s1-3 norm=none padding=zero output=linear"


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 40 << 30)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(passes, "PinnedPool", lambda size, device: feature_maps.Pool(size))  # needs a driver
    monkeypatch.setattr(feature_maps.Pool, "take", _fake_slab)
    monkeypatch.setattr(engine_module, "Graph", _no_graph)
    bicubic._weights_on.cache_clear()
    use(monkeypatch, torch_kernels)


def use(monkeypatch: pytest.MonkeyPatch, kernels: Any) -> None:
    for module in (engine_module, memory_plan):
        monkeypatch.setattr(module, "kernels_for", lambda device: kernels)


def _no_graph(*_: object) -> None:
    raise RuntimeError("needs a driver")


def _fake_slab(pool: feature_maps.Pool, like: Tensor) -> Tensor:
    _, c, _, w = like.shape
    if pool.free:
        pool.free.pop()
    memory = torch.empty(pool.size // like.itemsize, dtype=like.dtype, device="cpu")
    return memory.as_strided((1, c, 0, w), (w * c, 1, w * c, c))


@pytest.fixture
def triton_kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Triton kernels, whose launches are recorded instead of done."""
    kernels = pytest.importorskip("perceptual_style.core.engine.triton_kernels", reason="needs the package triton")
    use(monkeypatch, kernels)
    return kernels


def record(
    arch: str, height: int, width: int, launch: Callable[[Recorder], Any] | None = None, limit: int | None = None, **options: Any
) -> tuple[Recorder, MemoryPlan, MemoryPlan]:  # fmt: skip
    """Run the engine on the second of two images; return the record and the plans before and after."""
    with fake_cuda() as mode:
        network = put(build_network(arch).eval().requires_grad_(False), mode)
        image = torch.empty(1, 3, height, width, device="cuda")
        engine = Engine(network, height, width, device=image.device, **{"precision": "fp16", **options})
        recorder = Recorder(limit)
        if launch is not None:
            launch(recorder)
        engine(image)  # prepares what is kept
        recorder.launches.clear()
        before = engine.plan
        with recorder:
            result = engine(image)
        scale = network.spec.scale
        assert result.shape == (1, 3, scale * height, scale * width)
        recorder.peak -= result.nbytes
        return recorder, before, engine.plan


def count_launches(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Recorder], None]:
    def prepared(recorder: Recorder) -> None:
        def launched(kernel: Any, grid: Any, *arguments: Any, **constants: Any) -> None:
            recorder.launches[kernel.fn.__name__] += 1

        monkeypatch.setattr(kernels, "_launch", launched)

    return prepared


@pytest.mark.parametrize(("arch", "size"), [(FULL, 1024), (FULL, 2160), (UPSCALER, 512)], ids=["1024", "2160", "x4"])
def test_a_frame_is_few_launches_without_waiting(
    arch: str, size: int, triton_kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, plan, _ = record(arch, size, size * 16 // 9 // 4 * 4, count_launches(triton_kernels, monkeypatch))
    assert plan.whole
    assert seen.launches.total() <= 150 and not seen.waits.total()
    assert 0.7 * plan.bytes <= seen.peak <= 1.1 * plan.bytes


@pytest.mark.parametrize("arch", [FULL, UPSCALER])
def test_torch_operations_keep_the_plan_without_waiting(arch: str) -> None:
    seen, plan, _ = record(arch, 512, 768, precision="fp16")
    assert plan.whole and not seen.waits.total()
    assert seen.peak <= 1.1 * plan.bytes


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("share", [0.8, 0.5])
def test_bands_keep_the_plan(share: float, precision: str) -> None:
    _, rich, _ = record(SMALL, 400, 600, precision=precision)
    seen, plan, _ = record(SMALL, 400, 600, precision=precision, memory=int(share * rich.bytes))
    assert not plan.whole and seen.peak <= 1.1 * plan.bytes


def test_out_of_memory_leads_to_maps_of_the_host() -> None:
    _, rich, _ = record(SMALL, 400, 600)
    room = rich.bytes // 24
    seen, before, after = record(SMALL, 400, 600, limit=room + 4 * 3 * 400 * 600)
    assert before.whole and after.host_maps
    assert seen.peak <= room


def test_out_of_memory_leads_to_slabs_without_statistics() -> None:
    _, rich, _ = record(NO_NORM, 600, 300)
    result = 4 * 3 * 600 * 300
    _, before, after = record(NO_NORM, 600, 300, limit=rich.bytes // 8 + 2 * result)  # parts are put together
    assert before.whole and after.slab


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_objective_does_not_wait_so_that_it_can_be_recorded(norm: str) -> None:
    weights = ObjectiveWeights({"relu2_2": 1.0}, {"relu1_2": 4.0, "relu2_2": 4.0}, "relative", tv=1.0)
    with fake_cuda() as mode:
        network = put(build_network(SMALL.replace("instance", norm)).train(), mode)
        loss_network = put(LossNetwork("vgg16", vgg16(), weights.layers), mode)
        objective = Objective(loss_network, weights, torch.empty(1, 3, 48, 64, device="cuda"))
        photos = torch.empty(2, 3, 64, 64, device="cuda")
        with torch.no_grad(), Recorder() as recorder:
            parts = objective(network(photos), photos)
    assert len(parts) == 4 and recorder.launches.total() > 50 and not recorder.waits.total()
