"""Images of one color: the engine and the plain forward give one color, in every number format and memory layout."""

from __future__ import annotations

import random

import pytest
import torch
from network_archs import ARCHS, random_arch, randomized
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.network.flatness import flat_planes
from perceptual_style.core.network.stages import InstanceNorm
from perceptual_style.core.network.transform_net import build_network, extend, forward_any_size

STYLES = ("starry_night", "wave", "udnie", "composition_vii")
UPSCALERS = ("perceptual_x2", "perceptual_x4", "pixel_x4")
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def flat(height: int, width: int, *color: float) -> torch.Tensor:
    return torch.tensor(color).view(1, -1, 1, 1).expand(1, 3, height, width).contiguous()


def spread(image: torch.Tensor) -> float:
    """Return how far apart the pixels of an image are."""
    return float((image.amax(dim=(2, 3)) - image.amin(dim=(2, 3))).max())


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", STYLES)
def test_frame_of_one_color_stays_one_color(name, precision):
    model = load_style(name)
    for color in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.25, 0.5, 0.75)):
        image = flat(50, 67, *color)
        result = model.stylize(image, precision=precision)
        assert spread(result) < 0.05 / 255, color
        if precision == "fp32":
            assert (result - forward_any_size(model.network, image)).abs().max() < 0.05 / 255


def test_plain_forward_does_not_depend_on_memory_layout():
    network = load_style("wave").network
    image = flat(128, 96, 100 / 255, 90 / 255, 80 / 255)
    nearly = image.clone()
    nearly[..., 60, 70] = 1.0
    for each in (image, nearly):
        first, second = (network(each.contiguous(memory_format=layout)) for layout in LAYOUTS)
        assert (first - second).abs().max() < 0.5 / 255
    assert spread(network(image)) < 0.05 / 255


def test_fade_to_black_stays_steady():
    model = load_style("wave")
    frames = torch.cat([flat(64, 64, value, value, value) for value in (2 / 255, 1 / 255, 0.0, 0.0)])
    result = model.stylize(frames, temporal=1.0)
    assert max(spread(frame[None]) for frame in result) < 0.05 / 255
    assert torch.equal(result[2], result[3])


@pytest.mark.parametrize("arch", ARCHS)
def test_flat_images_match_plain_forward(arch):
    network = randomized(arch)
    for options in ({}, {"band_rows": 3, "store_ends": False}):
        image = extend(flat(41, 37, 0.2, 0.9, 0.4), network.spec.smallest_side)
        expected = network(image)
        difference = (BandedNetwork(network, **options)(image) - expected).abs().max()
        assert difference / expected.abs().max().clamp_min(1) < 1e-4, options


def test_random_networks_match_plain_forward_on_flat_images():
    choice = random.Random(5)
    for seed in range(40):
        arch = random_arch(choice)
        network = randomized(arch, seed)
        side = network.spec.smallest_side + choice.randint(0, 30)
        image = flat(side, side + choice.randint(0, 9), *(choice.random() for _ in range(3)))
        banded = BandedNetwork(network, band_rows=choice.randint(1, 20), store_ends=choice.random() < 0.5)
        expected = network(image)
        assert (banded(image) - expected).abs().max() / expected.abs().max().clamp_min(1) < 1e-4, arch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dead_channels_beside_zero_padding(dtype):
    # The first layer's channels never change, so the second one must see their shift inside, and zeros around them.
    network = randomized("c3s1-4,c3s1-4,c9s1-3 padding=zero output=linear")
    network.stages[0].conv.weight.zero_()
    network.stages[0].norm.bias.copy_(torch.tensor([0.5, -0.5, 2.0, 0.0]))
    image = torch.rand(1, 3, 24, 30)
    expected = network(image)
    result = BandedNetwork(network, dtype)(image)
    assert (result - expected).abs().max() / expected.abs().max() < {torch.float32: 1e-5}.get(dtype, 0.05)


def test_only_planes_that_rounding_explains_are_flat():
    x = torch.rand(2, 4, 30, 40)
    assert flat_planes(x) is None
    x[0, 1] = 3.0
    x[1, 2] = 3.0 * (1 + 1e-6 * torch.rand(30, 40))
    x[1, 3] = 3.0
    x[1, 3, 7, 9] += 0.01
    found = flat_planes(x)
    assert found.flatten(1).tolist() == [[False, True, False, False], [False, False, True, False]]
    norm = InstanceNorm(4).eval()
    torch.nn.init.normal_(norm.bias)
    result = norm(x)
    assert torch.equal(result[0, 1], norm.bias[1].expand(30, 40))
    assert torch.equal(result[1, 2], norm.bias[2].expand(30, 40))


def test_training_keeps_torchs_normalization():
    x = torch.full((1, 3, 9, 9), 0.3) + 1e-8 * torch.rand(1, 3, 9, 9)
    norm = InstanceNorm(3)
    assert torch.equal(norm(x), torch.group_norm(x, 3, norm.weight, norm.bias, norm.eps))


def test_rows_of_several_styles_keep_their_own_shift():
    network = build_network("c3s1-4,c3s1-3 padding=reflect output=linear styles=2").eval().requires_grad_(False)
    norm = network.stages[0].norm
    norm.bias.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    result = norm(torch.full((2, 4, 8, 8), 0.1), torch.tensor([1, 0]))
    assert torch.equal(result[..., 0, 0], norm.bias[[1, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("name", STYLES + UPSCALERS)
def test_random_sizes_match_plain_forward(name):
    model = load_upscaler(name).blended() if name in UPSCALERS else load_style(name)
    run = model.upscale if name in UPSCALERS else model.stylize
    choice = random.Random(name)
    for index in range(4):
        height, width = choice.randint(1, 90), choice.randint(1, 90)
        image = flat(height, width, 0.3, 0.6, 0.9) if index == 3 else torch.rand(1, 3, height, width)
        expected = forward_any_size(model.network, image).clamp(0, 1)
        assert (run(image, precision="fp32") - expected).abs().max() < 0.05 / 255, (height, width)
