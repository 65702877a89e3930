"""OptimizeStyle: the same result as core's in the host's inference mode, and the choice of the loss network."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch
from helpers import pixels_of
from safetensors.torch import save, save_file
from small_networks import small_vgg16, vgg16

REVISION = "4" * 40
DEFAULTS = {
    "recipe": "standard", "iterations": 3, "content_weight": 1.0, "style_weight": 1.0, "tv_weight": 1.0, "start": "content",
    "seed": 0, "loss_network": "narrow.safetensors", "style_size": 64,
}  # fmt: skip


def _photo(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def weights(host):
    """A small loss network for the recipe standard, in models/loss_networks."""
    return small_vgg16(host.loss_networks / "narrow.safetensors")


@pytest.fixture
def optimize(pack):
    """Run the node on a photo and a painting, by default random ones."""

    def run(content=None, style_image=None, **inputs) -> torch.Tensor:
        content = _photo(1, 36, 40, 3) if content is None else content
        style_image = _photo(1, 70, 66, 3, seed=1) if style_image is None else style_image
        with torch.inference_mode():  # as the host's own nodes make images
            content, style_image = content + 0, style_image + 0
        return pack.run("OptimizeStyle", content=content, style_image=style_image, **{**DEFAULTS, **inputs})

    return run


@pytest.fixture
def by_core(pack, weights):
    """Compute core's result for [B, H, W, 3] images, outside of inference mode."""

    def compute(content, style_image=None, **settings) -> torch.Tensor:
        style_image = _photo(1, 70, 66, 3, seed=1) if style_image is None else style_image
        settings = {"iterations": 3, "style_size": 64, "loss_weights": weights, "start": "content", **settings}
        optimized = pack.module("core.training.optimize_image").optimize_image(
            content.movedim(-1, 1), style_image.movedim(-1, 1), **settings
        )
        return optimized.movedim(1, -1)

    return compute


@pytest.mark.parametrize(("channels", "batch"), [(1, 1), (3, 1), (4, 2)])
def test_image_shapes(optimize, by_core, channels, batch):
    content = _photo(batch, 36, 40, channels)
    original = content.clone()
    result = optimize(content)
    assert result.shape == (batch, 36, 40, 4 if channels == 4 else 3) and result.dtype == torch.float32
    expected = by_core(pixels_of(content).movedim(1, -1))
    torch.testing.assert_close(result[..., :3], expected)
    assert torch.equal(content, original)
    if channels == 4:
        assert torch.equal(result[..., 3], content[..., 3])


def test_settings_reach_core(pack, optimize, by_core):
    content, scaled = (
        _photo(1, 36, 40, 3),
        pack.module("core.training.style_recipes").get_recipe("standard").weights.scaled(2.0, 3.0, 0.5),
    )
    result = optimize(
        content, content_weight=2.0, style_weight=3.0, tv_weight=0.5, start="noise", seed=7, iterations=2, style_size=80
    )
    expected = by_core(content, weights=scaled, start="noise", seed=7, iterations=2, style_size=80)
    torch.testing.assert_close(result, expected)
    recipes = by_core(content, iterations=1, style_size=None)
    torch.testing.assert_close(optimize(content, iterations=1, style_size=0), recipes)


def test_result_has_host_dtype_and_device(load_pack, host, weights):
    host.intermediate_dtype, host.intermediate_device = torch.float16, torch.device("meta")
    images = {"content": _photo(1, 36, 40, 4), "style_image": _photo(1, 70, 66, 3)}
    result = load_pack().run("OptimizeStyle", **images, **DEFAULTS)
    assert (result.dtype, result.device.type, result.shape) == (torch.float16, "meta", (1, 36, 40, 4))


@pytest.mark.usefixtures("weights")
def test_progress_has_previews_and_device_is_released(optimize, host):
    optimize(_photo(2, 36, 40, 3))
    (steps,) = host.bars
    assert steps == [(round(1000 * n / 6), 1000) for n in range(1, 7)]
    assert host.freed == ["models", "cache", "cache"]
    kind, picture, side = host.previews[-1]
    assert (kind, picture.size, side) == ("JPEG", (40, 36), 40) and 1 < len(host.previews) <= 6


@pytest.mark.usefixtures("weights")
def test_interruption_stops_and_device_is_released(optimize, host):
    host.interrupt_at = 2
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
        optimize(iterations=9)
    assert raised.value is host.interruption and host.checks == 2
    assert host.freed == ["models", "cache", "cache"]


def test_list_has_auto_names_and_files(pack, host, weights):
    def options() -> list[str]:
        return next(each for each in pack.schema("OptimizeStyle").inputs if each.id == "loss_network").options

    assert options() == ["auto", "vgg16_small", "vgg16 (download)", "vgg19 (download)", "narrow.safetensors"]
    for name in options():
        assert pack.nodes["OptimizeStyle"].validate_inputs(name) is True
    assert pack.nodes["OptimizeStyle"].validate_inputs(None) is True


@pytest.mark.parametrize("name", ["../narrow.safetensors", "/etc/passwd", "nothing", ""])
def test_unknown_names_raise(pack, host, weights, optimize, name):
    small_vgg16(host.models / "narrow.safetensors")
    assert f"no loss network named {name!r}" in pack.nodes["OptimizeStyle"].validate_inputs(name)
    with pytest.raises(ValueError, match="there is no loss network named"):
        optimize(loss_network=name)


def test_auto_uses_bundled_network(host, optimize, by_core, weights):
    expected = by_core(_photo(1, 36, 40, 3), loss_weights=None)
    assert torch.equal(optimize(loss_network="auto"), expected)
    assert torch.equal(optimize(loss_network="vgg16_small"), expected)
    assert not torch.equal(optimize(), expected)


def test_auto_uses_first_matching_file_if_none_is_bundled(host, optimize, weights):
    save_file(vgg16(), host.loss_networks / "b_vgg16.safetensors")
    expected = optimize(recipe="authors", loss_network="b_vgg16.safetensors")
    save_file(vgg16(deepest=19), host.loss_networks / "a_shallow.safetensors")
    assert torch.equal(optimize(recipe="authors", loss_network="auto"), expected)


def test_missing_loss_network_error_says_where_to_put_it(pack, host, optimize):
    put_there = (
        "contains the loss network vgg16, .* weights there as vgg16.safetensors \\(or .pth\\), or choose vgg16_small, "
        "vgg16 \\(download\\), vgg19 \\(download\\)$"
    )
    with pytest.raises(pack.module("core.errors").CheckpointError, match=put_there):
        optimize(recipe="authors", loss_network="auto")


@pytest.fixture
def published(pack, hub_standin, use_hub, monkeypatch):
    """vgg16 on the Hub, the only named loss network."""
    data = save(vgg16())
    hub_standin.put("some/vgg", REVISION, "model.safetensors", data)
    manifest = pack.module("core.hub.manifest")
    place = manifest.HubFile("some/vgg", REVISION, "model.safetensors")
    sha256 = hashlib.sha256(data).hexdigest()
    entry = manifest.Entry("vgg16", "VGG-16", "loss-network", hub=place, sha256=sha256, family="vgg16")
    monkeypatch.setattr(manifest, "_manifest", lambda: (entry,))
    return entry


def test_hub_network_is_downloaded_once_as_far_as_needed(host, optimize, published, hub_standin):
    first = optimize(recipe="authors", loss_network="vgg16 (download)")
    assert [path.name for path in host.loss_networks.iterdir() if path.suffix == ".safetensors"] == [
        "vgg16.relu4_3.safetensors"
    ]
    assert host.bars[0][-1] == (1000, 1000) and len(host.bars) == 2
    requests = len(hub_standin.requests)
    for name in ("vgg16", "vgg16 (download)", "vgg16.relu4_3.safetensors", "auto"):
        assert torch.equal(optimize(recipe="authors", loss_network=name), first)
    assert len(hub_standin.requests) == requests


def test_any_recipe_can_use_a_chosen_network(pack, host, optimize, published, by_core):
    result = optimize(loss_network="vgg16 (download)")
    recipe = dataclasses.replace(
        pack.module("core.training.style_recipes").get_recipe("standard"), loss_network="vgg16"
    )
    file = host.loss_networks / "vgg16.relu4_3.safetensors"
    assert torch.equal(result, by_core(_photo(1, 36, 40, 3), recipe=recipe, loss_weights=file))


@pytest.mark.usefixtures("weights")
def test_bad_input_errors_are_one_line(pack, host, optimize):
    errors = pack.module("core.errors")
    for inputs, message in (
        ({"content": torch.zeros(24, 24, 3)}, "expected an IMAGE"),
        ({"style_image": torch.zeros(2, 70, 70, 3)}, "there are 2 style images"),
        ({"style_image": torch.zeros(1, 9, 70, 3)}, "at least 64 px"),
        ({"content": torch.zeros(1, 9, 70, 3)}, "70x9 px is too small"),
        ({"recipe": "fast"}, "unknown recipe"),
        ({"content_weight": 0.0, "style_weight": float("nan")}, "finite and not negative"),
    ):
        with pytest.raises(errors.InputError, match=message) as raised:
            optimize(**inputs)
        assert "\n" not in str(raised.value)


def test_fingerprint_changes_only_with_chosen_file(pack, host, weights):
    def fingerprint(name: str | None) -> str:
        return pack.nodes["OptimizeStyle"].fingerprint_inputs(content=None, iterations=3, loss_network=name)

    before = fingerprint("narrow.safetensors"), fingerprint("auto"), fingerprint(None)
    small_vgg16(host.loss_networks / "other.safetensors")
    assert (fingerprint("narrow.safetensors"), fingerprint("auto"), fingerprint(None)) == before
    small_vgg16(weights, width=5)
    assert fingerprint("narrow.safetensors") != before[0] and fingerprint("auto") == before[1]
