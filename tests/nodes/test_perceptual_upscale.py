"""PerceptualUpscale: sizes, alpha and masks of the result, and which models it lists and rejects."""

from __future__ import annotations

import os

import pytest
import torch
from hostile_files import safetensors

LEVEL = 1 / 255
NODES = ("PerceptualUpscale", "LoadPerceptualUpscaler")


def _photo(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _options(pack, node: str = "PerceptualUpscale") -> list[str]:
    return next(each for each in pack.schema(node).inputs if each.id == "model").options


@pytest.fixture
def model(pack, host) -> str:
    """Name of an untrained x2 upscaler with a partner."""
    pack.upscaler(host.upscalers / "pixel.safetensors", seed=1)
    return pack.upscaler(host.upscalers / "tiny.safetensors", partner="pixel").name


@pytest.fixture
def by_core(pack, host, model):
    """Compute core's result for a [B, H, W, C] image in [0, 1], C = 1, 3 or 4, without colors that alpha hides."""
    loaded = pack.module("core.models.upscale_model").load_upscaler(host.upscalers / model)

    def compute(image: torch.Tensor, **options) -> torch.Tensor:
        rgb = image[..., :3].float().expand(*image.shape[:-1], 3)
        alpha = image[..., 3].float()[:, None] if image.shape[-1] == 4 else None
        rgb = pack.module("core.images.transparency").fill_transparent(rgb.movedim(-1, 1), alpha)
        return loaded.upscale(rgb, **options).movedim(1, -1)

    return compute


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (37, 29), (5, 66)])
@pytest.mark.parametrize("batch", [1, 3])
def test_image_shapes_and_dtypes(pack, model, by_core, batch, size, channels, dtype):
    image = _photo(batch, *size, channels, dtype=dtype)
    original = image.clone()
    result, mask = pack.run("PerceptualUpscale", image=image, model=model)
    height, width = 2 * size[0], 2 * size[1]
    assert result.shape == (batch, height, width, 4 if channels == 4 else 3)
    assert mask.shape == (batch, height, width)
    for each in (result, mask):
        assert (each.dtype, each.device) == (torch.float32, torch.device("cpu"))
        assert each.min() >= 0 and each.max() <= 1
    assert torch.equal(image, original)
    assert (result[..., :3] - by_core(image)).abs().max() <= LEVEL
    if channels == 4:
        alpha = pack.module("core.images.bicubic").enlarge(image[..., 3].float()[:, None], 2)[:, 0].clamp(0, 1)
        torch.testing.assert_close(result[..., 3], alpha)
        assert torch.equal(mask, 1 - result[..., 3])
    else:
        assert not mask.any()


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_model_sets_the_scale(pack, host, scale):
    name = pack.upscaler(host.upscalers / "any.safetensors", scale).name
    result, mask = pack.run("PerceptualUpscale", image=_photo(1, 7, 5, 3), model=name)
    assert result.shape == (1, 7 * scale, 5 * scale, 3) and mask.shape == (1, 7 * scale, 5 * scale)


def test_batch_equals_single_frames(pack, model):
    image = _photo(3, 24, 33, 4)
    together, _ = pack.run("PerceptualUpscale", image=image, model=model)
    singles = [pack.run("PerceptualUpscale", image=frame[None], model=model)[0] for frame in image]
    assert torch.equal(together, torch.cat(singles))


def test_opaque_images_stay_opaque(pack, model):
    image = _photo(1, 9, 12, 4)
    image[..., 3] = 1
    result, mask = pack.run("PerceptualUpscale", image=image, model=model)
    assert bool((result[..., 3] == 1).all()) and not mask.any()


@pytest.mark.parametrize("shape", [(2, 12, 9), (1, 12, 9), (12, 9), (2, 1, 12, 9), (1, 64, 64), (1, 3, 30)])
def test_masks_have_result_size(pack, model, shape):
    mask = _photo(*shape)
    original = mask.clone()
    _, result = pack.run("PerceptualUpscale", image=_photo(2, 12, 9, 4), model=model, mask=mask)
    assert result.shape == (len(mask.reshape(-1, *shape[-2:])), 24, 18) and torch.equal(mask, original)
    assert result.min() >= 0 and result.max() <= 1
    if shape[-2:] == (12, 9):
        expected = pack.module("core.images.bicubic").enlarge(mask.reshape(-1, 1, 12, 9), 2)[:, 0].clamp(0, 1)
        torch.testing.assert_close(result, expected)
    for value in (0.0, 1.0):
        _, even = pack.run("PerceptualUpscale", image=_photo(1, 12, 9, 3), model=model, mask=torch.full(shape, value))
        torch.testing.assert_close(even, torch.full_like(even, value))


def test_bad_images_and_masks_raise(pack, model):
    error = pack.module("core.errors").ImageError
    with pytest.raises(error, match="expected an IMAGE"):
        pack.run("PerceptualUpscale", image=torch.zeros(24, 24, 3), model=model)
    with pytest.raises(error, match="expected a MASK"):
        pack.run("PerceptualUpscale", image=torch.zeros(1, 8, 8, 3), model=model, mask=torch.zeros(1, 0, 8))


def test_fidelity_blends_with_partner(pack, host, model, by_core):
    image = _photo(1, 12, 9, 3)
    results = [pack.run("PerceptualUpscale", image=image, model=model, fidelity=f)[0] for f in (0.0, 0.5, 1.0)]
    for fidelity, result in zip((0.0, 0.5, 1.0), results, strict=True):
        assert (result - by_core(image, fidelity=fidelity)).abs().max() <= LEVEL
    assert torch.equal(results[2], pack.run("PerceptualUpscale", image=image, model="pixel.safetensors")[0])
    assert (results[0] - results[2]).abs().max() > 0.01
    default = pack.run("PerceptualUpscale", image=image, model=model)[0]
    assert torch.equal(default, pack.run("PerceptualUpscale", image=image, model=model, fidelity=0.0)[0])


def test_models_without_a_partner_ignore_fidelity_and_missing_ones_are_named(pack, host, model):
    image = _photo(1, 12, 9, 3)
    results = [
        pack.run("PerceptualUpscale", image=image, model="pixel.safetensors", fidelity=f, denoise=0.5)[0]
        for f in (0.0, 0.5)
    ]
    assert torch.equal(*results)
    (host.upscalers / "pixel.safetensors").unlink()
    with pytest.raises(pack.module("core.errors").InputError, match="no partner .* put its partner 'pixel' beside it"):
        pack.run("PerceptualUpscale", image=image, model=model, fidelity=0.5)


def test_denoise_blends_restorers_and_fidelity_does_not(pack, host, model):
    image = _photo(1, 12, 9, 3)
    name = pack.upscaler(host.upscalers / "restore.safetensors", partner="pixel", dial="denoise").name
    full, half, none = (
        pack.run("PerceptualUpscale", image=image, model=name, fidelity=f, denoise=d)[0]
        for f, d in ((0.3, 1.0), (0.9, 0.5), (0.0, 0.0))
    )
    assert torch.equal(full, pack.run("PerceptualUpscale", image=image, model=name)[0])
    assert torch.equal(none, pack.run("PerceptualUpscale", image=image, model="pixel.safetensors")[0])
    loaded = pack.module("core.models.upscale_model").load_upscaler(host.upscalers / name)
    expected = loaded.upscale(image.movedim(-1, 1), denoise=0.5).movedim(1, -1)
    assert (half - expected).abs().max() <= LEVEL and (half - full).abs().max() > 0.01


@pytest.mark.parametrize("node", NODES)
def test_replaced_network_is_hidden_but_still_accepted(pack, node):
    assert "perceptual_x8" not in _options(pack, node) and "pixel_x8" in _options(pack, node)
    assert pack.nodes[node].validate_inputs(model="perceptual_x8") is True


def test_match_colors_matches_core(pack, model, by_core):
    image = _photo(2, 12, 9, 3)
    result, _ = pack.run("PerceptualUpscale", image=image, model=model, match_colors=True)
    assert (result - by_core(image, match_colors=True)).abs().max() <= LEVEL
    assert (result - by_core(image)).abs().max() > 0.01


def test_result_has_host_dtype_and_device(load_pack, host):
    host.intermediate_dtype, host.intermediate_device = torch.float16, torch.device("meta")
    pack = load_pack()
    name = pack.upscaler(host.upscalers / "tiny.safetensors").name
    for more in ({}, {"mask": _photo(1, 8, 8)}):
        for channels in (3, 4):
            for each in pack.run("PerceptualUpscale", image=_photo(1, 8, 8, channels), model=name, **more):
                assert (each.dtype, each.device.type) == (torch.float16, "meta")


def test_host_reserves_memory_once_per_batch(pack, host, model):
    pack.run("PerceptualUpscale", image=_photo(3, 24, 32, 3), model=model)
    (((patcher,), memory),) = host.loads
    network = pack.module("core.models.upscale_model").load_upscaler(host.upscalers / model)
    assert patcher.model.spec == network.spec and memory == network.working_bytes(24, 32, torch.device("cpu")) > 0


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("side", [1, 16])
def test_progress_increases_to_total(pack, host, model, side, batch):
    pack.run("PerceptualUpscale", image=_photo(batch, side, side, 3), model=model)
    (steps,) = host.bars
    values = [value for value, _ in steps]
    assert {total for _, total in steps} == {batch * 1000}
    assert values == sorted(set(values)), "progress does not increase"
    assert values[-1] == batch * 1000


def test_interruption_stops_at_once(pack, host, model):
    host.interrupt_at = 4
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
        pack.run("PerceptualUpscale", image=_photo(9, 16, 16, 3), model=model)
    assert raised.value is host.interruption and host.checks == 4


@pytest.mark.parametrize("node", NODES)
def test_lists_only_networks_and_files(pack, host, node):
    entries = pack.module("core.hub.manifest").entries("upscale")
    bundled = [entry.id for entry in entries if entry.replaced_by is None]
    assert "perceptual_x8" not in bundled and "pixel_x8" in bundled
    assert _options(pack, node) == bundled
    for name in ("readme.txt", ".hidden.pth", "a.training.safetensors", "b.pth"):
        (host.upscalers / name).write_bytes(safetensors({}))
    pack.upscaler(host.upscalers / "late.safetensors")
    pack.style(host.styles / "style.safetensors")
    assert _options(pack, node) == [*bundled, "b.pth", "late.safetensors"]
    assert all(pack.nodes[node].validate_inputs(model=name) is True for name in _options(pack, node))


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", ["../tiny.safetensors", "../../etc/passwd", "/etc/passwd", "no_such_model", ""])
def test_unknown_names_raise(pack, host, model, name, node):
    pack.upscaler(host.models / "tiny.safetensors")
    answer = pack.nodes[node].validate_inputs(model=name)
    assert f"no upscaler named {name!r}" in answer and "tiny.safetensors" in answer
    inputs = {"image": _photo(1, 8, 8, 3)} if node == "PerceptualUpscale" else {}
    with pytest.raises(ValueError, match="there is no upscaler named"):
        pack.run(node, model=name, **inputs)
    assert pack.nodes[node].validate_inputs(model=None) is True


def test_fingerprint_changes_only_with_file_or_partner(pack, host, model):
    def fingerprint() -> str:
        assert len({pack.nodes[node].fingerprint_inputs(model=model, fidelity=0.5) for node in NODES}) == 1
        return pack.nodes["PerceptualUpscale"].fingerprint_inputs(image=None, model=model, fidelity=0.5)

    seen = [fingerprint()]
    pack.upscaler(host.upscalers / "other.safetensors")
    assert fingerprint() == seen[0]
    for name in (model, "pixel.safetensors"):
        stat = (host.upscalers / name).stat()
        os.utime(host.upscalers / name, ns=(stat.st_mtime_ns, stat.st_mtime_ns + 1_000_000))
        seen.append(fingerprint())
    (host.upscalers / "pixel.safetensors").unlink()
    seen.append(fingerprint())
    assert len(set(seen)) == 4
    assert pack.nodes["PerceptualUpscale"].fingerprint_inputs(model=None)


def test_wrong_file_error_is_one_line(pack, host):
    pack.style(host.upscalers / "style.safetensors")
    with pytest.raises(pack.module("core.errors").CheckpointError, match="not an x2, x4 or x8 upscaler") as raised:
        pack.run("PerceptualUpscale", image=_photo(1, 8, 8, 3), model="style.safetensors")
    assert "\n" not in str(raised.value)


def test_folder_is_registered_with_host(load_pack, host):
    load_pack()
    paths, suffixes = host.folders["perceptual_upscale"]
    assert paths == [str(host.models / "perceptual_upscale")] and ".safetensors" in suffixes
    assert (host.models / "perceptual_upscale").is_dir()


@pytest.mark.parametrize("node", NODES)
def test_only_image_and_model_are_required(pack, node):
    required = [each.id for each in pack.schema(node).inputs if not each.optional]
    assert required == (["image", "model"] if node == "PerceptualUpscale" else ["model"])


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", [5, 0.5, None, True, ["perceptual_x4"], {"a": 1}])
def test_values_that_are_not_names_raise_one_line(pack, node, name):
    answer = pack.nodes[node].validate_inputs(model=name)
    assert name is None or answer.startswith(f"there is no upscaler named {name!r}; choose one of: ")
    assert isinstance(pack.nodes[node].fingerprint_inputs(model=name), str)
    inputs = {"image": _photo(1, 8, 8, 3)} if node == "PerceptualUpscale" else {}
    with pytest.raises(pack.module("core.errors").InputError, match="there is no upscaler named"):
        pack.run(node, model=name, **inputs)
