"""Blurs before strides: exact in the engine, the same weights as without them, and pictures that move with the photo."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from float64 import in_float64
from perceptual_style.core.checkpoints.own_format import load_network, save_network
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.errors import ArchError
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.stages import ConvStage, blurred
from perceptual_style.core.network.styles import rows_of, select, with_rows
from perceptual_style.core.network.transform_net import TransformNet, build_network, with_weights
from perceptual_style.core.training.style_start import begin
from torch import Tensor

PLAIN = "c5s1-6,d8,d8,R8x2,n2,c3s1-6,n2,c3s1-6,c5s1-3 padding=reflect"
BLURRED = PLAIN.replace("d8", "bd8")


def random_network(arch: str, seed: int = 0) -> TransformNet:
    """Return a network whose norms have scales of both signs."""
    torch.manual_seed(seed)
    network = build_network(arch).eval().requires_grad_(False)
    for value in rows_of(network)[0].values():
        value.normal_()
    return network


def by_hand(network: TransformNet, image: Tensor) -> Tensor:
    """Compute PLAIN or BLURRED layer by layer in float64, with each padding, blur and stride on its own."""
    binomial = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = (binomial[:, None] * binomial / 16)[None, None]
    weights = {key: value.double() for key, value in network.state_dict().items()}

    def reflected(x: Tensor, pixels: int) -> Tensor:
        return F.pad(x, (pixels,) * 4, mode="reflect")

    def conv(x: Tensor, name: str, stride: int = 1, relu: bool = True) -> Tensor:
        weight = weights[f"{name}.conv.weight"]
        x = F.conv2d(reflected(x, weight.shape[-1] // 2), weight, weights[f"{name}.conv.bias"], stride)
        if f"{name}.norm.weight" in weights:
            variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
            scale, shift = (weights[f"{name}.norm.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
            x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
        return x.relu() if relu else x

    x = conv(image.double(), "stages.0")
    for number, layer in enumerate(network.spec.layers[1:3], start=1):
        if layer.blur:
            channels = x.flatten(0, 1)[:, None]
            x = F.conv2d(reflected(channels, 1), kernel).view_as(x)
        x = conv(x, f"stages.{number}", stride=2)
    for number in (3, 4):
        x = x + conv(conv(x, f"stages.{number}.first"), f"stages.{number}.second", relu=False)
    for number in (6, 8):
        x = conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), f"stages.{number}")
    last = F.conv2d(reflected(x, 2), weights["stages.9.conv.weight"], weights["stages.9.conv.bias"])
    return (last.tanh() + 1) / 2


@pytest.mark.parametrize("arch", [PLAIN, BLURRED, BLURRED.replace("bd8,bd8", "d8,bd8")])
@pytest.mark.parametrize("size", [(41, 37), (9, 64), (30, 23)])
def test_network_and_engine_equal_float64_by_hand(arch, size, rng):
    network, image = random_network(arch), torch.rand(1, 3, *size, generator=rng)
    expected = by_hand(network, image)
    torch.testing.assert_close(in_float64(network)(image.double()), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(network(image).double(), expected, atol=5e-5, rtol=0)
    for options in ({}, {"band_rows": 1}, {"band_rows": 5, "store_ends": False}):
        result = BandedNetwork(network, **options)(image)
        torch.testing.assert_close(result.double(), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_blur_is_the_binomial_mean_of_nine_neighbors(dtype, rng):
    x = torch.rand(2, 3, 7, 9, generator=rng).to(dtype)
    exact = x.double()
    rows = (exact[:, :, :-2] + 2 * exact[:, :, 1:-1] + exact[:, :, 2:]) / 4
    expected = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    result = blurred(x)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, atol=torch.finfo(dtype).eps, rtol=0)


def test_blur_under_autocast_keeps_its_precision(rng):
    x = torch.rand(1, 4, 8, 8, generator=rng)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blurred(x), blurred(x.clone()))
        assert blurred(x).dtype == torch.float32


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize("size", [(8, 8), (9, 6), (5, 7)])
def test_constant_maps_stay_constant(padding, size):
    stage = ConvStage(4, 5, 3, 2, padding=padding, blur=True).requires_grad_(False)
    x = torch.rand(1, 4, 1, 1).expand(1, 4, *size)
    result = stage(x)
    expected = stage.conv.weight.sum(dim=(2, 3)) @ x[0, :, 0, 0] + stage.conv.bias
    assert result.shape[-2:] == (-(-size[0] // 2), -(-size[1] // 2))
    torch.testing.assert_close(result, expected[None, :, None, None].expand_as(result))


def test_flips_commute_with_symmetric_weights():
    stage = ConvStage(3, 4, 3, 2, padding="reflect", blur=True).requires_grad_(False)
    weight = stage.conv.weight
    weight.add_(weight.flip(3).clone())
    x = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(stage(x.flip(3)), stage(x).flip(3))


def test_weights_fit_with_and_without_blurs(tmp_path):
    plain = random_network(PLAIN)
    blurry = with_weights(ArchSpec.parse(BLURRED), plain.state_dict())
    assert plain.state_dict().keys() == blurry.state_dict().keys()
    assert not list(blurry.buffers())
    image = torch.rand(1, 3, 33, 29)
    for half in (False, True):
        save_network(tmp_path / "blurred.safetensors", blurry, {"task": "style", "name": "b"}, half=half)
        again, facts = load_network(tmp_path / "blurred.safetensors")
        assert again.spec == blurry.spec and facts["arch"] == str(blurry.spec)
        torch.testing.assert_close(again(image), blurry(image), atol=1e-2 if half else 0, rtol=0)
    result = load_style(tmp_path / "blurred.safetensors").stylize(image)
    torch.testing.assert_close(result, again(image)[..., :33, :29].clamp(0, 1), atol=1e-4, rtol=0)


def test_networks_of_several_styles_can_have_blurs():
    network = random_network(BLURRED)
    (row,) = rows_of(network)
    several = with_rows(network, [row, {key: -value for key, value in row.items()}])
    assert several.spec == network.spec.with_options(styles=2)
    image = torch.rand(1, 3, 32, 32)
    chosen, _ = select(several, {"styles": [{"name": "a"}, {"name": "b"}]}, "a")
    assert torch.equal(chosen(image), network(image))


def moved(network: TransformNet, photo: Tensor, pixels: int) -> float:
    """Return how much the picture of a photo changes when the photo moves and the picture is moved back."""
    left, right = network(photo[..., :-pixels]), network(photo[..., pixels:])
    inner = slice(16, -16)
    return float((left[..., inner, pixels:][..., inner] - right[..., inner, :-pixels][..., inner]).abs().mean())


def test_pictures_of_a_blurred_network_change_less_when_the_photo_moves(rng):
    photo = torch.rand(1, 3, 64, 129, generator=rng)
    for seed in range(3):
        plain = random_network(PLAIN.replace(" padding", " norm=none padding"), seed)
        blurry = with_weights(plain.spec.with_blurs_of(ArchSpec.parse(BLURRED)), plain.state_dict())
        # Both are compared with how much their pictures differ at all.
        plain_change, blurry_change = (
            moved(network, photo, 1) / float(network(photo).std()) for network in (plain, blurry)
        )
        assert blurry_change < plain_change, seed


def test_blurs_are_taken_over_by_the_same_convolutions_of_another_width():
    half = ArchSpec.parse("c9s1-16,d32,R32,d64,n4,c3s1-3 padding=reflect")
    full = ArchSpec.parse("c9s1-32,bd64,d128,u64,u32,c9s1-3")
    assert str(half.with_blurs_of(full)) == str(half).replace("d32", "bd32", 1)
    assert half.with_blurs_of(half) == half
    blurry = half.with_blurs_of(full)
    assert blurry.with_blurs_of(half) == blurry and str(blurry.with_width(8)).startswith("c9s1-8,bd16,R16,d32")
    with pytest.raises(ArchError, match="2 convolutions of stride 2, and .* has 1"):
        half.with_blurs_of(ArchSpec.parse("bd8,n2,c3s1-3"))


def test_training_can_start_a_blurred_network_from_a_plain_style(tmp_path):
    plain = random_network(PLAIN)
    path = tmp_path / "plain.safetensors"
    save_network(path, plain, {"task": "style", "name": "plain"})
    other_width = BLURRED.replace("c5s1-6", "c5s1-12").replace("8", "16")
    for arch in (BLURRED, other_width):
        start = begin(arch, ["x"], 0, init_from=path, add_to=None)
        assert start.network.spec == ArchSpec.parse(BLURRED)
        assert all(torch.equal(value, plain.state_dict()[key]) for key, value in start.network.state_dict().items())
        assert all(parameter.requires_grad for parameter in start.network.parameters())
    assert begin(PLAIN, ["x"], 0, init_from=path, add_to=None).network.spec == plain.spec
    assert begin(BLURRED, ["x", "y"], 0, init_from=path, add_to=None).network.spec.styles == 2
    save_network(path, with_weights(ArchSpec.parse(BLURRED), plain.state_dict()), {"task": "style", "name": "blurred"})
    assert begin(PLAIN, ["x"], 0, init_from=path, add_to=None).network.spec == ArchSpec.parse(BLURRED)


def test_slabs_and_small_budgets_do_not_change_results(rng):
    network = random_network(BLURRED.replace(" padding", " norm=batch padding"))
    image = torch.rand(1, 3, 1203, 21, generator=rng)
    rich = Engine(network, 1203, 21, device=torch.device("cpu"), precision="fp32", band_rows=3)
    poor = Engine(
        network, 1203, 21, device=torch.device("cpu"), precision="fp32", band_rows=3, memory=rich.plan.bytes // 6
    )
    assert poor.plan.slab
    assert (poor(image) - network(image)).abs().max() < 1e-5
