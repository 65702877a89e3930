"""Several styles in one network: rows are styles, rows blend, files name them, and one must be chosen to run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from perceptual_style.core.checkpoints import own_format as checkpoint
from perceptual_style.core.checkpoints.own_format import (
    load_network,
    read_header,
    save_network,
    save_tensors,
    style_names,
)
from perceptual_style.core.engine.engine import Engine
from perceptual_style.core.engine.memory_plan import plan_memory
from perceptual_style.core.errors import ArchError, CheckpointError, InputError
from perceptual_style.core.models.style_model import StyleModel, load_style
from perceptual_style.core.network.interpolation import interpolate
from perceptual_style.core.network.stages import InstanceNorm
from perceptual_style.core.network.styles import (
    check_styles,
    is_name,
    mixed,
    name_from,
    rows_of,
    select,
    split,
    styles_in,
    with_rows,
)
from perceptual_style.core.network.transform_net import TransformNet, build_network

ARCH = "c3s1-4,d6x3,R6,U2,p2-4,u4,c5s1-3 padding=reflect"
NAMES = ("wave", "candy", "The Scream")
FACTS = {"task": "style", "name": "three", "styles": [{"name": name} for name in NAMES]}


@pytest.fixture
def network(rng) -> TransformNet:
    """A network of three styles with random norms."""
    network = build_network(f"{ARCH} styles=3").eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if ".norm." in name:
            tensor.normal_(generator=rng)
    return network


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "three.safetensors"
    save_network(path, network, FACTS)
    return path


def by_hand(network: TransformNet, amounts: dict[int, float]) -> TransformNet:
    """Return the single-style network whose norms are computed from rows one by one."""
    single = build_network(ARCH).eval().requires_grad_(False)
    tensors = network.state_dict()
    for key, tensor in single.state_dict().items():
        tensor.copy_(sum(a * tensors[key][k] for k, a in amounts.items()) if ".norm." in key else tensors[key])
    return single


def test_several_styles_add_rows_to_the_norms_only(network):
    single = build_network(ARCH).state_dict()
    for key, tensor in network.state_dict().items():
        assert tensor.shape == ((3,) if ".norm." in key else ()) + single[key].shape
    assert build_network(f"{ARCH} styles=1").spec == build_network(ARCH).spec
    assert [row.keys() for row in rows_of(network)] == [rows_of(build_network(ARCH))[0].keys()] * 3


@pytest.mark.parametrize("row", [0, 1, 2])
def test_row_equals_the_single_style_network_bit_for_bit(row, network, rng):
    image = torch.rand(2, 3, 24, 20, generator=rng)
    expected = by_hand(network, {row: 1})
    assert torch.equal(network(image, row=row), expected(image))
    assert torch.equal(network(image, row=torch.tensor([row, row])), expected(image))
    plain, _ = select(network, FACTS, NAMES[row])
    assert plain.spec == expected.spec and "styles" not in str(plain.spec)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in plain.state_dict().items())
    assert not any(p.requires_grad for p in plain.parameters()) and not plain.training


def test_each_image_of_a_batch_can_use_its_own_row(network, rng):
    images = torch.rand(4, 3, 24, 20, generator=rng)
    order = [2, 0, 2, 1]
    for layout in (images, images.contiguous(memory_format=torch.channels_last)):
        styled = network(layout, row=torch.tensor(order))
        for image, row, result in zip(images, order, styled, strict=True):
            torch.testing.assert_close(result, network(image[None], row=row)[0], atol=1e-5, rtol=1e-5)


def test_conditional_instance_norm_follows_its_equation(rng):
    norm = InstanceNorm(4, styles=3)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=rng)
    x, order = torch.randn(2, 4, 7, 5, generator=rng), torch.tensor([2, 1])
    values = x.double().numpy()
    mean, var = (f(values, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
    scale, shift = (p.detach().double().numpy()[order.numpy()][:, :, None, None] for p in (norm.weight, norm.bias))
    expected = scale * (values - mean) / np.sqrt(var + 1e-5) + shift
    np.testing.assert_allclose(norm(x, order).detach().numpy(), expected, atol=1e-5)


def test_row_gets_gradients_from_its_own_images_only(network, rng):
    network.requires_grad_(True)
    network(torch.rand(2, 3, 16, 16, generator=rng), row=torch.tensor([2, 0])).square().mean().backward()
    for name, parameter in network.named_parameters():
        if ".norm." in name:
            assert [bool(row.any()) for row in parameter.grad] == [True, False, True], name


@pytest.mark.parametrize("amounts", [(0.25, 0.75, 0.0), (0.5, 0.25, 0.25), (0.0, 0.0, 1.0)])
def test_mixture_equals_a_network_with_mixed_norms(amounts, network, rng):
    expected = by_hand(network, dict(enumerate(amounts)))
    style = {name: amount for name, amount in zip(NAMES, amounts, strict=True) if amount}
    plain, _ = select(network, FACTS, style)
    image = torch.rand(1, 3, 24, 20, generator=rng)
    torch.testing.assert_close(plain(image), expected(image), atol=1e-6, rtol=0)
    tripled, _ = select(network, FACTS, {name: 3 * amount for name, amount in style.items()})
    torch.testing.assert_close(tripled(image), expected(image), atol=1e-6, rtol=0)


def test_mixture_of_two_equals_network_interpolation(network):
    between = interpolate(select(network, FACTS, "wave")[0], select(network, FACTS, "candy")[0], 0.25).state_dict()
    mixture = select(network, FACTS, {"wave": 0.75, "candy": 0.25})[0].state_dict()
    for key, value in mixture.items():
        torch.testing.assert_close(value, between[key], atol=1e-6, rtol=1e-6)
        assert ".norm." in key or torch.equal(value, between[key])


def test_mixture_of_equal_rows_is_that_row(network):
    same = rows_of(network)[1]
    mixture = mixed([same, same], [0.25, 0.75])
    assert all(torch.equal(mixture[key], same[key]) for key in same)


def test_rows_round_trip_and_share_no_memory(network):
    again = with_rows(network, rows_of(network))
    assert again.spec == network.spec
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())
    again.stages[0].norm.weight.zero_()
    again.stages[0].conv.weight.zero_()
    assert network.stages[0].norm.weight.any() and network.stages[0].conv.weight.any(), "it shares memory"


@pytest.mark.parametrize(
    ("style", "named"),
    [
        ("Wave", "no style named 'Wave' in this network; it has wave, candy, The Scream"),
        ({"wave": 1, "": 2}, "no style named ''"),
        ({}, "add up to 0"),
        ({"wave": 0.0}, "add up to 0"),
        ({"wave": 1e308, "candy": 1e308}, "add up to inf"),
        ({"wave": -1, "candy": 2}, "amount of wave is -1"),
        ({"wave": float("nan")}, "amount of wave is nan"),
        ({"wave": float("inf")}, "amount of wave is inf"),
    ],
)
def test_select_rejects_unknown_styles_and_bad_amounts(style, named, network):
    with pytest.raises(InputError, match=named) as caught:
        select(network, FACTS, style)
    assert "\n" not in str(caught.value)


def test_network_of_several_styles_does_not_run_without_a_row(network, rng):
    image = torch.rand(1, 3, 24, 20, generator=rng)
    model = StyleModel(network, "three")
    for run in (
        lambda: network(image),
        lambda: model.stylize(image),
        lambda: model.working_bytes(24, 20, image.device),
        lambda: Engine(network, 24, 20, device=image.device),
        lambda: plan_memory(network, 24, 20, image.device),
    ):
        with pytest.raises(InputError, match="holds 3 styles and none was chosen"):
            run()
    for row in (3, -1):
        with pytest.raises(InputError, match=f"row is {row}"):
            network(image, row=row)
    with pytest.raises(InputError, match="none to choose from"):
        build_network(ARCH)(image, row=0)


@pytest.mark.parametrize("arch", ["c3s1-4,c3s1-3 norm=batch", "c3s1-4,c3s1-3 norm=none", "n2,n2,d3,d3 last=plain"])
def test_networks_without_instance_norms_hold_only_one_style(arch):
    network = build_network(f"{arch} padding=zero")
    if network.spec.norm == "instance":
        network = build_network("n2,c3s2-3 padding=zero")
    assert len(rows_of(network)) == 1
    with pytest.raises(ArchError, match="styles=2"):
        with_rows(network, rows_of(network) * 2)


def test_file_of_several_styles_round_trips_bit_for_bit(file, network):
    loaded, facts = load_network(file)
    assert loaded.spec == network.spec and facts["arch"].endswith(" styles=3") and facts["styles"] == FACTS["styles"]
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_load_style_selects_by_name_or_mixture(file, network, rng):
    image = torch.rand(1, 3, 21, 34, generator=rng)
    for name, row in (("candy", 1), ("The Scream", 2)):
        expected = by_hand(network, {row: 1})
        for model in (load_style(file, style=name), load_style(f"{file}#{name}")):
            assert (model.name, model.spec) == (name, expected.spec)
            assert torch.equal(model.network(image), expected(image))
            torch.testing.assert_close(
                model.stylize(image, precision="fp32"), StyleModel(expected, "").stylize(image, precision="fp32")
            )
    by_mapping = load_style(file, style={"wave": 0.75, "candy": 0.25})
    by_text = load_style(f"{file}#wave=3,candy=1")
    assert by_mapping.name == by_text.name == "0.75 wave + 0.25 candy"
    expected = by_hand(network, {0: 0.75, 1: 0.25})(image)
    for model in (by_mapping, by_text):
        torch.testing.assert_close(model.network(image), expected, atol=1e-6, rtol=0)


def test_style_must_be_chosen_only_for_files_of_several(file, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"3 styles: wave, candy, The Scream; choose one, .*three.safetensors#wave"
    ):
        load_style(file)
    with pytest.raises(InputError, match="no style named 'night'"):
        load_style(f"{file}#night")
    with pytest.raises(CheckpointError, match="gone.safetensors does not exist"):
        load_style(tmp_path / "gone.safetensors#wave")
    save_network(tmp_path / "one.safetensors", build_network(ARCH), {"task": "style"})
    with pytest.raises(InputError, match="has one style only"):
        load_style(tmp_path / "one.safetensors", style="wave")
    with pytest.raises(InputError, match="has one style only"):
        load_style("starry_night#wave")


def test_file_name_may_contain_the_separator(tmp_path):
    save_network(tmp_path / "no#1.safetensors", build_network(ARCH), {"task": "style", "name": "first"})
    assert load_style(tmp_path / "no#1.safetensors").name == "first"


def test_select_merges_facts_of_style_and_file(network):
    facts = {**FACTS, "license": "MIT", "title": "Three", "loss curve": [[1, 2.0]], "run": {"seed": 1}}
    facts["styles"] = [
        {"name": "wave", "title": "The Wave"},
        {"name": "candy", "license": None},
        {"name": "The Scream"},
    ]
    _, wave = select(network, facts, "wave")
    assert wave == {"task": "style", "name": "wave", "title": "The Wave", "license": "MIT", "arch": wave["arch"]}
    _, candy = select(network, facts, "candy")
    assert "license" not in candy and candy["title"] == "Three"
    _, both = select(network, facts, {"wave": 1, "The Scream": 1})
    assert both["name"] == "0.5 wave + 0.5 The Scream" and both["license"] == "MIT" and "title" not in both


@pytest.mark.parametrize(
    "styles",
    [
        [{"name": "wave"}, {"name": "candy"}],
        [{"name": "a"}, {"name": "b"}, {"name": "a"}],
        [{"name": "a"}, {"name": "b"}, {"title": "c"}],
        [{"name": "a"}, {"name": "b"}, {"name": "c/d"}],
        ["wave", "candy", "night"],
        {"wave": 0},
        "wave",
        None,
    ],
)
def test_files_must_name_each_style(styles, network, tmp_path):
    path = tmp_path / "odd.safetensors"
    facts = {"task": "style"} if styles is None else {"task": "style", "styles": styles}
    with pytest.raises(CheckpointError, match="styles"):
        save_network(path, network, facts)
    assert not path.exists()
    save_tensors(path, network.state_dict(), {**facts, "format": 1, "arch": str(network.spec)})
    with pytest.raises(CheckpointError, match="styles") as caught:
        load_style(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(style_names(path), tuple)


def test_single_style_with_names_is_rejected():
    with pytest.raises(CheckpointError, match="holds 1 styles, and the facts name 3"):
        check_styles(FACTS, build_network(ARCH).spec)
    assert styles_in({}) == []


def test_style_names_reads_only_the_header_and_only_once(file, network, tmp_path, monkeypatch):
    reads, original = [], checkpoint.metadata_of

    def counted(path):
        reads.append(path)
        return original(path)

    monkeypatch.setattr(checkpoint, "metadata_of", counted)
    monkeypatch.setattr(checkpoint, "read_safetensors", lambda path: pytest.fail("the weights were read"))
    assert [style_names(file) for _ in range(3)] == [NAMES] * 3 and len(reads) == 1
    save_network(file, network, {**FACTS, "styles": [{"name": name} for name in ("a", "b", "longer")]})
    assert [style_names(file) for _ in range(3)] == [("a", "b", "longer")] * 3 and len(reads) == 2
    for name, content in (("text.safetensors", b"text"), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        assert style_names(tmp_path / name) == ()
    assert style_names(tmp_path / "gone.safetensors") == style_names("\0") == ()


@pytest.mark.parametrize(
    "text", ["wave#1", "a=b", "a,b", "a/b", "a\\b", " padded ", "x" * 200, "", "\n", "Nuit étoilée"]
)
def test_name_from_any_file_name_is_valid(text):
    assert is_name(name_from(text))
    assert name_from("Nuit étoilée") == "Nuit étoilée" and not is_name(None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("file.safetensors#wave", ("file.safetensors", "wave")),
        ("file#a=1,b = 0.5", ("file", {"a": 1.0, "b": 0.5})),
        ("a#b#c", ("a#b", "c")),
        ("file.safetensors", ("file.safetensors", None)),
    ],
)
def test_split_of_file_and_style(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize("text", ["file#a=x", "file#a=1,b", "file#a="])
def test_split_rejects_amounts_that_are_not_numbers(text):
    with pytest.raises(InputError, match="cannot read"):
        split(text)


def test_half_precision_file_of_several_styles(network, tmp_path):
    save_network(tmp_path / "half.safetensors", network, FACTS, half=True)
    model = load_style(tmp_path / "half.safetensors", style="candy")
    torch.testing.assert_close(
        model.network.stages[0].norm.weight, network.stages[0].norm.weight[1], rtol=2**-11, atol=0
    )


def test_describe_lists_styles_and_describes_one(run, refused, file):
    status, out, _ = run("describe", file)
    assert status == 0 and "styles: wave, candy, The Scream\n" in out and "styles=3" in out
    _, out, _ = run("describe", file, "--json")
    assert json.loads(out)["styles"] == FACTS["styles"]
    _, out, _ = run("describe", f"{file}#candy", "--json")
    described = json.loads(out)
    assert described["name"] == "candy" and "styles" not in described and "styles" not in described["arch"]
    assert "no style named 'x'" in refused("describe", f"{file}#x")


def test_convert_writes_all_styles_or_one(run, file, tmp_path):
    assert run("convert", file, "-o", tmp_path / "copy.safetensors")[0] == 0
    assert style_names(tmp_path / "copy.safetensors") == NAMES
    assert run("convert", f"{file}#candy", "-o", tmp_path / "candy.safetensors")[0] == 0
    assert load_style(tmp_path / "candy.safetensors").name == "candy"
    header = read_header(tmp_path / "candy.safetensors")
    assert "styles" not in header and header["task"] == "style"


def test_stylize_with_one_style_of_a_file(run, refused, file, tmp_path):
    from perceptual_style.core.images.reading import read_image
    from perceptual_style.core.images.writing import save_image

    photo = tmp_path / "photo.png"
    save_image(photo, torch.rand(1, 3, 20, 26, generator=torch.Generator().manual_seed(1)))
    assert run("stylize", photo, "-o", tmp_path / "out.png", "--style", f"{file}#wave=1,candy=1")[0] == 0
    model = load_style(file, style={"wave": 1, "candy": 1})
    expected = model.stylize(read_image(photo).pixels)
    assert (read_image(tmp_path / "out.png").pixels - expected).abs().max() <= 0.51 / 255
    assert "choose one" in refused("stylize", photo, "-o", tmp_path / "no.png", "--style", file)
    assert not (tmp_path / "no.png").exists()
