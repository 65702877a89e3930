"""What core does on a device that is no CPU, with real numbers (test_pretended_gpu.py runs this in a process of its own)."""

from __future__ import annotations

import copy

import pytest
import torch
from network_archs import ARCHS, randomized
from perceptual_style.core import load_style
from perceptual_style.core.arithmetic import has_float64
from perceptual_style.core.engine import memory_plan
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.network.transform_net import extend
from pretended.device import DEVICE, Pretended, on_device, put
from torch import Tensor

WAYS = [{}, {"band_rows": 14, "store_ends": False, "host_maps": True}]


@pytest.fixture(autouse=True)
def much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 8 << 30)
    has_float64.cache_clear()


def photo(height: int = 96, width: int = 128) -> Tensor:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16), (height, width), mode="bicubic")
    return (smooth + 0.01 * torch.randn_like(smooth)).clamp(0, 1)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_kind_of_network_matches_plain_forward(arch: str) -> None:
    network = randomized(arch)
    image = extend(torch.rand(1, 3, 43, 37), network.spec.smallest_side)
    expected, there = network(image), put(copy.deepcopy(network))
    for way in WAYS:
        with Pretended() as device:
            result = BandedNetwork(there, **way)(on_device(image))
        assert result.device == DEVICE and device.unguarded == 0
        assert (result.held - expected).abs().max() / expected.abs().max().clamp_min(1) < 1e-4, way


def run(network: torch.nn.Module, image: Tensor, precision: str, **options: bool) -> tuple[Tensor, Pretended]:
    there = put(copy.deepcopy(network))
    with Pretended(**options) as device:
        engine = Engine(there, *image.shape[-2:], device=DEVICE, precision=precision)
        return engine(on_device(image)).held, device


def test_fp32_is_exact_while_tf32_is_allowed() -> None:
    network, image = load_style("wave").network, photo()
    expected = network(image)
    rounded, _ = run(network, image, "fp32", tf32=True)
    assert (rounded - expected).abs().max() < 1e-4
    assert torch.backends.cudnn.allow_tf32  # as before


def test_auto_is_fp16_with_an_exact_first_convolution() -> None:
    network, image = load_style("wave").network, photo()
    expected = network(image)
    result, device = run(network, image, "auto", tf32=True)
    difference = 255 * (result - expected).abs()
    assert difference.max() < 2 and difference.mean() < 0.1
    first, *others = dict.fromkeys(device.convolutions)
    assert (first, others) == (torch.float32, [torch.float16])


def test_without_float64_sums_are_float32() -> None:
    network, image = load_style("wave").network, photo()
    result, _ = run(network, image, "fp32", has_float64=False)
    assert (result - network(image)).abs().max() < 1e-5
