"""LoadPerceptualUpscaler: descriptors as spandrel, the host's library for upscalers, promises them."""

from __future__ import annotations

import importlib

import pytest
import torch

spandrel = pytest.importorskip("spandrel", reason="needs spandrel, a requirement of ComfyUI")


@pytest.fixture
def load(pack, host):
    """Write a network and load it as the host's upscale model. Keywords are the node's inputs."""

    def load(arch: str | None = None, scale: int = 4, **inputs):
        pack.upscaler(host.upscalers / "pixel.safetensors", scale, seed=1)
        if arch is None:
            pack.upscaler(host.upscalers / "tiny.safetensors", scale, partner="pixel")
        else:
            pack.style(host.upscalers / "tiny.safetensors", arch=arch, task="upscale")
        return pack.run("LoadPerceptualUpscaler", model="tiny.safetensors", **inputs)

    return load


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_descriptor_properties(load, scale):
    model = load(scale=scale)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.scale, model.input_channels, model.output_channels, model.purpose) == (scale, 3, 3, "SR")
    assert model.tiling == spandrel.ModelTiling.SUPPORTED and model.architecture.name == "Perceptual Style"
    assert model.size_requirements.none and (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert isinstance(model.model, torch.nn.Module) and not model.model.training


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
@pytest.mark.parametrize(
    "arch",
    [
        None,
        "c9s1-4,R4,u4,c9s1-3 padding=reflect norm=batch",
        "c9s1-4,R4,u4,c9s1-3 padding=reflect-start norm=batch",
        "c3s1-4,d4,u4,u4,c3s1-3 padding=zero norm=none",
    ],
)
def test_call_matches_core(pack, host, load, arch, size, rng):
    model, image = load(arch), torch.rand(1, 3, *size, generator=rng)
    result = model.to("cpu")(image)
    assert result.shape == (1, 3, size[0] * model.scale, size[1] * model.scale)
    by_core = pack.module("core.models.upscale_model").load_upscaler(host.upscalers / "tiny.safetensors")
    expected = by_core.upscale(image, precision="fp32")
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close_to_single(load, dtype, rng):
    image = torch.rand(1, 3, 16, 20, generator=rng)
    single = load()(image)
    result = load().to(dtype)(image.to(dtype))
    assert result.dtype == dtype and (result.float() - single).abs().max() < 0.02


def test_fidelity_blends_networks(load, pack, rng):
    image = torch.rand(1, 3, 6, 8, generator=rng)
    blends = [load(fidelity=fidelity)(image) for fidelity in (0.0, 0.5, 1.0)]
    pixel = pack.run("LoadPerceptualUpscaler", model="pixel.safetensors")
    torch.testing.assert_close(blends[2], pixel(image))
    assert (blends[0] - blends[1]).abs().max() > 0.01 and (blends[1] - blends[2]).abs().max() > 0.01


def test_tiling_is_discouraged_with_instance_norm(load):
    assert load("c3s1-4,u4,c3s1-3 norm=instance").tiling == spandrel.ModelTiling.DISCOURAGED


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_host_node_can_use_descriptor(newer, host, load_pack, rng):
    """The host's Upscale Image (using Model), which other packs such as Ultimate SD Upscale call as well."""
    host.newer = newer
    pack = load_pack()
    name = pack.upscaler(host.upscalers / "tiny.safetensors").name
    model, image = pack.run("LoadPerceptualUpscaler", model=name), torch.rand(1, 12, 9, 3, generator=rng)
    if newer:
        device = model.patcher.load_device
        load = importlib.import_module("comfy.model_management").load_models_gpu
        load([model.patcher], memory_required=1000 * max(model.scale, 1.0), force_full_load=True)
    else:
        device = torch.device("cpu")
        model.to(device)
    result = model(image.movedim(-1, -3).to(device).float())
    by_core = pack.module("core.models.upscale_model").load_upscaler(host.upscalers / "tiny.safetensors")
    torch.testing.assert_close(result, by_core.upscale(image.movedim(-1, 1), precision="fp32"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_host_manages_descriptor_network(newer, host, load_pack):
    host.newer = newer
    pack = load_pack()
    model = pack.run("LoadPerceptualUpscaler", model=pack.upscaler(host.upscalers / "tiny.safetensors").name)
    assert model.patcher.model is model.model and model.patcher.is_dynamic() == newer
    assert (model.patcher.load_device, model.patcher.offload_device) == (host.device, torch.device("cpu"))
