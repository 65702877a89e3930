"""The streaming engine, compared with the plain forward."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from network_archs import ARCHS, random_arch, randomized
from perceptual_style.core import errors
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.feature_maps import Map
from perceptual_style.core.engine.formats import number_formats
from perceptual_style.core.engine.map_statistics import Sums
from perceptual_style.core.engine.memory_plan import plan_memory
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.network.transform_net import extend
from perceptual_style.core.progress import Progress

CPU = torch.device("cpu")


def test_every_kind_of_network_matches_plain_forward() -> None:
    choice = random.Random(0)
    for arch in ARCHS:
        network = randomized(arch)
        for options in ({}, {"band_rows": 1}, {"band_rows": 3, "store_ends": False}, {"band_rows": 8}):
            image = torch.rand(1, 3, choice.randint(1, 40), choice.randint(1, 40))
            image = extend(image, network.spec.smallest_side)
            expected = network(image)
            result = BandedNetwork(network, **options)(image)
            assert result.shape == expected.shape, (arch, options, image.shape)
            difference = (result - expected).abs().max() / expected.abs().max().clamp_min(1)
            assert difference < 1e-4, (arch, options, image.shape)


def test_random_networks_match_plain_forward() -> None:
    choice = random.Random(1)
    for seed in range(60):
        arch = random_arch(choice)
        network = randomized(arch, seed)
        least = network.spec.smallest_side
        image = torch.rand(1, 3, least + choice.randint(0, 30), least + choice.randint(0, 30))
        banded = BandedNetwork(network, band_rows=choice.randint(1, 20), store_ends=choice.random() < 0.5)
        expected, result = network(image), banded(image)
        assert result.shape == expected.shape, arch
        assert (result - expected).abs().max() / expected.abs().max().clamp_min(1) < 1e-4, (arch, image.shape)


def test_computed_maps_can_read_computed_maps() -> None:
    for arch in ("c3s1-4,c3s1-4,c3s1-3", "R3x1,c3s1-3", "R3x3,n2,c3s1-3", "U2,c3s1-4,U2,c9s1-3"):
        network = randomized(f"{arch} padding=reflect output=linear")
        image = torch.rand(1, 3, 45, 31)
        for rows in (1, 6):
            result = BandedNetwork(network, band_rows=rows, store_ends=False)(image)
            assert (result - network(image)).abs().max() < 1e-4, arch


def test_statistics_are_exact_for_large_means() -> None:
    network = randomized("c3s1-4,c3s1-3 padding=reflect output=linear")
    network.stages[0].conv.weight.mul_(0.01).add_(10.0)  # mean over deviation is in the hundreds
    image = 0.9 + 0.1 * torch.rand(1, 3, 64, 64)
    first, second = (F.pad(image.double(), (1,) * 4, mode="reflect"), network.stages[0]), network.stages[1]
    raw = F.conv2d(first[0], first[1].conv.weight.double())
    normalized = F.relu(F.instance_norm(raw, weight=first[1].norm.weight.double(), bias=first[1].norm.bias.double()))
    expected = F.conv2d(
        F.pad(normalized, (1,) * 4, mode="reflect"), second.conv.weight.double(), second.conv.bias.double()
    )
    result = BandedNetwork(network, band_rows=8)(image)
    assert (result - expected).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(37, 1025), (20, 512), (1, 7)], ids=str)
def test_sums_of_wide_bands_are_exact(shape: tuple[int, int], dtype: torch.dtype) -> None:
    for channels, layout in ((3, torch.contiguous_format), (16, torch.channels_last), (600, torch.channels_last)):
        band = torch.randn(1, channels, *shape).add_(0.3).to(dtype).contiguous(memory_format=layout)
        sums = Sums(Map(height=shape[0], width=shape[1], channels=channels, device=CPU))
        sums.add(0, band)
        exact = band.double()
        torch.testing.assert_close(sums.squares, exact.square().sum(dim=(0, 2, 3)), rtol=2e-6, atol=0)
        error = (sums.sum - exact.sum(dim=(0, 2, 3))).abs() / exact.abs().sum(dim=(0, 2, 3))
        assert error.max() < 1e-6


def test_input_and_network_are_not_changed() -> None:
    network = randomized(ARCHS[4])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image = torch.rand(1, 3, 33, 29)
    copy = image.clone()
    BandedNetwork(network)(image)
    assert torch.equal(image, copy)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_memory_layout_does_not_change_result() -> None:
    network = randomized(ARCHS[0])
    image = torch.rand(1, 3, 40, 36)
    engine = Engine(network, 40, 36, device=CPU, precision="fp32")
    expected = engine(image)
    assert torch.equal(engine(image.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(engine(image.flip(3).contiguous().flip(3)), expected)
    assert torch.equal(engine(image.double()), expected)
    grey = torch.rand(1, 1, 40, 36).expand(1, 3, 40, 36)
    assert torch.equal(engine(grey), engine(grey.contiguous()))


def test_progress_counts_bands_and_can_cancel() -> None:
    network = randomized(ARCHS[0])
    image = torch.rand(1, 3, 50, 40)
    for rows in (1, 7, None):
        engine = Engine(network, 50, 40, device=CPU, precision="fp32", band_rows=rows)
        seen: list[Progress] = []
        engine(image, seen.append)
        assert [one.done for one in seen] == list(range(1, seen[0].total + 1))

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise errors.Cancelled("enough")

    with pytest.raises(errors.Cancelled, match="enough"):
        engine(image, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        ARCHS[3],
        "c9s1-4,d8,R8x2,n2,c3s1-3 norm=none padding=reflect",
        ARCHS[2],
        "c9s1-4,bd8,bd8,R8x2,n4,c3s1-3 norm=none padding=reflect",
    ],
)
def test_small_budget_runs_in_slabs_without_statistics(arch: str) -> None:
    network = randomized(arch)
    image = torch.rand(1, 3, 1201, 41)
    wanted = plan_memory(network, 1201, 41, CPU, memory=1 << 30, band_rows=4)
    assert wanted.slab == 0
    engine = Engine(network, 1201, 41, device=CPU, precision="fp32", memory=wanted.bytes // 5, band_rows=4)
    assert engine.plan.slab > 0 and engine.plan.bytes <= wanted.bytes // 5
    seen: list[Progress] = []
    assert (engine(image, seen.append) - network(image)).abs().max() < 1e-5
    assert seen[-1].done == seen[-1].total == len(seen)


def test_budget_is_kept_or_rejected() -> None:
    network = randomized(ARCHS[0])
    rich = plan_memory(network, 512, 512, CPU, memory=1 << 30)
    poor = plan_memory(network, 512, 512, CPU, memory=rich.bytes - 1)
    assert rich.store_ends and not poor.store_ends
    assert poor.bytes < rich.bytes
    with pytest.raises(errors.InputError, match="512x512 px needs .* MiB .* budget is 0.1 MiB"):
        plan_memory(network, 512, 512, CPU, memory=100_000)


def test_out_of_memory_halves_bands_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomized(ARCHS[0])
    image = torch.rand(1, 3, 64, 64)
    engine = Engine(network, 64, 64, device=CPU, precision="fp32")
    before = engine.plan.band_bytes
    run, failures = BandedNetwork.__call__, iter(range(2))

    def failing(self: BandedNetwork, *arguments: object) -> torch.Tensor:
        if next(failures, None) is not None:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(self, *arguments)

    monkeypatch.setattr(BandedNetwork, "__call__", failing)
    assert (engine(image) - network(image)).abs().max() < 1e-4
    assert engine.plan.band_bytes == before // 4 and not engine.plan.store_ends

    def broken(self: BandedNetwork, *arguments: object) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(BandedNetwork, "__call__", broken)
    with pytest.raises(RuntimeError, match="something else"):
        engine(image)


def test_host_maps_do_not_change_result() -> None:
    network, image = randomized(ARCHS[4]), torch.rand(1, 3, 48, 40)
    assert torch.equal(BandedNetwork(network, host_maps=True)(image), BandedNetwork(network)(image))


@pytest.mark.parametrize(("precision", "largest", "mean"), [("bf16", 0.2, 0.01), ("fp16", 0.05, 0.002)])
def test_half_precision_stays_close(precision: str, largest: float, mean: float) -> None:
    network = randomized(ARCHS[0])
    image = torch.rand(1, 3, 64, 64)
    result = Engine(network, 64, 64, device=CPU, precision=precision)(image)
    difference = (result - network(image)).abs()
    assert difference.max() < largest and difference.mean() < mean


def test_unknown_precision_is_rejected() -> None:
    with pytest.raises(errors.InputError, match="precision is 'int8'; expected auto, fp32, bf16, fp16"):
        number_formats(CPU, "int8")
