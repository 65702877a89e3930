"""The streaming engine, compared with the plain forward."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from perceptual_style.core import errors
from perceptual_style.core.engine.engine import Engine, number_formats, plan_memory
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.network.transform_net import TransformNet, build_network, extend
from perceptual_style.core.progress import Progress

CPU = torch.device("cpu")
ARCHS = [
    "c9s1-8,d16,d16,R16x2,n2,c3s1-8,n2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,d16,d16,R16x3,u8,u8,c9s1-3",
    "c9s1-8,d16,d16,R16x3,u8,u8,c9s1-3 norm=batch",
    "c9s1-8,R8x2,u8,u8,c9s1-3 norm=batch padding=zero",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=reflect norm=batch",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=zero norm=none",
    "c3s1-8,R8x2,p4-3 norm=none padding=zero output=linear base=bicubic",
    "c3s1-8,R8,p2-8,c3s1-3 norm=instance padding=reflect",
    "c3s1-8,d8,p2-8,p3-3 norm=batch padding=replicate",
    "c9s1-8,d16,R16x2,n2,c9s1-3 padding=reflect residual=relu",
    "c9s1-8,d16,R16x2,n2,c9s1-3 padding=zero residual=twice",
    "c5s1-8,d16,R16x2,n2,c5s1-8,c9s1-3 padding=same last=norm eps=0.001",
    "c7s1-4,c5s3-4,f5s3-6,c3s1-3 padding=zero",
    "c9s1-8,d16,R16x2,n2,c5s1-6,c3s1-1 padding=replicate",
    "c3s1-3 padding=replicate output=tanh150",
    "n2,c3s1-3 padding=reflect output=sigmoid",
    "U2,c9s1-3 padding=reflect",
    "c9s1-8,bd16,bd16,R16x2,n2,c3s1-8,n2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,bd16,R16,U2,bc5s2-8,u8,c9s1-3 norm=batch",
    "bd8,bd8,n4,c3s1-3 norm=none padding=zero",
    "c5s1-8,bd16,bc1s2-8,R8,n4,c9s1-3 padding=same",
    "c5s1-8,bd16,bd8,R8,n4,c9s1-3 padding=replicate residual=relu",
]


def randomized(arch: str, seed: int = 0) -> TransformNet:
    """Return a network with norms of both signs, and running statistics away from 0 and 1."""
    torch.manual_seed(seed)
    network = build_network(arch).eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if "norm.weight" in name or "norm.bias" in name or "running_mean" in name:
            tensor.normal_()
        elif "running_var" in name:
            tensor.uniform_(0.5, 1.5)
    return network


def test_every_kind_of_network_matches_plain_forward() -> None:
    choice = random.Random(0)
    for arch in ARCHS:
        network = randomized(arch)
        for options in ({}, {"band_rows": 1}, {"band_rows": 3, "store_ends": False}, {"band_rows": 8}):
            image = torch.rand(1, 3, choice.randint(1, 60), choice.randint(1, 60))
            image = extend(image, network.spec.smallest_side)
            expected = network(image)
            result = BandedNetwork(network, **options)(image)
            assert result.shape == expected.shape, (arch, options, image.shape)
            difference = (result - expected).abs().max() / expected.abs().max().clamp_min(1)
            assert difference < 1e-4, (arch, options, image.shape)


def random_arch(choice: random.Random) -> str:
    """Return a style-like network of random layers: down, blocks, up again in one of four ways."""
    width, depth = choice.choice((2, 3, 5)), choice.randint(0, 2)
    layers = [f"c{choice.choice((3, 5, 9))}s1-{width}"] + [f"{choice.choice(('', 'b'))}d{width}"] * depth
    layers += [f"R{width}x{choice.randint(1, 2)}"] * choice.randint(0, 1)
    for _ in range(depth):
        layers.append(
            choice.choice((f"u{width}", f"p2-{width}", f"n2,c3s1-{width}", f"U2,c{choice.choice((3, 5))}s1-{width}"))
        )
    layers.append(f"c{choice.choice((1, 3, 9))}s1-{choice.choice((1, 3, 6))}")
    options = f"norm={choice.choice(('instance', 'batch', 'none'))} output={choice.choice(('tanh', 'linear'))}"
    return f"{','.join(layers)} {options} padding={choice.choice(('reflect-start', 'reflect', 'replicate', 'zero', 'same'))}"


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
