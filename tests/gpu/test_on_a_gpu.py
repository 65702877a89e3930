"""What needs a CUDA device: ``pytest -m gpu``. The engine is compared with a float64 forward on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from float64 import in_float64
from helpers import style_model
from network_archs import ARCHS, randomized
from perceptual_style.core import load_style, load_upscaler
from perceptual_style.core.checkpoints.own_format import load_network
from perceptual_style.core.engine import engine as engine_module
from perceptual_style.core.engine import memory_plan, torch_kernels
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.kernels import kernels_for
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.errors import NetworkError
from perceptual_style.core.models.network_runner import bytes_to_free
from perceptual_style.core.models.transfers import flow
from perceptual_style.core.network.transform_net import extend
from perceptual_style.core.training import gradients, step_graph
from torch import Tensor

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
FULL = "c9s1-32,d64,d128,R128x5,n2,c3s1-64,n2,c3s1-32,c9s1-3 norm=instance padding=reflect"


@pytest.fixture(autouse=True)
def empty_device() -> Iterator[None]:
    yield
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def photo(height: int = 256, width: int = 320) -> Tensor:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 20), (height, width), mode="bicubic")
    return (smooth + 0.01 * torch.randn_like(smooth)).clamp(0, 1)


def exact(network: torch.nn.Module, image: Tensor) -> Tensor:
    return in_float64(network)(image.double())


@pytest.mark.parametrize("arch", ARCHS)
def test_every_kind_of_network_matches_float64(arch: str) -> None:
    network = randomized(arch)
    for size in ((43, 37), (96, 61)):
        image = extend(torch.rand(1, 3, *size), network.spec.smallest_side)
        expected = exact(network, image)
        engine = Engine(network.to(CUDA), *image.shape[-2:], device=CUDA, precision="fp32")
        for _ in range(3):  # the second image records a graph, the third replays it
            result = engine(image.to(CUDA)).cpu()
            assert (result - expected).abs().max() / expected.abs().max().clamp_min(1) < 1e-4, size
        for way in ({"band_rows": 9}, {"band_rows": 9, "store_ends": False}, {"band_rows": 9, "host_maps": True}):
            result = BandedNetwork(network, **way)(image.to(CUDA)).cpu()
            assert (result - expected).abs().max() / expected.abs().max().clamp_min(1) < 1e-3, (size, way)
        network.to("cpu")


def test_triton_kernels_are_used() -> None:
    assert kernels_for(CUDA) is pytest.importorskip("perceptual_style.core.engine.triton_kernels")


@pytest.mark.parametrize("name", ["wave", "starry_night", "udnie"])
@pytest.mark.parametrize(("precision", "largest", "mean"), [("fp32", 0.05, 0.001), ("auto", 2.0, 0.1)])
def test_styles_match_float64(name: str, precision: str, largest: float, mean: float) -> None:
    model, image = load_style(name), photo()
    expected = exact(model.network, image)
    result = model.stylize(image.to(CUDA), precision=precision).cpu()
    difference = 255 * (result - expected.clamp(0, 1)).abs()
    assert difference.max() < largest and difference.mean() < mean
    assert torch.backends.cudnn.allow_tf32


def test_torch_operations_match_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = load_style("wave").network.to(CUDA), photo().to(CUDA)
    ours = Engine(network, 256, 320, device=CUDA, precision="fp16")(image)
    monkeypatch.setattr(engine_module, "kernels_for", lambda device: torch_kernels)
    other = Engine(network, 256, 320, device=CUDA, precision="fp16")(image)
    assert (ours - other).abs().max() < 0.02


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_each_device_replays_its_own_graph() -> None:
    images = [photo().roll(shift, -1) for shift in range(4)]
    results = []
    for index in range(2):
        device = torch.device("cuda", index)
        engine = Engine(load_style("wave").network.to(device), 256, 320, device=device, precision="fp32")
        results.append([engine(image.to(device)).cpu() for image in images])
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=0)


def test_a_frame_does_not_wait_for_the_device() -> None:
    network, image = load_style("wave").network.to(CUDA), photo().to(CUDA)
    engine = Engine(network, 256, 320, device=CUDA)
    for _ in range(3):
        engine(image)
    banded = Engine(network, 256, 320, device=CUDA, precision="fp16", band_rows=32)
    banded(image)
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine(image)
        banded(image)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_memory_stays_within_the_plan(precision: str) -> None:
    network, image = style_model(FULL).network.to(CUDA), torch.rand(1, 3, 1080, 1920, device=CUDA)
    engine = Engine(network, 1080, 1920, device=CUDA, precision=precision)
    engine(image[..., :1080, :1920])  # compiles, and lets cuDNN load
    torch.cuda.synchronize()
    start = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = Engine(network, 1080, 1920, device=CUDA, precision=precision)(image)
    used = torch.cuda.max_memory_allocated() - start - result.nbytes
    assert used < 1.3 * engine.plan.bytes  # cuDNN's workspace included


@pytest.mark.parametrize("arch", [FULL, "c9s1-32,R32x4,p4-3 norm=none padding=zero output=linear"])
def test_real_out_of_memory_leads_to_smaller_plans(arch: str) -> None:
    network = style_model(arch).network
    image = torch.rand(1, 3, 1080, 1920, device=CUDA)
    engine = Engine(network.to(CUDA), 1080, 1920, device=CUDA, precision="fp32")
    expected = engine(image)
    before, needed = engine.plan, expected.nbytes + torch.cuda.memory_allocated()
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    engine = Engine(network, 1080, 1920, device=CUDA, precision="fp32")
    torch.cuda.set_per_process_memory_fraction((needed + before.bytes // 4) / total)
    assert (engine(image) - expected).abs().max() < 1e-3
    assert engine.plan != before


def test_host_is_asked_for_enough_while_another_model_fills_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = style_model(FULL)
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 64 << 20)
    asked = bytes_to_free(model, 1080, 1920, CUDA)
    monkeypatch.undo()
    other = torch.empty(max(0, torch.cuda.mem_get_info()[0] - asked), dtype=torch.uint8, device=CUDA)
    assert Engine(model.network.to(CUDA), 1080, 1920, device=CUDA).plan.whole
    del other


@pytest.mark.parametrize(
    "controls",
    [{"strength": 0.5}, {"color": "keep"}, {"color": "match"}, {"stroke_size": 2.0}, {"temporal": 0.7}],
    ids=str,
)
def test_controls_match_the_cpu(controls: dict) -> None:
    frames = torch.cat([photo(), photo().roll((1, 2), (2, 3))])
    model = load_style("wave")
    expected = model.stylize(frames, precision="fp32", **controls)
    result = model.stylize(frames.to(CUDA), precision="fp32", **controls)
    assert (result.cpu() - expected).abs().max() < 2e-3


def test_upscalers_match_float64() -> None:
    model, image = load_upscaler("perceptual_x4"), photo(64, 80)
    expected = exact(model.network, image)
    assert (model.upscale(image.to(CUDA), precision="fp32").cpu() - expected.clamp(0, 1)).abs().max() < 1e-4


def test_frames_flow_in_order_and_unchanged() -> None:
    frames = [torch.full((64, 64, 3), float(i)) for i in range(7)]
    results = [float(result.mean()) for result in flow(frames, lambda frame: 2 * frame, CUDA)]
    assert results == [2.0 * i for i in range(7)]


def test_damaged_weights_are_reported() -> None:
    model = style_model(FULL)
    model.network.stages[-1].conv.bias.fill_(float("nan"))
    with pytest.raises(NetworkError, match="nan or infinite"):
        model.stylize(torch.cat([photo(), photo()]).to(CUDA), precision="fp32")


def test_recorded_training_steps_equal_others(tmp_path, training_run_on_gpu, monkeypatch) -> None:
    recordings, record = [], step_graph.record
    monkeypatch.setattr(step_graph, "record", lambda *given: recordings.append(record(*given)) or recordings[-1])
    recorded = training_run_on_gpu(tmp_path / "recorded")
    assert len(recordings) == 1
    monkeypatch.setattr(gradients, "can_record", lambda device: False)
    expected = training_run_on_gpu(tmp_path / "expected")
    assert len(recordings) == 1
    for key in expected:
        torch.testing.assert_close(recorded[key], expected[key], atol=2e-3, rtol=1e-2)
    curves = [load_network(tmp_path / name / "style.safetensors")[1]["loss curve"] for name in ("recorded", "expected")]
    torch.testing.assert_close(*(torch.tensor(curve) for curve in curves), atol=0, rtol=1e-2)


def test_objective_that_waits_is_not_recorded_and_does_no_harm() -> None:
    network, image = torch.nn.Conv2d(3, 3, 3).to(CUDA), torch.rand(2, 3, 16, 16)

    class Waits:
        is_fixed = True

        def __call__(self, batch: Tensor, step: int) -> dict[str, Tensor]:
            loss = network(batch.to(CUDA)).square().mean()
            assert float(loss.detach()) > 0
            return {"pixel": loss}

    compute = gradients.Gradients(network, Waits(), 2)
    results = [compute(image, step) for step in range(8)]
    assert len([note for _, notes in results for note in notes if "not recorded as a CUDA graph" in note]) == 1
    losses = torch.stack([parts["pixel"] for parts, _ in results])
    torch.testing.assert_close(losses, losses[:1].expand(8))
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_training_resumes_with_the_same_weights(tmp_path, training_run_on_gpu) -> None:
    whole, parts = training_run_on_gpu(tmp_path / "whole"), training_run_on_gpu(tmp_path / "parts", stop_at=11)
    for key in whole:
        torch.testing.assert_close(whole[key], parts[key], atol=2e-3, rtol=1e-2)
