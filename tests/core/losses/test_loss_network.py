"""Test LossNetwork against torchvision layer by layer, and with files that do not fit."""

from __future__ import annotations

import pytest
import torch
import torchvision
from perceptual_style.core.errors import CheckpointError, InputError
from perceptual_style.core.losses.loss_network import ARCHITECTURES, LossNetwork, recognize
from safetensors.torch import save_file

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
# Index of the ReLU (or fire module) in torchvision's ``features``, channels and stride
VGG16 = {
    "relu1_1": (1, 64, 1), "relu1_2": (3, 64, 1), "relu2_1": (6, 128, 2), "relu2_2": (8, 128, 2),
    "relu3_1": (11, 256, 4), "relu3_2": (13, 256, 4), "relu3_3": (15, 256, 4), "relu4_1": (18, 512, 8),
    "relu4_2": (20, 512, 8), "relu4_3": (22, 512, 8), "relu5_1": (25, 512, 16), "relu5_2": (27, 512, 16),
    "relu5_3": (29, 512, 16),
}  # fmt: skip
VGG19 = {
    "relu1_1": (1, 64, 1), "relu1_2": (3, 64, 1), "relu2_1": (6, 128, 2), "relu2_2": (8, 128, 2),
    "relu3_1": (11, 256, 4), "relu3_2": (13, 256, 4), "relu3_3": (15, 256, 4), "relu3_4": (17, 256, 4),
    "relu4_1": (20, 512, 8), "relu4_2": (22, 512, 8), "relu4_3": (24, 512, 8), "relu4_4": (26, 512, 8),
    "relu5_1": (29, 512, 16), "relu5_2": (31, 512, 16), "relu5_3": (33, 512, 16), "relu5_4": (35, 512, 16),
}  # fmt: skip
SQUEEZENET = {
    "relu1": (1, 64, 2), "fire2": (3, 128, 4), "fire3": (4, 128, 4), "fire4": (6, 256, 8), "fire5": (7, 256, 8),
    "fire6": (9, 384, 16), "fire7": (10, 384, 16), "fire8": (11, 512, 16), "fire9": (12, 512, 16),
}  # fmt: skip
KNOWN = {"vgg16": VGG16, "vgg19": VGG19, "squeezenet1_1": SQUEEZENET}


def torchvisions(name: str, rng: torch.Generator) -> tuple[torch.nn.Sequential, dict[str, torch.Tensor]]:
    """Return torchvision's ``features`` with small random weights, and its state dict with torchvision's names."""
    options = {} if name == "squeezenet1_1" else {"init_weights": False}
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None, **options)
    features = model.features.to_empty(device="cpu").eval().requires_grad_(False)
    for key, parameter in features.named_parameters():
        spread = 0.1 if key.endswith("bias") else (2 / parameter[0].numel()) ** 0.5
        parameter.normal_(0, spread, generator=rng)
    return features, {f"features.{key}": tensor for key, tensor in features.state_dict().items()}


def narrow_vgg16(rng: torch.Generator, until: int = 14) -> dict[str, torch.Tensor]:
    """Return weights in VGG-16's layout down to ``features.until``, a few channels wide."""
    tensors, channels = {}, 3
    for index, width in {0: 4, 2: 4, 5: 6, 7: 6, 10: 8, 12: 8, 14: 8, 17: 8, 19: 8, 21: 8}.items():
        if index <= until:
            tensors[f"features.{index}.weight"] = 0.3 * torch.randn(width, channels, 3, 3, generator=rng)
            tensors[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=rng)
            channels = width
    return tensors


def distilled(rng: torch.Generator) -> dict[str, torch.Tensor]:
    """Return weights in the layout of the distilled encoder: 13 narrow convolutions and five heads."""

    def conv(key: str, out: int, into: int, kernel: int = 3) -> dict[str, torch.Tensor]:
        weight = torch.randn(out, into, kernel, kernel, generator=rng) * (2 / (into * kernel**2)) ** 0.5
        return {f"{key}.weight": weight, f"{key}.bias": 0.1 * torch.randn(out, generator=rng)}

    tensors, channels = conv("conv0", 3, 3, kernel=1), 3
    for block, (count, width) in enumerate(((2, 4), (2, 6), (4, 8), (4, 8), (1, 8)), start=1):
        for i in range(1, count + 1):
            tensors |= conv(f"conv{block}{i}", width, channels)
            channels = width
        tensors |= conv(f"conv{block}1_aux", 10 + block, width, kernel=1)
    return tensors


def small_vgg16(rng: torch.Generator) -> dict[str, torch.Tensor]:
    """Return random tensors with the layout of vgg16_small."""
    tensors, channels = {}, 3
    for block, (count, width) in enumerate(((2, 8), (2, 9), (3, 10), (3, 11)), start=1):
        for i in range(1, count + 1):
            key = f"conv{block}_{i}"
            if channels == 3:
                tensors[f"{key}.weight"] = torch.randn(width, 3, 3, 3, generator=rng) * 0.4
                tensors[f"{key}.bias"] = 0.1 * torch.randn(width, generator=rng)
            else:
                tensors[f"{key}.reduce.weight"] = torch.randn(4, channels, 1, 1, generator=rng) * 0.6
                tensors[f"{key}.core.weight"] = torch.randn(5, 4, 3, 3, generator=rng) * 0.2
                tensors[f"{key}.expand.weight"] = torch.randn(width, 5, 1, 1, generator=rng)
                tensors[f"{key}.expand.bias"] = 0.1 * torch.randn(width, generator=rng)
            channels = width
    return tensors


@pytest.mark.parametrize("name", KNOWN)
def test_layers_match_torchvision(name, rng):
    features, tensors = torchvisions(name, rng)
    network = LossNetwork(name, tensors, KNOWN[name])
    image = torch.rand(2, 3, 37, 45, generator=rng)
    mine = network(image)
    assert list(mine) == list(KNOWN[name]) == list(ARCHITECTURES[name].layers)
    x, place = (image - MEAN) / STD, {index: layer for layer, (index, _, _) in KNOWN[name].items()}
    for index, module in enumerate(features):
        x = module(x)
        if index in place:
            channels = KNOWN[name][place[index]][1]
            assert x.shape[1] == channels
            torch.testing.assert_close(mine[place[index]], x, msg=lambda text, i=index: f"{place[i]}: {text}")


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_layers_have_strides_of_the_paper(name, rng):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None, init_weights=False)
    shapes = {f"features.{key}": tensor.shape for key, tensor in model.features.state_dict().items()}
    thin, channels = {}, 3
    for key, shape in shapes.items():  # the same layout, four channels wide
        thin[key] = torch.zeros((4, channels, 3, 3) if len(shape) == 4 else (4,))
        channels = 4
    features = LossNetwork(name, thin, KNOWN[name])(torch.rand(1, 3, 64, 32, generator=rng))
    for layer, (_, _, stride) in KNOWN[name].items():
        assert features[layer].shape == (1, 4, 64 // stride, 32 // stride)


def test_distilled_encoder_by_hand(rng):
    tensors = distilled(rng)
    layers = [f"relu{block}_1" for block in range(1, 6)]
    image = torch.rand(1, 3, 40, 33, generator=rng)
    mine = LossNetwork("vgg19_distilled", tensors, layers)(image)
    assert list(mine) == layers == list(ARCHITECTURES["vgg19_distilled"].layers)

    def conv(x: torch.Tensor, key: str) -> torch.Tensor:
        weight = tensors[f"{key}.weight"]
        module = torch.nn.Conv2d(
            *weight.shape[1::-1], weight.shape[2], padding=weight.shape[2] // 2, padding_mode="reflect"
        )
        module.load_state_dict({"weight": weight, "bias": tensors[f"{key}.bias"]})
        return module(x).detach()

    x = conv(image, "conv0")
    for block, count in enumerate((2, 2, 4, 4, 1), start=1):
        x = x if block == 1 else torch.nn.functional.max_pool2d(x, 2)
        for i in range(1, count + 1):
            x = conv(x, f"conv{block}{i}").relu()
            if i == 1:
                torch.testing.assert_close(mine[f"relu{block}_1"], conv(x, f"conv{block}1_aux").relu())


def test_small_vgg16_is_vgg16_with_the_product_of_its_factors(rng):
    tensors = small_vgg16(rng)
    layers = ["conv1_1", "relu1_2", "conv2_2", "relu2_2", "relu3_3", "conv4_3", "relu4_3"]
    whole, indices = {}, iter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21))
    for key in dict.fromkeys(name.split(".")[0] for name in tensors):
        target = f"features.{next(indices)}"
        if f"{key}.weight" in tensors:
            whole[f"{target}.weight"], whole[f"{target}.bias"] = tensors[f"{key}.weight"], tensors[f"{key}.bias"]
        else:
            reduce, core, expand = (tensors[f"{key}.{part}.weight"] for part in ("reduce", "core", "expand"))
            whole[f"{target}.weight"] = torch.einsum("or,rsyx,si->oiyx", expand[..., 0, 0], core, reduce[..., 0, 0])
            whole[f"{target}.bias"] = tensors[f"{key}.expand.bias"]
    image = torch.rand(1, 3, 40, 32, generator=rng)
    mine, expected = LossNetwork("vgg16_small", tensors, layers)(image), LossNetwork("vgg16", whole, layers)(image)
    assert list(mine) == layers and set(ARCHITECTURES["vgg16_small"].layers) < set(ARCHITECTURES["vgg16"].layers)
    for layer in layers:
        assert (mine[layer] - expected[layer]).abs().max() < 1e-5 * expected[layer].abs().max(), layer


def test_network_normalizes_input():
    tensors = {"features.0.weight": torch.zeros(3, 3, 3, 3), "features.0.bias": torch.zeros(3)}
    for channel in range(3):
        tensors["features.0.weight"][channel, channel, 1, 1] = 1
    features = LossNetwork("vgg16", tensors, ["relu1_1"])(torch.full((1, 3, 16, 16), 0.7))["relu1_1"]
    torch.testing.assert_close(features, ((0.7 - MEAN) / STD).expand(1, 3, 16, 16))


def test_file_and_dict_of_tensors_give_same_features(tmp_path, rng):
    tensors, image = narrow_vgg16(rng), torch.rand(1, 3, 20, 24, generator=rng)
    save_file(tensors, tmp_path / "vgg16.safetensors")
    torch.save(tensors, tmp_path / "vgg16.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    expected = LossNetwork("vgg16", tensors, ["relu3_3"])(image)["relu3_3"]
    for name in ("vgg16.safetensors", "vgg16.pth", "old.pth"):
        assert torch.equal(LossNetwork("vgg16", tmp_path / name, ["relu3_3"])(image)["relu3_3"], expected)


def test_network_ends_at_deepest_requested_layer(rng):
    network = LossNetwork("vgg16", narrow_vgg16(rng, until=7), ["relu2_1", "relu1_2"])
    assert network.steps[-1].name == "relu2_1"
    assert sorted(network.weights) == sorted(f"features/{i}/{part}" for i in (0, 2, 5) for part in ("weight", "bias"))
    assert list(network(torch.rand(1, 3, 16, 16, generator=rng))) == ["relu1_2", "relu2_1"]


def test_heads_of_other_layers_are_not_loaded(rng):
    tensors = distilled(rng)
    del tensors["conv11_aux.weight"], tensors["conv31_aux.bias"]
    network = LossNetwork("vgg19_distilled", tensors, ["relu2_1", "relu4_1"])
    assert list(network(torch.rand(1, 3, 32, 32, generator=rng))) == ["relu2_1", "relu4_1"]


def test_until_stops_early_with_same_features(rng):
    network = LossNetwork("vgg16", narrow_vgg16(rng), ["relu1_2", "relu2_2", "relu3_3"])
    image = torch.rand(1, 3, 16, 16, generator=rng)
    short, full = network(image, until="relu2_2"), network(image)
    assert list(short) == ["relu1_2", "relu2_2"]
    assert all(torch.equal(short[layer], full[layer]) for layer in short)


def test_network_is_frozen_and_image_gets_gradient(rng):
    tensors = narrow_vgg16(rng)
    network = LossNetwork("vgg16", tensors, ["relu1_1", "relu3_3"])
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    image = torch.rand(1, 3, 24, 24, generator=rng, requires_grad=True)
    network(image)["relu3_3"].sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())
    tensors["features.0.weight"].zero_()  # the network has its own copy
    assert network.weights["features/0/weight"].abs().sum() > 0


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_convolutions_are_their_activations_before_the_relu(name, rng):
    tensors, layers = torchvisions(name, rng)[1], ["conv1_2", "relu1_2", "conv3_3"]
    network, image = LossNetwork(name, tensors, layers), torch.rand(2, 3, 24, 20, generator=rng)
    features = network(image)
    assert list(features) == layers and (features["conv1_2"] < 0).any()
    assert torch.equal(features["conv1_2"].relu(), features["relu1_2"])
    assert torch.equal(features["conv3_3"].relu(), LossNetwork(name, tensors, ["relu3_3"])(image)["relu3_3"])
    assert list(network(image, until="conv1_2")) == ["conv1_2", "relu1_2"]
    assert network.depth("conv3_3") == network.depth("relu3_3") > network.depth("conv1_2")


def test_half_precision_files_run_in_float32(rng):
    tensors = {key: tensor.half() for key, tensor in narrow_vgg16(rng).items()}
    network = LossNetwork("vgg16", tensors, ["relu2_2"])
    assert network(torch.rand(1, 3, 16, 16, generator=rng))["relu2_2"].dtype == torch.float32


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_smallest_image_reaches_deepest_layer_and_smaller_one_is_rejected(name, rng):
    architecture = ARCHITECTURES[name]
    own = {"vgg19_distilled": distilled, "vgg16_small": small_vgg16}
    tensors = own[name](rng) if name in own else torchvisions(name, rng)[1]
    network, side = LossNetwork(name, tensors, architecture.layers), architecture.smallest
    features = network(torch.rand(1, 3, side, side + 7, generator=rng))
    assert all(feature.isfinite().all() and feature.numel() for feature in features.values())
    with pytest.raises(InputError, match=f"{side - 1} px is too small for {name}"):
        network(torch.rand(1, 3, side - 1, 64, generator=rng))


def test_missing_layer_is_named(tmp_path, rng):
    path = tmp_path / "short.safetensors"
    save_file(narrow_vgg16(rng, until=7), path)
    with pytest.raises(CheckpointError, match=r"short.safetensors lacks relu3_1 of vgg16 .*features.10.weight"):
        LossNetwork("vgg16", path, ["relu2_2", "relu3_3"])
    tensors = narrow_vgg16(rng)
    del tensors["features.2.bias"]
    with pytest.raises(CheckpointError, match=r"lacks relu1_2 .*features.2.bias"):
        LossNetwork("vgg16", tensors, ["relu1_2"])


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("features.5.weight", (6, 5, 3, 3)),
        ("features.5.weight", (6, 4, 5, 5)),
        ("features.5.weight", (6, 4)),
        ("features.5.bias", (7,)),
        ("features.5.bias", (6, 1)),
        ("features.0.weight", (4, 1, 3, 3)),
    ],
)
def test_wrong_shapes_are_rejected(key, shape, rng):
    tensors = {**narrow_vgg16(rng), key: torch.zeros(shape)}
    with pytest.raises(CheckpointError, match=rf"is not a vgg16: {key.rsplit('.', 1)[0]}"):
        LossNetwork("vgg16", tensors, ["relu3_3"])


@pytest.mark.parametrize(
    ("name", "layers", "named"),
    [
        ("vgg11", ["relu1_1"], "vgg11.*vgg16, vgg19"),
        ("vgg16", ["relu3_4"], "no layer 'relu3_4'.*relu3_3"),
        ("vgg16", ["relu1_1", "conv3_4"], "conv3_4"),
        ("vgg16_small", ["conv5_1"], "conv5_1"),
        ("vgg16", [], "at least one layer"),
    ],
)
def test_unknown_networks_and_layers_are_rejected(name, layers, named, rng):
    with pytest.raises(InputError, match=named):
        LossNetwork(name, narrow_vgg16(rng), layers)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"not weights at all\n" * 20, "not a readable safetensors file"),
        (b"PK\x03\x04 and nothing", "cannot be opened safely"),
        (b"\x80\x02cos\nsystem\n.", "cannot be opened safely"),
        (b"\x80", "cannot be opened safely"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "lacks relu1_1"),
        (b"\xff" * 64, "not a readable safetensors file"),
    ],
)
def test_other_files_are_rejected_in_one_line(content, named, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=named) as caught:
        LossNetwork("vgg16", path, ["relu1_1"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class _Payload:
    def __reduce__(self):
        return print, ("code of the file ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_file_with_code_is_rejected_and_code_does_not_run(zipped, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": _Payload()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="cannot be opened safely"):
        LossNetwork("vgg16", path, ["relu1_1"])
    assert "code of the file ran" not in capsys.readouterr().out


def test_torch_file_of_nested_dict_is_rejected(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"features.0.weight": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="plain dict of tensors"):
        LossNetwork("vgg16", path, ["relu1_1"])


def test_missing_file_and_folder_are_rejected(tmp_path):
    for path, why in ((tmp_path / "nothing.safetensors", "does not exist"), (tmp_path, "is not a file")):
        with pytest.raises(CheckpointError) as error:
            LossNetwork("vgg16", path, ["relu1_1"])
        assert str(error.value) == f"{path} {why}"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "channels"),
    [
        ("vgg16", "vgg16_caffe_conv1_1-conv2_2", {layer: VGG16[layer][1] for layer in list(VGG16)[:4]}),
        ("vgg19", "vgg19_normalised_conv1_1-conv3_1", {layer: VGG19[layer][1] for layer in list(VGG19)[:5]}),
        ("squeezenet1_1", "squeezenet1_1_caffe_features", {layer: SQUEEZENET[layer][1] for layer in SQUEEZENET}),
        (
            "vgg19_distilled",
            "vgg19_16x_distilled_encoder5",
            {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512},
        ),
    ],
)
def test_real_files_load_with_their_widths(name, file, channels, shared_data, rng):
    network = LossNetwork(name, shared_data / "loss_networks" / f"{file}.safetensors", channels)
    features = network(torch.rand(1, 3, 48, 48, generator=rng))
    assert {layer: feature.shape[1] for layer, feature in features.items()} == channels
    assert all(feature.isfinite().all() and feature.std() > 0 for feature in features.values())


@pytest.mark.shared
def test_real_vgg16_lacks_layers_below_its_file(shared_data):
    path = shared_data / "loss_networks" / "vgg16_caffe_conv1_1-conv2_2.safetensors"
    with pytest.raises(CheckpointError, match="lacks relu3_1 of vgg16"):
        LossNetwork("vgg16", path, ["relu3_3"])


@pytest.mark.parametrize("expected", ARCHITECTURES)
def test_recognize_finds_network_by_tensors(expected, rng, tmp_path):
    layers = ("relu1_1", "relu3_1", "relu4_1")
    for name, tensors in (("vgg16", narrow_vgg16(rng, 21)), ("vgg19_distilled", distilled(rng))):
        save_file(tensors, tmp_path / "any.safetensors")
        assert recognize(tmp_path / "any.safetensors", layers, expected) == name


def test_recognize_prefers_expected_network(rng, tmp_path):
    save_file(narrow_vgg16(rng, 7), tmp_path / "a.safetensors")
    for name in ("vgg16", "vgg19"):
        assert recognize(tmp_path / "a.safetensors", ["relu2_2"], name) == name


def test_recognize_says_what_the_expected_network_lacks(rng, tmp_path):
    save_file(narrow_vgg16(rng, 7), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="a.safetensors is not a loss network.* lacks relu3_1 of vgg19"):
        recognize(tmp_path / "a.safetensors", ["relu1_2", "relu3_1"], "vgg19")
