"""Images whose edges meet, compared with plain modules that pad in circles, and rolled around."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from network_archs import ARCHS, random_arch, randomized
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.memory_plan import plan_memory
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.network.stages import PAD_MODES, ConvStage, PadStage, ResidualStage, blurred
from perceptual_style.core.network.transform_net import TransformNet, output_function
from torch import Tensor

CPU = torch.device("cpu")
WITHOUT_BASE = [arch for arch in ARCHS if "base" not in arch]
BOTH, COLUMNS = (True, True), (False, True)


def _around(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    side = x.shape[axis]
    return x.index_select(axis, torch.arange(-before, side + after) % side)


def _convolved(stage: ConvStage, x: Tensor, wrap: tuple[bool, bool]) -> Tensor:
    height, width = x.shape[-2:]
    if stage.transposed:
        more = stage.kernel  # input pixels beyond each edge
        for axis, wraps in zip((2, 3), wrap, strict=True):
            x = _around(x, axis, more, more) if wraps else x
        x = stage.conv(x)
        for axis, wraps, side in zip((2, 3), wrap, (height, width), strict=True):
            x = x.narrow(axis, stage.shave + (more * stage.stride if wraps else 0), side * stage.stride)
    else:
        for axis, wraps, side in zip((2, 3), wrap, (height, width), strict=True):
            edges = stage.edges(side)
            if wraps:
                half = (stage.extent - 1) // 2
                x = _around(x, axis, *(edges if stage.padding != "none" else (half, half)))
            elif any(edges):
                x = F.pad(x, (0, 0, *edges) if axis == 2 else edges, mode=PAD_MODES[stage.padding])
        conv = stage.conv
        x = F.conv2d(blurred(x) if stage.blur else x, conv.weight, conv.bias, conv.stride)
    x = F.pixel_shuffle(x, stage.shuffle) if stage.shuffle > 1 else x
    x = x if stage.norm is None else stage.norm(x)
    return F.relu(x) if stage.relu else x


def plain_wrapped(network: TransformNet, image: Tensor, wrap: tuple[bool, bool]) -> Tensor:
    """Return what the network gives if its paddings continue at the opposite edge."""
    x = image
    for stage in network.stages:
        if isinstance(stage, PadStage):
            rows, columns = (0 if wraps else stage.pixels for wraps in wrap)
            x = F.pad(x, (columns, columns, rows, rows), mode="reflect")
        elif isinstance(stage, ConvStage):
            x = _convolved(stage, x, wrap)
        elif isinstance(stage, ResidualStage):
            rows, columns = (0 if wraps else stage.crop for wraps in wrap)
            skip = x[..., rows : x.shape[2] - rows, columns : x.shape[3] - columns]
            x = skip + _convolved(stage.second, _convolved(stage.first, x, wrap), wrap)
            x = x + skip if stage.kind == "twice" else x
            x = F.relu(x) if stage.kind == "relu" else x
        else:
            x = stage(x)
    return output_function(x, network.spec.output)


def _check(network: TransformNet, image: Tensor, wrap: tuple[bool, bool], **options: object) -> None:
    expected = plain_wrapped(network, image, wrap)
    result = BandedNetwork(network, wrap=wrap, **options)(image)
    assert result.shape == expected.shape, network.spec
    difference = (result - expected).abs().max() / expected.abs().max().clamp_min(1)
    assert difference < 1e-4, (str(network.spec), tuple(image.shape), wrap, options)


@pytest.mark.parametrize("wrap", [COLUMNS, BOTH])
def test_every_kind_of_network_matches_circular_padding(wrap) -> None:
    choice = random.Random(0)
    for arch in WITHOUT_BASE:
        network = randomized(arch)
        unit, least = network.spec.multiple_of, network.spec.smallest_side
        for options in ({"band_rows": 3, "store_ends": False}, {"band_rows": 8}):
            height = unit * choice.randint(2, 9) if wrap[0] else least + choice.randint(0, 20)
            _check(network, torch.rand(1, 3, height, unit * choice.randint(2, 9)), wrap, **options)


def test_random_networks_match_circular_padding() -> None:
    choice = random.Random(1)
    for seed in range(20):
        network = randomized(random_arch(choice), seed)
        unit = network.spec.multiple_of
        image = torch.rand(1, 3, unit * choice.randint(2, 9), unit * choice.randint(2, 9))
        _check(network, image, BOTH, band_rows=choice.randint(1, 20), store_ends=choice.random() < 0.5)


def test_image_may_be_as_small_as_the_unit() -> None:
    for arch in ("c9s1-4,d8,R8x2,n2,c3s1-4,c9s1-3 norm=batch padding=reflect", "c9s1-4,R4x2,c3s1-3 norm=none"):
        network = randomized(arch)
        unit = network.spec.multiple_of
        _check(network, torch.rand(1, 3, unit, unit), BOTH, band_rows=2)


@pytest.mark.parametrize(("wrap", "axes"), [("x", (3,)), ("xy", (2, 3))])
def test_rolled_image_gives_rolled_result(wrap, axes) -> None:
    for arch in WITHOUT_BASE[:8]:
        network = randomized(arch)
        unit, scale = network.spec.multiple_of, network.spec.scale
        image = torch.rand(1, 3, unit * 12, unit * 11)
        if wrap == "x" and image.shape[2] < network.spec.smallest_side:
            image = torch.rand(1, 3, network.spec.smallest_side, unit * 11)
        engine = Engine(network, *image.shape[-2:], device=CPU, band_rows=5, wrap=wrap)
        expected = engine(image)
        moved = engine(image.roll((4 * unit,) * len(axes), axes))
        difference = (moved - expected.roll((4 * unit * scale,) * len(axes), axes)).abs().max()
        assert difference < 1e-4 * expected.abs().max().clamp_min(1), arch


@pytest.mark.parametrize(
    ("wrap", "arch"),
    [("xy", "c9s1-4,d8,R8x2,u4,c9s1-3 norm=batch"), ("x", "c9s1-4,bd8,R8,n2,c3s1-3 norm=none padding=reflect")],
)
def test_slabs_wrap_too(wrap, arch) -> None:
    network = randomized(arch)
    image = torch.rand(1, 3, 600, 24)
    wanted = plan_memory(network, 600, 24, CPU, memory=1 << 30, band_rows=4, wrap=wrap)
    engine = Engine(network, 600, 24, device=CPU, memory=wanted.bytes // 5, band_rows=4, wrap=wrap)
    assert engine.plan.slab > 0
    expected = plain_wrapped(network, image, BOTH if wrap == "xy" else COLUMNS)
    assert (engine(image) - expected).abs().max() < 1e-5
