"""What core does on a device that is no CPU, with real numbers (test_pretended_gpu.py runs this in a process of its own)."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from float64 import in_float64
from foreign_files import PROGRAMS, make
from helpers import SMALL, style_model
from network_archs import ARCHS, randomized
from perceptual_style.core import build_network, load_style, load_upscaler
from perceptual_style.core.arithmetic import has_float64
from perceptual_style.core.checkpoints.dialects import load_foreign
from perceptual_style.core.engine import memory_plan
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.passes import BandedNetwork
from perceptual_style.core.engine.ranges import fits_float16
from perceptual_style.core.hub.manifest import entries
from perceptual_style.core.models.blend import blend_styles, style_regions
from perceptual_style.core.models.predict import Predictor
from perceptual_style.core.models.predictor_file import new_predictor
from perceptual_style.core.network.pixels import OURS, PixelConvention
from perceptual_style.core.network.style_predictor import EncoderSpec
from perceptual_style.core.network.transform_net import TransformNet, extend
from pretended.device import DEVICE, Pretended, on_device, put, stays
from small_networks import small_vgg16
from torch import Tensor

EXACT = 4e-6  # of the range of the pictures
WAYS = [{}, {"band_rows": 14, "store_ends": False, "host_maps": True}]
BUNDLED_STYLES, BUNDLED_UPSCALERS = (
    [entry.id for entry in entries(task) if entry.is_bundled] for task in ("style", "upscale")
)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 8 << 30)
    monkeypatch.setattr(torch.nn.Module, "to", stays)
    has_float64.cache_clear()


def photo(height: int = 96, width: int = 128) -> Tensor:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16), (height, width), mode="bicubic")
    return (smooth + 0.01 * torch.randn_like(smooth)).clamp(0, 1)


def far(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value expected, or to 1."""
    return float((result - expected).abs().max() / expected.abs().max().clamp_min(1))


def rounding(network: TransformNet, image: Tensor, expected: Tensor) -> float:
    """Return how far the plain forward is from float64.

    Instance norms enlarge what float32 rounds, in all ways to compute them: with some networks up to 5e-5. Other ways may be
    as far from the plain forward, in another direction.

    Where all planes are flat, float64 is no oracle: it, too, enlarges its rounding from norm to norm.
    """
    is_flat = bool((image == image[..., :1, :1]).all()) and "reflect" in network.spec.padding
    return 0.0 if is_flat else far(expected, in_float64(network)(image.double()))


def bound(network: TransformNet, image: Tensor, expected: Tensor) -> float:
    """Return how far from the plain forward another way to compute it may be."""
    return max(EXACT, 3 * rounding(network, image, expected))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_kind_of_network_matches_plain_forward(arch: str) -> None:
    network = randomized(arch)
    image = extend(torch.rand(1, 3, 43, 37), network.spec.smallest_side)
    expected, there = network(image), put(copy.deepcopy(network))
    for way in WAYS:
        with Pretended() as device:
            result = BandedNetwork(there, **way)(on_device(image))
        assert result.device == DEVICE and device.unguarded == 0
        assert far(result.held, expected) < bound(network, image, expected), way


@pytest.mark.parametrize("arch", ARCHS)
def test_whole_maps_match_plain_forward(arch: str) -> None:
    network = randomized(arch)
    there, choice = put(copy.deepcopy(network)), random.Random(0)
    for _ in range(2):
        image = extend(torch.rand(1, 3, choice.randint(1, 40), choice.randint(1, 40)), network.spec.smallest_side)
        expected = network(image)
        with Pretended() as device:
            engine = Engine(there, *image.shape[-2:], device=DEVICE, precision="fp32")
            result = engine(on_device(image))
        assert engine.plan.whole and result.device == DEVICE and result.shape == expected.shape
        assert device.convolutions.count(torch.float32) == len(device.convolutions)
        assert far(result.held, expected) < bound(network, image, expected), image.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BUNDLED_STYLES, *BUNDLED_UPSCALERS])
def test_bundled_networks_match_plain_forward_at_any_size(name: str) -> None:
    load = load_style if name in BUNDLED_STYLES else load_upscaler
    compare_at_20_sizes(load(name).network)


@pytest.mark.slow
@pytest.mark.parametrize("family", PROGRAMS)
def test_foreign_networks_match_plain_forward_at_any_size(family: str, tmp_path: Path) -> None:
    torch.save(make(family), tmp_path / "file")
    network, pixels, _ = load_foreign(tmp_path / "file")
    compare_at_20_sizes(network, pixels)


def compare_at_20_sizes(network: TransformNet, pixels: PixelConvention = OURS) -> None:
    """Compare whole maps with the plain forward for 19 photos and a flat image, and print the largest difference."""
    there, choice = put(copy.deepcopy(network)), random.Random(str(network.spec))
    found, plain = [], []
    for index in range(20):
        image = photo(choice.randint(9, 90), choice.randint(9, 90))
        image = pixels.to_network(image if index else torch.full_like(image, 0.4))
        image = extend(image, network.spec.smallest_side)
        expected = network(image)
        with Pretended():
            engine = Engine(there, *image.shape[-2:], device=DEVICE, precision="fp32")
            result = engine(on_device(image))
        assert engine.plan.whole
        found.append(far(result.held, expected))
        plain.append(rounding(network, image, expected))
    print(f"largest difference {max(found):.1e}, of float64 from the plain forward {max(plain):.1e}")
    assert found[0] < (2 * plain[0] or EXACT) and max(found) < max(EXACT, 2 * max(plain))


def run(network: torch.nn.Module, image: Tensor, precision: str, **options: bool) -> tuple[Tensor, Pretended]:
    there = put(copy.deepcopy(network))
    with Pretended(**options) as device:
        engine = Engine(there, *image.shape[-2:], device=DEVICE, precision=precision)
        return engine(on_device(image)).held, device


def test_fp32_is_exact_while_tf32_is_allowed() -> None:
    network, image = load_style("wave").network, photo()
    expected = network(image)
    rounded, _ = run(network, image, "fp32", tf32=True)
    assert (rounded - expected).abs().max() < EXACT
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
    assert (result - network(image)).abs().max() < EXACT


def test_auto_gives_up_fp16_where_values_leave_its_range() -> None:
    network = randomized("c3s1-8,c3s1-8,c3s1-3 norm=none padding=zero")  # a norm would undo the factor
    image = 0.5 * torch.ones(1, 3, 24, 24)
    assert fits_float16(network, image)
    network.stages[0].conv.weight.mul_(1e6)
    network.stages[1].conv.weight.mul_(1e-6)
    expected = network(image)
    result, device = run(network, image, "auto")
    assert torch.float16 not in device.convolutions and result.isfinite().all()
    assert (result - expected).abs().max() < 0.2 * expected.abs().max().clamp_min(1)


MASK = (torch.arange(64) > 30).float().expand(1, 1, 48, 64)
CONTROLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strength": {"strength": 0.5},
    "keep": {"color": "keep"},
    "match": {"color": "match"},
    "stroke": {"stroke_size": 2.0},
    "stroke by size": {"stroke_size": "auto"},
    "panorama": {"wrap": "x"},
    "tile": {"wrap": "xy", "strength": 0.7, "mask": MASK, "feather": 8.0},
    "mask": {"mask": MASK, "feather": 8.0},
    "temporal": {"temporal": 0.7},
    "little memory": {"memory": 1 << 20},
    "all": {"strength": 0.6, "stroke_size": 1.5, "color": "match", "mask": MASK, "feather": 9.0, "temporal": 0.7},
}
STYLE = "c9s1-8,d16,d16,R16x2,n2,c3s1-8,n2,c3s1-8,c9s1-3 padding=reflect"


def frames() -> Tensor:
    first = photo(48, 64)
    return torch.cat([first, first.roll((1, 2), (2, 3))])


def differs(compute: Callable[..., Tensor], on_gpu: Callable[..., Tensor], images: Tensor, **options: Any) -> float:
    """Return the largest difference between what a model computes on the CPU and on the device."""
    expected = compute(images, precision="fp32", **options)
    with Pretended() as device:
        result = on_gpu(on_device(images), precision="fp32", **options)
    assert result.device == DEVICE and device.unguarded == 0
    return float((result.held - expected).abs().max())


@pytest.mark.parametrize("control", CONTROLS)
def test_styles_and_their_controls(control: str) -> None:
    model, there = style_model(STYLE), style_model(STYLE)
    put(there.network)
    assert differs(model.stylize, there.stylize, frames(), **CONTROLS[control]) < EXACT


@pytest.mark.parametrize("options", [{}, {"match_colors": True}, {"fidelity": 0.5}], ids=str)
def test_upscalers(options: dict[str, Any]) -> None:
    model, there = load_upscaler("perceptual_x2"), load_upscaler("perceptual_x2")
    for network in (there.network, there.partner):
        put(network)
    assert differs(model.upscale, there.upscale, photo(20, 24), **options) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BUNDLED_STYLES, *BUNDLED_UPSCALERS])
def test_bundled_networks(name: str) -> None:
    is_style = name in BUNDLED_STYLES
    model, there = ((load_style if is_style else load_upscaler)(name) for _ in range(2))
    put(there.network)
    image = photo() if is_style else photo(40, 48)
    compute, on_gpu = (each.stylize if is_style else each.upscale for each in (model, there))
    for memory in (None, 4 << 20):  # whole maps, and bands
        assert differs(compute, on_gpu, image, memory=memory) < EXACT


def test_predicted_styles(tmp_path: Path) -> None:
    torch.manual_seed(2)
    encoder = EncoderSpec("vgg16_small", ("relu1_2", "relu2_2"), size=48, reduced=3, hidden=8, vector=5)
    network = new_predictor(build_network(SMALL), encoder, small_vgg16(tmp_path / "vgg.safetensors")).eval()
    torch.nn.init.normal_(network.head.weight)
    here = Predictor(network.requires_grad_(False), "any")
    there = Predictor(put(copy.deepcopy(network)), "any")
    with Pretended():
        model = there.predict([photo(), photo(70, 80)], [1.0, 3.0])
    assert differs(here.predict([photo(), photo(70, 80)], [1.0, 3.0]).stylize, model.stylize, frames()) < EXACT


def test_two_styles() -> None:
    here, there = ([style_model(STYLE, seed=seed) for seed in (0, 1)] for _ in range(2))
    for model in there:
        put(model.network)
    images = frames()
    with Pretended():
        blend = blend_styles(*there, 0.4)
    assert differs(blend_styles(*here, 0.4).stylize, blend.stylize, images) < EXACT
    regions, regions_there = (style_regions(one, MASK, other) for one, other in (here, there))
    assert differs(regions.stylize, regions_there.stylize, images) < EXACT
