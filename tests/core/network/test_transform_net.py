"""TransformNet: the paper's networks number by number, and every stage against NumPy, SciPy or torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.stages import ConvStage, InstanceNorm, ResidualStage, UpsampleStage, same_padding
from perceptual_style.core.network.transform_net import (
    TransformNet,
    build_network,
    extend,
    forward_any_size,
    output_function,
)
from perceptual_style.core.training.style_recipes import PAPER_ARCH
from scipy.signal import correlate2d

HALF_WIDTH = "c9s1-16,d32,d64,R64x5,u32,u16,c9s1-3"
SR_X4 = "c9s1-64,R64x4,u64x2,c9s1-3 norm=batch padding=zero"
SR_X8 = "c9s1-64,R64x4,u64x3,c9s1-3 norm=batch padding=zero"
NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}


def on_meta(text: str) -> TransformNet:
    """Build a network that computes shapes only, on the meta device."""
    with torch.device("meta"):
        return build_network(text)


@pytest.mark.parametrize(
    ("text", "parameters"), [(PAPER_ARCH, 1_679_235), (HALF_WIDTH, 424_899), (SR_X4, 401_859), (SR_X8, 438_915)]
)
def test_parameter_counts_equal_the_papers(text, parameters):
    assert sum(p.numel() for p in on_meta(text).parameters()) == parameters


def test_style_network_has_the_shapes_of_the_supplements_table():
    x = torch.empty(1, 3, 256, 256, device="meta")
    rows = []
    for stage in on_meta(PAPER_ARCH).stages:
        x = stage(x)
        rows.append((x.shape[1], x.shape[2], x.shape[3]))
    expected = [(3, 336), (32, 336), (64, 168), (128, 84), (128, 80), (128, 76), (128, 72), (128, 68), (128, 64)]
    expected += [(64, 128), (32, 256), (3, 256)]
    assert rows == [(channels, side, side) for channels, side in expected]


@pytest.mark.parametrize(
    ("text", "side", "result"), [(PAPER_ARCH, 257, 260), (PAPER_ARCH, 256, 256), (SR_X4, 72, 288), (SR_X8, 36, 288)]
)
def test_output_sizes_equal_the_papers(text, side, result):
    assert on_meta(text)(torch.empty(2, 3, side, side, device="meta")).shape == (2, 3, result, result)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_all_layers_but_the_last_have_norm_and_relu(norm):
    network = build_network(f"c3s1-4,d6,R6,U2,n2,d6,u5,c3s1-3 norm={norm} padding=zero")
    kind = {"instance": InstanceNorm, "batch": torch.nn.BatchNorm2d, "none": type(None)}[norm]
    c, d, r, upsample, nearest, _, u, last = network.stages
    assert all(isinstance(stage.norm, kind) and stage.relu for stage in (c, d, upsample, u, r.first))
    assert isinstance(r.second.norm, kind) and not r.second.relu
    assert last.norm is None and not last.relu
    assert nearest.norm is None and not nearest.relu


def test_new_weights_are_uniform_within_torch7s_bounds():
    conv = build_network("c9s1-64,c3s1-3").stages[0].conv
    bound = (3 * 9 * 9) ** -0.5
    assert conv.weight.abs().max() <= bound and conv.bias.abs().max() <= bound
    assert abs(float(conv.weight.detach().std()) - bound / 3**0.5) < 0.03 * bound


def block(kind: str = "plain", padding: str = "none") -> ResidualStage:
    """Return a residual block of one channel whose two convolutions multiply each pixel by 2 and by -1."""
    stages = [ConvStage(1, 1, 3, 1, padding=padding, relu=True), ConvStage(1, 1, 3, 1, padding=padding)]
    for stage, factor in zip(stages, (2.0, -1.0), strict=True):
        torch.nn.init.zeros_(stage.conv.weight)
        torch.nn.init.zeros_(stage.conv.bias)
        stage.conv.weight.data[0, 0, 1, 1] = factor
    return ResidualStage(*stages, kind)


def test_residual_block_has_no_relu_after_the_addition():
    x = torch.tensor([-1.0, 3.0]).repeat(8, 4)[None, None]  # -1 -> -1 - relu(-2) = -1, 3 -> 3 - relu(6) = -3
    assert torch.equal(block()(x), torch.tensor([-1.0, -3.0]).repeat(4, 2)[None, None])


def test_residual_kinds_relu_and_twice():
    x = torch.tensor([-1.0, 3.0, 5.0]).expand(1, 1, 6, 3)
    assert torch.equal(block("relu", "zero")(x), torch.zeros(1, 1, 6, 3))
    assert torch.equal(block("twice", "zero")(x), torch.tensor([-2.0, 0.0, 0.0]).expand(1, 1, 6, 3))


def test_unpadded_residual_block_crops_its_skip_by_two_pixels():
    image = torch.arange(7.0 * 9).view(1, 1, 7, 9)
    stage = block()
    stage.second.conv.weight.data.zero_()
    assert torch.equal(stage(image), image[..., 2:-2, 2:-2])
    padded = block(padding="reflect")
    padded.second.conv.weight.data.zero_()
    assert torch.equal(padded(image), image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5, 8, 9), (1, 3, 1, 1), (2, 1, 1, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_follows_its_formula(shape, dtype, layout, rng):
    norm = InstanceNorm(shape[1])
    torch.nn.init.normal_(norm.weight, generator=rng)
    torch.nn.init.normal_(norm.bias, generator=rng)
    x = (3 * torch.randn(shape, generator=rng) + 2).to(dtype, memory_format=layout)
    y = norm(x).detach()
    exact = x.double().numpy()
    mean, variance = exact.mean(axis=(2, 3), keepdims=True), exact.var(axis=(2, 3), keepdims=True)
    scale, shift = (p.detach().double().numpy()[:, None, None] for p in (norm.weight, norm.bias))
    formula = (exact - mean) / np.sqrt(variance + 1e-5) * scale + shift
    assert y.dtype == dtype
    # float32 has a relative error of 6e-8, which the division by a small deviation enlarges
    precision = 2e-6 * (1 + np.abs(exact) / np.sqrt(variance + 1e-5) * np.abs(scale))
    rounding = 0 if dtype == torch.float32 else torch.finfo(dtype).eps * np.abs(formula)
    assert (np.abs(y.double().numpy() - formula) <= precision + rounding).all()


@pytest.mark.parametrize(("layout", "far"), [(torch.contiguous_format, 300), (torch.channels_last, 10)])
def test_instance_norm_is_exact_far_from_zero(layout, far, rng):
    x = (torch.randn(1, 8, 64, 64, generator=rng) + far).contiguous(memory_format=layout)
    exact = x.double()
    expected = (exact - exact.mean(dim=(2, 3), keepdim=True)) / exact.std(dim=(2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(InstanceNorm(8)(x).double(), expected, atol=2e-3, rtol=0)


def test_instance_norm_equals_torch(rng):
    norm = InstanceNorm(6, eps=1e-3)
    torch.nn.init.normal_(norm.weight, generator=rng)
    torch.nn.init.normal_(norm.bias, generator=rng)
    x = torch.randn(3, 6, 11, 13, generator=rng)
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-3)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_norms_use_the_eps_of_the_spec(norm):
    network = build_network(f"c3s1-4,R4,c3s1-3 norm={norm} eps=0.01 last=norm")
    norms = [module for module in network.modules() if hasattr(module, "eps")]
    assert [module.eps for module in norms] == [0.01] * 4
    assert network.stages[-1].norm is not None and not network.stages[-1].relu


def test_layers_before_the_first_residual_block_can_be_without_norms():
    network = build_network("c3s1-4,d4,R4x2,n2,c3s1-4,c3s1-3 first=plain last=norm")
    normed = {name.split(".")[1] for name, module in network.named_modules() if hasattr(module, "eps")}
    assert [stage for stage in map(str, range(1, len(network.stages))) if stage not in normed] == ["1", "2", "5"]
    assert network.stages[1].relu and network.stages[2].relu


def test_instance_norm_keeps_no_statistics(rng):
    norm = InstanceNorm(2)
    x = torch.rand(1, 2, 8, 8, generator=rng)
    first = norm(x)
    norm(100 * x + 7)
    assert torch.equal(norm.eval()(x), first)
    assert set(norm.state_dict()) == {"weight", "bias"}


def by_hand(x: np.ndarray, stage: ConvStage, padded: list[np.ndarray]) -> np.ndarray:
    """Compute a stage's convolution of padded channels with SciPy."""
    weight, bias = stage.conv.weight.detach().numpy(), stage.conv.bias.detach().numpy()
    out = [sum(correlate2d(p, k, "valid") for p, k in zip(padded, kernels, strict=True)) for kernels in weight]
    return np.stack([plane[:: stage.stride, :: stage.stride] + b for plane, b in zip(out, bias, strict=True)])


@pytest.mark.parametrize("shape", [(7, 10), (8, 9), (5, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(9, 1), (3, 1), (3, 2), (5, 3), (1, 1)])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_convolution_pads_like_numpy(padding, kernel, stride, shape, rng):
    stage = ConvStage(2, 3, kernel, stride, padding=padding).double()
    x = torch.randn(1, 2, *shape, generator=rng, dtype=torch.float64)
    padded = [np.pad(plane, kernel // 2, mode=NUMPY_MODES[padding]) for plane in x[0].numpy()]
    np.testing.assert_allclose(stage(x)[0].detach().numpy(), by_hand(x, stage, padded), atol=1e-12)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (8, 9, 1, (4, 4)), (1, 3, 2, (1, 1)), (6, 1, 2, (0, 0))],
)
def test_same_padding_equals_tensorflow(side, kernel, stride, expected):
    assert same_padding(side, kernel, stride) == expected


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 7)])
def test_same_convolution_of_stride_two_pads_the_odd_zero_last(shape, rng):
    stage = ConvStage(2, 3, 3, 2, padding="same").double()
    x = torch.randn(1, 2, *shape, generator=rng, dtype=torch.float64)
    edges = [(side % 2, 1) for side in shape]
    padded = [np.pad(plane, edges) for plane in x[0].numpy()]
    np.testing.assert_allclose(stage(x)[0].detach().numpy(), by_hand(x, stage, padded), atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (9, 1), (5, 3), (1, 2)])
def test_transposed_convolution_spreads_each_pixel_over_the_kernel(kernel, stride, rng):
    stage = ConvStage(2, 3, kernel, stride, padding="zero", transposed=True).double()
    x = torch.randn(1, 2, 4, 5, generator=rng, dtype=torch.float64)
    weight, half = stage.conv.weight.detach().numpy(), kernel // 2
    canvas = np.zeros((3, 4 * stride + 2 * kernel, 5 * stride + 2 * kernel))
    for (c, i, j), value in np.ndenumerate(x[0].numpy()):
        canvas[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] += value * weight[c]
    expected = canvas[:, half : half + 4 * stride, half : half + 5 * stride]
    expected = expected + stage.conv.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(stage(x)[0].detach().numpy(), expected, atol=1e-12)


def test_nearest_upsampling_repeats_pixels(rng):
    x = torch.randn(1, 2, 3, 5, generator=rng)
    repeated = x.numpy().repeat(3, axis=2).repeat(3, axis=3)
    assert np.array_equal(UpsampleStage(3, None, relu=False)(x).numpy(), repeated)
    assert np.array_equal(UpsampleStage(3, None, relu=True)(x).numpy(), repeated.clip(0))


def test_output_functions_follow_their_formulas():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    assert torch.equal(output_function(x, "linear"), x)
    torch.testing.assert_close(output_function(x, "tanh"), (torch.tanh(x) + 1) / 2)
    torch.testing.assert_close(output_function(x, "tanh150"), 150 * torch.tanh(x))
    torch.testing.assert_close(output_function(x, "tanh0.5"), 0.5 * torch.tanh(x))
    torch.testing.assert_close(output_function(x, "sigmoid"), 1 / (1 + torch.exp(-x)))


NETWORKS = (
    "c3s1-4,d4,R4,n2,c3s1-3 padding=reflect",
    "c3s1-4,d4,d4,R4,u4,u4,c3s1-3 padding=reflect-start",
    "c3s1-4,c3s4-4,R4,f3s4-4,c3s1-3 padding=same",
    "c3s1-4,R4,u4,c3s1-3 padding=zero norm=batch",
    "c9s1-4,R4,R4,c9s1-3 padding=replicate",
)


@pytest.mark.parametrize("text", NETWORKS)
def test_forward_any_size_returns_the_exact_size(text, rng):
    network = build_network(text).eval().requires_grad_(False)
    scale = network.spec.scale
    sizes = [(side, 21 - side) for side in range(1, 21)] + [(side, side) for side in (1, 3, 20)] + [(1, 67), (33, 2)]
    for height, width in sizes:
        out = forward_any_size(network, torch.rand(1, 3, height, width, generator=rng))
        assert out.shape == (1, 3, scale * height, scale * width)
        assert out.isfinite().all()


@pytest.mark.parametrize("text", NETWORKS)
def test_forward_any_size_equals_the_network_at_fitting_sizes(text, rng):
    network = build_network(text).eval()
    image = torch.rand(2, 3, 24, 28, generator=rng)
    assert torch.equal(forward_any_size(network, image), network(image))


@pytest.mark.parametrize("text", NETWORKS)
def test_batch_equals_its_images_one_by_one(text, rng):
    network = build_network(text).eval()
    images = torch.rand(3, 3, 24, 20, generator=rng) * torch.tensor([1.0, 0.2, 0.7]).view(3, 1, 1, 1)
    torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))


def test_network_does_not_change_its_input(rng):
    image = torch.rand(1, 3, 16, 16, generator=rng)
    before = image.clone()
    build_network("c1s1-3,n2,d3,c3s1-3 norm=none padding=zero output=linear")(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 3), (5, 40), (13, 12), (41, 41)])
@pytest.mark.parametrize("smallest", [1, 5, 41])
def test_extend_mirrors_and_keeps_the_pixels(height, width, smallest, rng):
    image = torch.rand(2, 3, height, width, generator=rng)
    out = extend(image, smallest)
    bottom, right = max(0, smallest - height), max(0, smallest - width)
    assert torch.equal(out[..., :height, :width], image)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    assert np.array_equal(out.numpy(), expected)


def test_spec_and_string_build_the_same_network():
    text = "c3s1-4,R4,c3s1-3 norm=batch"
    assert build_network(ArchSpec.parse(text)).spec == build_network(text).spec


def test_raw_result_is_the_input_of_the_output_function():
    network, image = build_network("c3s1-4,c3s1-3 padding=reflect output=tanh150").eval(), torch.rand(1, 3, 9, 8)
    assert torch.equal(150 * torch.tanh(network(image, raw=True)), network(image))


@pytest.mark.parametrize("side", [4, 32, 64])
def test_instance_norm_of_channels_last_input_without_gradient(side, rng):
    """The backward pass of group_norm crashes for such input in torch 2.13 and older."""
    image, norm = torch.rand(4, 32, side, side, generator=rng), InstanceNorm(32)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        norm(image.contiguous(memory_format=layout)).square().sum().backward()
        gradients.append(norm.weight.grad)
        norm.weight.grad = None
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
