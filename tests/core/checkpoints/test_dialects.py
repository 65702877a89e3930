"""Families that are dicts of tensors are recognized by keys and shapes, and match their own programs."""

from __future__ import annotations

import pytest
import torch
from foreign_files import PROGRAMS, make
from perceptual_style.core.checkpoints.dialects import FAMILIES, load_foreign
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import CheckpointError, InputError
from perceptual_style.core.models.loading import open_network
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.transform_net import forward_any_size
from safetensors.torch import save_file

STYLES = [family for family, program in PROGRAMS.items() if program.scale == 1]


def difference(path, family, state, image) -> float:
    """Return the largest difference from the family's program, on the 0..255 scale."""
    network, pixels, _ = load_foreign(path)
    with torch.no_grad():
        ours = pixels.from_network(network(pixels.to_network(image)))
        theirs = PROGRAMS[family].run(state, image)
    return float((ours - theirs).abs().max()) * 255


@pytest.fixture
def image(rng):
    return torch.rand(1, 3, 32, 24, generator=rng)


def test_every_family_is_tested():
    assert {family.name for family in FAMILIES} == set(PROGRAMS)


@pytest.mark.parametrize("family", PROGRAMS)
def test_network_matches_its_program(family, image, tmp_path):
    state = make(family)
    torch.save(state, tmp_path / "file")
    network, pixels, facts = load_foreign(tmp_path / "file")
    assert facts["family"] == family and facts["name"] == "file" and facts["source"].startswith("https://")
    assert facts["task"] == ("style" if PROGRAMS[family].scale == 1 else "upscale")
    assert network.spec.scale == PROGRAMS[family].scale
    assert difference(tmp_path / "file", family, state, image) < 2e-3


@pytest.mark.parametrize("family", PROGRAMS)
def test_odd_sizes_match_cropped_program(family, rng, tmp_path):
    image = torch.rand(1, 3, 29, 22, generator=rng)
    state = make(family)
    torch.save(state, tmp_path / "file.pth")
    network, pixels, _ = load_foreign(tmp_path / "file.pth")
    scale = network.spec.scale
    with torch.no_grad():
        ours = pixels.from_network(forward_any_size(network, pixels.to_network(image)))
        theirs = PROGRAMS[family].run(state, image)[..., : 29 * scale, : 22 * scale]
    assert ours.shape == theirs.shape and float((ours - theirs).abs().max()) * 255 < 3e-3


@pytest.mark.parametrize("family", STYLES)
def test_converted_file_gives_identical_picture(family, image, tmp_path):
    torch.save(make(family), tmp_path / "file.pth")
    original = load_style(tmp_path / "file.pth")
    save_network(tmp_path / "new.safetensors", original.network, original.facts, pixels=original.pixels)
    converted = load_style(tmp_path / "new.safetensors")
    assert converted.pixels == original.pixels and str(converted.spec) == str(original.spec)
    assert converted.facts["family"] == family
    assert torch.equal(converted.stylize(image, precision="fp32"), original.stylize(image, precision="fp32"))


def test_model_clamps_output(image, tmp_path):
    state = make("rrmina")
    torch.save(state, tmp_path / "file.pth")
    model = load_style(tmp_path / "file.pth")
    shown = model.stylize(image)
    assert torch.equal(shown, model.stylize(image, precision="fp32"))
    with torch.no_grad():
        assert float((shown - PROGRAMS["rrmina"].run(state, image).clamp(0, 1)).abs().max()) * 255 < 2e-3


@pytest.mark.parametrize("wrap", [
    lambda state: {"module." + key: value for key, value in state.items()},
    lambda state: {"_orig_mod.module." + key: value for key, value in state.items()},
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {n: dict(state) for n in range(3)}}},
    lambda state: {"args": {"lr": 0.1}, "nets": {"inner": {"generator": state}}, "loss": [0.5, 0.25]},
])  # fmt: skip
@pytest.mark.parametrize("family", ["pytorch/examples", "eriklindernoren", "igreat"])
def test_wrappers_and_prefixes_are_removed(family, wrap, image, tmp_path):
    state = make(family)
    torch.save(wrap(state), tmp_path / "file.pth")
    assert difference(tmp_path / "file.pth", family, state, image) < 2e-3


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_containers(zipped, dtype, image, tmp_path):
    state = {key: value.to(dtype) for key, value in make("pytorch/examples").items()}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    save_file(state, tmp_path / "b.safetensors")
    state = {key: value.float() for key, value in state.items()}
    for name in ("a.pth", "b.safetensors"):
        assert difference(tmp_path / name, "pytorch/examples", state, image) < 2e-3


def test_old_running_statistics_are_ignored(image, tmp_path):
    state = make("pytorch/examples")
    old = {
        f"{norm}.running_{what}": torch.ones(len(state[f"{norm}.weight"]))
        for norm in ("in1", "res1.in2")
        for what in ("mean", "var")
    }
    torch.save(state | old, tmp_path / "file.model")
    assert difference(tmp_path / "file.model", "pytorch/examples", state, image) < 2e-3


def test_widths_come_from_shapes(tmp_path):
    for family in ("pytorch/examples", "kleinicke"):
        torch.save(make(family), tmp_path / family.replace("/", "_"))
    assert str(load_foreign(tmp_path / "pytorch_examples")[0].spec).startswith(
        "c9s1-4,d8,d16,R16x5,n2,c3s1-8,n2,c3s1-4,c9s1-3 "
    )
    assert str(load_foreign(tmp_path / "kleinicke")[0].spec).startswith("c9s1-4,c3s1-4x2,R4x2,c3s1-4x2,c9s1-3 ")


def _without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


def _with(key, *shape):
    return lambda state: state | {key: torch.zeros(shape)}


def _only_two_blocks(state):
    return {key: value for key, value in state.items() if key[:4] not in ("res3", "res4", "res5")}


def _same_widths(state):
    return {key: value[:4, :4] if value.ndim == 4 and value.shape[1] > 4 else value[:4] for key, value in state.items()}


@pytest.mark.parametrize("change", [
    _without("res3.in1.bias"), _without("deconv3.conv2d.weight"), _with("res6.extra", 3), _with("in6.weight", 3),
    _with("in1.num_batches_tracked"), _with("conv1.conv2d.weight", 4, 3, 7, 7), _with("conv2.conv2d.weight", 8, 1, 3, 3),
    _with("conv1.conv2d.weight", 4, 1, 9, 9), _with("deconv3.conv2d.weight", 1, 4, 9, 9), _with("in1.weight", 5),
    _with("deconv3.conv2d.bias", 4), _same_widths,
])  # fmt: skip
def test_similar_networks_are_rejected_in_one_line(change, tmp_path):
    torch.save(change(make("pytorch/examples")), tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="unknown architecture") as caught:
        load_foreign(tmp_path / "file.pth")
    assert "\n" not in str(caught.value) and "pytorch/examples" in str(caught.value)


def test_fewer_blocks_are_accepted_if_strides_are_certain(tmp_path):
    torch.save(_only_two_blocks(make("pytorch/examples")), tmp_path / "file.pth")
    assert load_foreign(tmp_path / "file.pth")[2]["family"] == "pytorch/examples"
    torch.save(_with("res3.conv1.conv2d.weight", 4, 4, 3, 3)(make("kleinicke")), tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="unknown architecture"):
        load_foreign(tmp_path / "file.pth")


def test_only_one_family_accepts_a_file():
    for name in PROGRAMS:
        shapes = {key: tuple(value.shape) for key, value in make(name).items()}
        assert [family.name for family in FAMILIES if family.recognize(shapes)] == [name]


def test_resnext_and_quantized_weights_are_rejected(tmp_path):
    state = make("rrmina")
    for n in range(5):
        state[f"ResidualBlock.{n}.conv3.conv_layer.weight"] = torch.zeros(16, 16, 1, 1)
    torch.save(state, tmp_path / "resnext.pth")
    torch.save({key: (value * 100).to(torch.int8) for key, value in make("rrmina").items()}, tmp_path / "int8.pth")
    for name, reason in (("resnext.pth", "unknown architecture"), ("int8.pth", "int8 .*quantized")):
        with pytest.raises(CheckpointError, match=reason):
            load_foreign(tmp_path / name)


def test_channel_order_and_output_can_be_given(image, tmp_path):
    state = make("rrmina")
    torch.save(state, tmp_path / "file.pth")
    usual, rgb = (load_style(tmp_path / "file.pth", channel_order=order) for order in (None, "rgb"))
    assert (usual.pixels.order, rgb.pixels.order) == ("bgr", "rgb")
    assert torch.equal(rgb.stylize(image.flip(1), precision="fp32").flip(1), usual.stylize(image, precision="fp32"))
    tanh = load_style(tmp_path / "file.pth", output="tanh150")
    with torch.no_grad():
        linear = PROGRAMS["rrmina"].run(state, image)
    assert (
        float((tanh.stylize(image, precision="fp32") - (150 * torch.tanh(linear * 255) / 255).clamp(0, 1)).abs().max())
        * 255
        < 2e-3
    )
    for wrong in ({"channel_order": "gbr"}, {"output": "arctan"}):
        with pytest.raises(InputError, match="expected"):
            load_style(tmp_path / "file.pth", **wrong)


def test_upscaler_is_rejected_as_style(tmp_path):
    torch.save({"model_state": make("A-Jacobson"), "epoch": None}, tmp_path / "sr.pth.tar")
    with pytest.raises(CheckpointError, match="an x4 upscaler, not a style"):
        load_style(tmp_path / "sr.pth.tar")
    network, pixels, facts = open_network(tmp_path / "sr.pth.tar")
    assert (network.spec.scale, str(pixels), facts["task"]) == (4, "rgb in=unit out=unit", "upscale")
