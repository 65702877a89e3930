"""UpscaleModel: exactly ``scale`` times any size, the network's own result, and blends of network and partner."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import Cancelled, CheckpointError, ImageError, InputError
from perceptual_style.core.hub import manifest
from perceptual_style.core.images.masks import enlarge_mask
from perceptual_style.core.models.any_model import load_model
from perceptual_style.core.models.upscale_model import (
    UpscaleModel,
    list_upscalers,
    load_upscaler,
    upscaler_for,
)
from perceptual_style.core.network.interpolation import deepened, interpolate
from perceptual_style.core.network.transform_net import build_network, forward_any_size
from PIL import Image

ARCHS = {
    2: "c3s1-4,R4,u4,c3s1-3 norm=batch padding=reflect output=tanh",
    4: "c3s1-8,R8x2,u8,u8,c3s1-3 norm=none padding=replicate output=linear",
    8: "c3s1-4,R4,p2-4,p4-3 norm=none padding=zero output=linear base=bicubic",
}


def network_of(scale: int, seed: int = 0):
    """Return an untrained network with random statistics of batch normalization."""
    torch.manual_seed(seed)
    network = build_network(ARCHS[scale])
    for key, value in network.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand_like(value) + 0.5)
    return network.eval().requires_grad_(False)


def model_of(scale: int, partner: int | None = None) -> UpscaleModel:
    return UpscaleModel(network_of(scale), "test", {}, partner=None if partner is None else network_of(scale, partner))


def put(path, scale: int = 4, seed: int = 0, **facts):
    """Write an untrained upscaler and return its path."""
    save_network(path, network_of(scale, seed), {"task": "upscale", "name": path.stem, **facts})
    return path


@pytest.mark.parametrize("scale", ARCHS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (5, 8), (37, 22), (2, 130)])
def test_upscale_equals_network_at_exactly_scale_times_any_size(scale, height, width, rng):
    model, image = model_of(scale), torch.rand(2, 3, height, width, generator=rng)
    before = image.clone()
    result = model.upscale(image, precision="fp32")
    assert model.scale == scale and result.shape == (2, 3, scale * height, scale * width)
    assert torch.equal(image, before)
    expected = torch.cat([forward_any_size(model.network, frame[None]) for frame in image])
    torch.testing.assert_close(result, expected.clamp(0, 1))


@pytest.mark.parametrize("scale", ARCHS)
def test_images_of_a_batch_are_independent(scale, rng):
    model, images = model_of(scale), torch.rand(3, 3, 20, 24, generator=rng)
    together = model.upscale(images)
    for i in range(3):
        assert torch.equal(model.upscale(images[i : i + 1])[0], together[i])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_result_has_dtype_of_image(dtype, rng):
    model, image = model_of(4), torch.rand(1, 3, 9, 12, generator=rng).to(dtype)
    result = model.upscale(image, precision="fp32")
    assert result.dtype == dtype
    torch.testing.assert_close(result, model.upscale(image.float(), precision="fp32").to(dtype))


@pytest.mark.parametrize("scale", ARCHS)
def test_result_does_not_depend_on_memory(scale, rng):
    model, image = model_of(scale), torch.rand(1, 3, 90, 61, generator=rng)
    small = model.upscale(image, precision="fp32", memory=3_000_000)
    torch.testing.assert_close(small, model.network(image).clamp(0, 1))
    with pytest.raises(InputError, match="61x90 px needs .* of memory"):
        model.upscale(image, memory=1000)


def test_progress_rises_to_total_and_can_stop_work(rng):
    model, image, seen = model_of(4), torch.rand(2, 3, 16, 16, generator=rng), []
    model.upscale(image, progress=seen.append)
    done, (total,) = [progress.done for progress in seen], {progress.total for progress in seen}
    assert done[0] > 0 and done == sorted(set(done)) and done[-1] == total and total // 2 in done

    def stop(_):
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        model.upscale(image, progress=stop)


def test_wrong_images_are_rejected():
    for image in (torch.zeros(3, 8, 8), torch.full((1, 3, 8, 8), 128.0), torch.zeros(1, 1, 8, 8)):
        with pytest.raises(ImageError, match="expected a float tensor"):
            model_of(2).upscale(image)


@pytest.mark.parametrize("scale", ARCHS)
def test_interpolate_blends_every_weight_linearly(scale):
    ours, theirs = network_of(scale, 1), network_of(scale, 2)
    blend = interpolate(ours, theirs, 0.3)
    assert blend.spec == ours.spec and not blend.training
    for key, value in blend.state_dict().items():
        a, b = (net.state_dict()[key].double().numpy() for net in (ours, theirs))
        np.testing.assert_allclose(value.numpy(), 0.7 * a + 0.3 * b, atol=1e-6)


@pytest.mark.parametrize("scale", ARCHS)
def test_fidelity_blends_from_network_to_partner(scale, rng):
    model, image = model_of(scale, partner=7), torch.rand(1, 3, 10, 12, generator=rng)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    assert torch.equal(model.blended(0).upscale(image), model.upscale(image, fidelity=0))
    pixel = UpscaleModel(model.partner, "pixel").upscale(image)
    assert torch.equal(model.upscale(image, fidelity=1), pixel)
    middle = model.upscale(image, fidelity=0.5, precision="fp32")
    expected = interpolate(model.network, model.partner, 0.5)(image).clamp(0, 1)
    torch.testing.assert_close(middle, expected)
    plain = model.upscale(image, fidelity=0)
    assert (middle - pixel).abs().max() > 0.01 and (middle - plain).abs().max() > 0.01
    assert torch.equal(plain, UpscaleModel(model.network, "alone").upscale(image))
    assert all(torch.equal(before[key], value) for key, value in model.network.state_dict().items())


def test_default_fidelity_is_0_unless_stated(rng):
    model, image = model_of(4, partner=7), torch.rand(1, 3, 6, 5, generator=rng)
    assert torch.equal(model.upscale(image), model.upscale(image, fidelity=0))
    assert torch.equal(model.blended().upscale(image), model.upscale(image)), "it is not blended twice"
    assert (
        model_of(4).default_fidelity == 0
        and UpscaleModel(network_of(4), "a", partner=network_of(2)).default_fidelity == 0
    )
    stated = replace(model, facts={"fidelity": 0.3})
    assert torch.equal(stated.upscale(image), model.upscale(image, fidelity=0.3))
    for stated, expected in ((0.3, 0.3), (0.5, 0.5), (7, 0), ("much", 0), (float("nan"), 0)):
        assert replace(model, facts={"fidelity": stated}).default_fidelity == expected


RESTORER = {"task": "upscale", "dial": "denoise"}


def test_denoise_blends_a_restorer_with_its_clean_partner(rng):
    model = UpscaleModel(network_of(4), "r", RESTORER, partner=network_of(4, 7))
    image = torch.rand(1, 3, 10, 12, generator=rng)
    restored, clean = (UpscaleModel(each, "plain").upscale(image) for each in (model.network, model.partner))
    assert torch.equal(model.upscale(image), restored) and torch.equal(model.upscale(image, denoise=1), restored)
    assert torch.equal(model.upscale(image, denoise=0), clean)
    expected = interpolate(model.network, model.partner, 0.75)(image).clamp(0, 1)
    torch.testing.assert_close(model.upscale(image, denoise=0.25, precision="fp32"), expected)


def test_each_dial_belongs_to_its_kind_of_model(rng):
    image = torch.rand(1, 3, 6, 6, generator=rng)
    with pytest.raises(InputError, match="r restores damaged photos and has no fidelity; use denoise"):
        UpscaleModel(network_of(4), "r", RESTORER).upscale(image, fidelity=0.5)
    with pytest.raises(InputError, match="test does not restore photos and has no denoise; use fidelity"):
        model_of(4, partner=1).upscale(image, denoise=0.5)
    with pytest.raises(InputError, match="r has no partner .* denoise 0.5; use 1$"):
        UpscaleModel(network_of(4), "r", RESTORER).upscale(image, denoise=0.5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="denoise is .*; expected a number from 0"):
            UpscaleModel(network_of(4), "r", RESTORER).upscale(image, denoise=wrong)


@pytest.mark.parametrize("size", [(1, 1), (9, 14)])
def test_restorer_of_the_same_size_blends_with_the_image_itself(tmp_path, size, rng):
    network = build_network("c3s1-8,R8,c3s1-3 norm=none padding=zero output=linear base=bicubic")
    save_network(tmp_path / "restore_x1.safetensors", network, {**RESTORER, "name": "restore_x1"})
    model, image = load_upscaler(tmp_path / "restore_x1.safetensors"), torch.rand(1, 3, *size, generator=rng)
    assert model.scale == 1
    assert isinstance(load_model(tmp_path / "restore_x1.safetensors"), UpscaleModel)
    restored = model.upscale(image, precision="fp32")
    torch.testing.assert_close(restored, model.network(image).clamp(0, 1))
    torch.testing.assert_close(model.upscale(image, denoise=0), image)
    half = model.upscale(image, denoise=0.5, precision="fp32")
    torch.testing.assert_close(half, (image + 0.5 * (model.network(image) - image)).clamp(0, 1))


def test_partner_may_have_fewer_residual_blocks(rng):
    torch.manual_seed(3)
    deep = build_network(ARCHS[4].replace("R8x2", "R8x5")).eval().requires_grad_(False)
    partner, image = network_of(4, 7), torch.rand(1, 3, 10, 12, generator=rng)
    model = UpscaleModel(deep, "deep", partner=partner)
    assert deepened(partner, deep).spec == deep.spec
    torch.testing.assert_close(deepened(partner, deep)(image), partner(image))
    torch.testing.assert_close(model.upscale(image, fidelity=1), UpscaleModel(partner, "pixel").upscale(image))
    middle = model.upscale(image, fidelity=0.5)
    assert (middle - model.upscale(image, fidelity=0)).abs().max() > 0.01
    assert deepened(deep, partner) is None, "the partner must have fewer blocks"
    assert deepened(network_of(2), deep) is None
    assert deepened(build_network(ARCHS[4].replace("R8x2", "R8x5").replace("none", "batch")), deep) is None


def test_fidelity_without_fitting_partner_is_rejected(rng):
    image = torch.rand(1, 3, 8, 8, generator=rng)
    alone = model_of(4)
    with pytest.raises(InputError, match="test has no partner .* fidelity 0.5; use 0$"):
        alone.upscale(image, fidelity=0.5)
    assert torch.equal(alone.upscale(image, fidelity=0), alone.upscale(image))
    other = UpscaleModel(network_of(4), "test", partner=network_of(2))
    with pytest.raises(InputError, match="another architecture"):
        other.upscale(image, fidelity=0.5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="expected a number from 0"):
            model_of(4, partner=1).upscale(image, fidelity=wrong)


def test_match_colors_matches_each_image_separately(rng):
    color = pytest.importorskip("perceptual_style.core.images.color")
    model, images = model_of(4), torch.rand(2, 3, 12, 15, generator=rng)
    matched = model.upscale(images, match_colors=True)
    plain = model.upscale(images)
    for i in range(2):
        expected = color.match_colors(plain[i : i + 1], images[i : i + 1])[0]
        assert torch.equal(matched[i], expected)
    assert (matched - images.mean()).mean().abs() < 0.02


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_enlarge_mask_equals_pillow(scale, rng):
    mask = torch.rand(1, 1, 15, 19, generator=rng)
    large = enlarge_mask(mask, scale)[0, 0].numpy()
    pillow = Image.fromarray(mask[0, 0].numpy()).resize((19 * scale, 15 * scale), Image.Resampling.BICUBIC)
    inside = (slice(2 * scale, -2 * scale),) * 2  # Pillow treats edges differently
    np.testing.assert_allclose(large[inside], np.asarray(pillow).clip(0, 1)[inside], atol=1e-5)
    assert enlarge_mask(mask.half(), scale).dtype == torch.float16
    assert not enlarge_mask(torch.zeros(1, 1, 3, 3), scale).any()


def test_upscaler_file_loads_with_facts_and_partner_beside_it(tmp_path, rng):
    path = put(tmp_path / "sharp.safetensors", partner="smooth", title="Sharp")
    alone = load_upscaler(path)
    assert (alone.name, alone.facts["title"], alone.scale, alone.partner) == ("sharp", "Sharp", 4, None)
    image = torch.rand(1, 3, 6, 5, generator=rng)
    with pytest.raises(InputError, match="use 0, or put its partner 'smooth' beside it"):
        alone.upscale(image, fidelity=1)

    other = put(tmp_path / "smooth.safetensors", seed=3)
    both = load_upscaler(str(path))
    assert torch.equal(both.upscale(image, fidelity=1), load_upscaler(other).upscale(image))
    path = put(tmp_path / "sharp.safetensors", partner="smooth.safetensors")
    assert load_upscaler(path).partner is not None


@pytest.mark.parametrize("name", ["../smooth", "sub/smooth", "/smooth", "..", "", 5, None])
def test_partner_is_never_a_path(name, tmp_path):
    for folder in ("here/sub", "."):
        put(tmp_path / folder / "smooth.safetensors")
    assert load_upscaler(put(tmp_path / "here" / "sharp.safetensors", partner=name)).partner is None


@pytest.mark.parametrize(
    ("arch", "task", "held"),
    [
        ("c3s1-3", "style", "a network for 'style'"),
        ("c3s1-3", "upscale", "a network for 'upscale'"),
        ("u3", "style", "an x2 upscaler"),
        ("f3s3-3", "upscale", "an x3 upscaler"),
        ("u1", "upscale", "an x2 upscaler"),
    ],
)
def test_networks_for_other_tasks_are_rejected(arch, task, held, tmp_path):
    path = tmp_path / "other.safetensors"
    save_network(path, build_network(f"{arch} padding=zero"), {"task": task})
    with pytest.raises(CheckpointError, match=f"holds {held}.*, not an x2, x4 or x8 upscaler") as caught:
        load_upscaler(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Make a manifest of a perceptual upscaler, a restorer, their partner and two others; return the folder of their files."""
    rows = []
    for name, scale, seed, partner, more in (
        ("restore_x4", 4, 4, "pixel_x4", {"dial": "denoise"}),
        ("old_x2", 2, 5, None, {"replaced_by": "x2"}),
        ("pixel_x4", 4, 2, None, {}),
        ("perceptual_x4", 4, 1, "pixel_x4", {}),
        ("x2", 2, 3, None, {}),
    ):
        facts = {"partner": partner} if partner else {}
        facts |= {"dial": more["dial"]} if "dial" in more else {}
        path = put(tmp_path / "weights" / f"{name}.safetensors", scale, seed, **facts)
        rows.append(
            manifest.Entry(
                name, name, "upscale", f"weights/{name}.safetensors", path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(), ARCHS[scale], "MIT", {"artist": "nobody"},
                scale=scale, partner=partner, **more,
            )
        )  # fmt: skip
    text = json.dumps({"schema": 1, "entries": [row.as_json() for row in rows]})
    (tmp_path / "weights_manifest.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    manifest._manifest.cache_clear()
    yield tmp_path / "weights"
    manifest._manifest.cache_clear()


def test_bundled_upscalers_load_by_name_with_partners(bundle, rng):
    assert list_upscalers() == ["restore_x4", "old_x2", "pixel_x4", "perceptual_x4", "x2"]
    image = torch.rand(1, 3, 4, 7, generator=rng)
    model = load_upscaler("perceptual_x4")
    assert torch.equal(model.upscale(image, fidelity=1), load_upscaler("pixel_x4").upscale(image))
    assert load_upscaler("pixel_x4").partner is None
    restorer = load_upscaler("restore_x4")
    assert restorer.restores and torch.equal(
        restorer.upscale(image, denoise=0), load_upscaler("pixel_x4").upscale(image)
    )
    assert load_upscaler("old_x2").scale == 2, "the names of replaced networks still work"
    with pytest.raises(
        CheckpointError,
        match="no upscaler named 'x16'; expected restore_x4, old_x2, pixel_x4, perceptual_x4, x2 or the path",
    ):
        load_upscaler("x16")


def test_upscaler_for_finds_default_by_scale(bundle):
    assert (upscaler_for(4), upscaler_for(2)) == ("perceptual_x4", "x2")
    with pytest.raises(CheckpointError, match=r"no upscaler for x8; expected perceptual_x4 \(x4\), "):
        upscaler_for(8)


def test_file_elsewhere_can_have_bundled_partner(bundle, tmp_path, rng):
    image = torch.rand(1, 3, 4, 7, generator=rng)
    mine = put(tmp_path / "mine" / "mine.safetensors", partner="pixel_x4")
    assert torch.equal(load_upscaler(mine).upscale(image, fidelity=1), load_upscaler("pixel_x4").upscale(image))
    beside = put(tmp_path / "mine" / "pixel_x4.safetensors", seed=9)  # takes precedence
    assert torch.equal(load_upscaler(mine).upscale(image, fidelity=1), load_upscaler(beside).upscale(image))


def test_damaged_bundled_partner_is_an_error(bundle):
    (bundle / "pixel_x4.safetensors").write_bytes(b"any")
    with pytest.raises(CheckpointError, match="bundled network pixel_x4 is damaged"):
        load_upscaler("perceptual_x4")
