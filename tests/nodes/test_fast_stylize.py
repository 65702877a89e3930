"""FastStylize: image shapes and dtypes, the host's progress, and interruption."""

from __future__ import annotations

import importlib

import pytest
import torch
from fake_host import DynamicPatcher

LEVEL = 1 / 255


def _photo(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _by_core(pack, hosted, image: torch.Tensor) -> torch.Tensor:
    """Return core's result for a [B, H, W, C] image in [0, 1], C = 1, 3 or 4, without colors that alpha hides."""
    rgb = image[..., :3].float().expand(*image.shape[:-1], 3).movedim(-1, 1)
    alpha = image[..., 3].float()[:, None] if image.shape[-1] == 4 else None
    rgb = pack.module("core.images.transparency").fill_transparent(rgb, alpha)
    return hosted.model.stylize(rgb).movedim(1, -1)


def _stages_run(hosted) -> list[int]:
    """Return a list to which every stage of the network appends its index when it runs."""
    run: list[int] = []
    for i, stage in enumerate(hosted.model.network.stages):
        stage.register_forward_hook(lambda *_, i=i: run.append(i))
    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (37, 29), (5, 66)])
@pytest.mark.parametrize("batch", [1, 3])
def test_image_shapes_and_dtypes(pack, host, tiny, batch, size, channels, dtype):
    image = _photo(batch, *size, channels, dtype=dtype)
    original = image.clone()
    result = pack.run("FastStylize", image=image, style_model=tiny)

    assert result.shape == (batch, *size, 4 if channels == 4 else 3)
    assert (result.dtype, result.device) == (torch.float32, torch.device("cpu"))
    assert torch.equal(image, original)
    assert result.min() >= 0 and result.max() <= 1
    assert (result[..., :3] - _by_core(pack, tiny, image)).abs().max() <= LEVEL
    if channels == 4:
        assert torch.equal(result[..., 3], image[..., 3].float())


def test_batch_equals_single_frames(pack, tiny):
    image = _photo(3, 24, 33, 3)
    together = pack.run("FastStylize", image=image, style_model=tiny)
    singles = [pack.run("FastStylize", image=frame[None], style_model=tiny) for frame in image]
    assert torch.equal(together, torch.cat(singles))
    assert not torch.allclose(together[0], together[1], atol=LEVEL), "different frames gave the same result"


def test_bundled_styles_match_core(pack):
    image = _photo(1, 40, 52, 3)
    for style in [entry.id for entry in pack.module("core.hub.manifest").entries("style") if entry.is_bundled]:
        hosted = pack.run("LoadStyleModel", style=style)
        result = pack.run("FastStylize", image=image, style_model=hosted)
        by_name = pack.module("core.models.style_model").load_style(style).stylize(image.movedim(-1, 1)).movedim(1, -1)
        assert result.shape == image.shape, style
        assert (result - by_name).abs().max() <= LEVEL, style
        assert (result - image).abs().mean() > LEVEL, f"{style} changed nothing"


def test_values_outside_range_are_clamped(pack, tiny):
    image = _photo(1, 20, 20, 3) * 1.1 - 0.05
    assert image.min() < 0 and image.max() > 1
    original = image.clone()
    result = pack.run("FastStylize", image=image, style_model=tiny)
    assert torch.equal(image, original), "the input was changed"
    assert torch.equal(result, pack.run("FastStylize", image=image.clamp(0, 1), style_model=tiny))


def test_strided_input_matches_contiguous(pack, tiny):
    """Other nodes pass views: crops, flips, transposed and expanded tensors."""
    image = _photo(1, 40, 30, 4)
    for view in (image[:, 3:31, ::2, :3], image.transpose(1, 2)[..., :3], image[..., :1].expand(2, -1, -1, 3)):
        result = pack.run("FastStylize", image=view, style_model=tiny)
        assert torch.equal(result, pack.run("FastStylize", image=view.contiguous(), style_model=tiny))


@pytest.mark.parametrize("shape", [(24, 24, 3), (1, 24, 24, 2), (1, 24, 24, 5), (0, 24, 24, 3), (1, 24, 0, 3)])
def test_bad_image_shapes_raise(pack, tiny, shape):
    errors = pack.module("core.errors")
    with pytest.raises(errors.ImageError, match="IMAGE") as raised:
        pack.run("FastStylize", image=torch.zeros(shape), style_model=tiny)
    assert str(list(shape)) in str(raised.value)


def test_result_has_host_dtype(load_pack, host):
    host.intermediate_dtype = torch.float16
    pack = load_pack()
    pack.style(host.styles / "tiny.safetensors")
    hosted = pack.run("LoadStyleModel", style="tiny.safetensors")
    for dtype in (torch.float32, torch.float16):
        image = _photo(2, 21, 30, 4, dtype=dtype)
        result = pack.run("FastStylize", image=image, style_model=hosted)
        assert result.dtype == torch.float16
        assert (result[..., :3].float() - _by_core(pack, hosted, image)).abs().max() <= LEVEL
        assert torch.equal(result[..., 3], image[..., 3].half())


def test_result_is_on_host_device(pack, host, tiny):
    host.intermediate_device = torch.device("meta")  # exists on every machine
    result = pack.run("FastStylize", image=_photo(2, 8, 8, 3), style_model=tiny)
    assert (result.device.type, result.shape) == ("meta", (2, 8, 8, 3))


def test_host_reserves_memory_once_per_batch(pack, host, tiny):
    pack.run("FastStylize", image=_photo(3, 24, 32, 3), style_model=tiny)
    ((patchers, memory),) = host.loads
    assert patchers == [tiny.patchers[0]]
    assert memory == tiny.model.working_bytes(24, 32, torch.device("cpu")) >= 24 * 32 * 3 * 4


def test_network_moves_to_host_device(pack, host):
    """Newer hosts leave the parameters of foreign modules where they were."""
    host.device = torch.device("meta")
    pack.style(host.styles / "tiny.safetensors")
    hosted = pack.run("LoadStyleModel", style="tiny.safetensors")
    assert hosted.load(24, 32) == torch.device("meta")
    assert {p.device.type for p in hosted.model.network.parameters()} == {"meta"}


def test_host_of_a_gpu_is_asked_for_the_fastest_way(pack, host):
    """What is free now may be little because another model fills the GPU, which the host would evict if asked."""
    host.device = torch.device("meta")
    pack.style(host.styles / "tiny.safetensors")
    hosted = pack.run("LoadStyleModel", style="tiny.safetensors")
    hosted.load(1080, 1920)
    ((_, asked),) = host.loads
    assert asked > hosted.model.working_bytes(1080, 1920, host.device, memory=1 << 40)


@pytest.mark.parametrize("batch", [1, 4])
def test_progress_increases_to_total(pack, host, tiny, batch):
    pack.run("FastStylize", image=_photo(batch, 16, 20, 3), style_model=tiny)
    (steps,) = host.bars
    values = [value for value, _ in steps]
    assert {total for _, total in steps} == {batch * 1000}
    assert values == sorted(set(values)), "progress does not increase"
    assert values[-1] == batch * 1000


def test_interruption_stops_at_once(pack, host, tiny):
    stages = len(tiny.model.network.stages)
    host.interrupt_at = stages + 3  # in the second frame
    run = _stages_run(tiny)
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
        pack.run("FastStylize", image=_photo(5, 16, 16, 3), style_model=tiny)
    assert raised.value is host.interruption
    assert len(run) <= stages + 3, "work continued after the interruption"


def test_works_after_interruption(pack, host, tiny):
    image = _photo(1, 16, 16, 3)
    host.interrupt_at = 2
    with pytest.raises(Exception) as raised:  # noqa: B017
        pack.run("FastStylize", image=image, style_model=tiny)
    assert raised.value is host.interruption
    result = pack.run("FastStylize", image=image, style_model=tiny)
    assert (result - _by_core(pack, tiny, image)).abs().max() <= LEVEL


def test_calls_are_independent(pack, tiny):
    """A second call gives the same result, whatever is stylized in between."""
    image = _photo(1, 16, 24, 3)
    first = pack.run("FastStylize", image=image, style_model=tiny)
    pack.run("FastStylize", image=_photo(2, 33, 9, 4, seed=1), style_model=tiny)
    assert torch.equal(first, pack.run("FastStylize", image=image, style_model=tiny))


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_networks_are_managed_like_the_hosts_own(newer, host, load_pack):
    """A patcher of any other class would make newer hosts push large models out of memory."""
    host.newer = newer
    pack = load_pack()
    pack.style(host.styles / "tiny.safetensors")
    style = pack.run("LoadStyleModel", style="tiny.safetensors")
    pack.run("FastStylize", image=torch.rand(1, 24, 24, 3), style_model=style)
    (((patcher,), _),) = host.loads
    assert patcher.model is style.model.network and patcher.is_dynamic() == newer


def test_patcher_class_is_looked_up_late(host, load_pack):
    """Newer hosts choose the class of their own loaders at startup."""
    pack = load_pack()
    pack.style(host.styles / "tiny.safetensors")
    importlib.import_module("comfy.model_patcher").CoreModelPatcher = DynamicPatcher
    (patcher,) = pack.run("LoadStyleModel", style="tiny.safetensors").patchers
    assert patcher.is_dynamic()


def test_colors_under_transparency_change_nothing(pack, tiny):
    image = _photo(1, 40, 52, 4)
    image[..., 3] = (image[..., 3] > 0.5).float()
    other = image.clone()
    other[..., :3][image[..., 3] == 0] = 1.0
    results = [pack.run("FastStylize", image=each, style_model=tiny) for each in (image, other)]
    assert torch.equal(*results)
