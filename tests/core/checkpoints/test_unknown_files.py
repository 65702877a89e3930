"""Files that hold no network for us: the error names the nearest family, or says what the file is and where it belongs."""

from __future__ import annotations

import json
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from foreign_containers import write_onnx, write_torch7, write_variables
from foreign_files import PROGRAMS, make
from helpers import refusal
from perceptual_style.core.checkpoints.dialects import load_foreign
from perceptual_style.core.checkpoints.tensor_files import read_tensors
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.models.loading import open_network
from safetensors.torch import load_file, save_file


def refused(path) -> str:
    text = refusal(CheckpointError, open_network, path)
    assert str(path) in text and len(text) < 700
    return text


def _vgg(prefix: str) -> dict[str, torch.Tensor]:
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
    weights = {f"{prefix}{n}.weight": torch.zeros(*shape, 3, 3) for n, shape in shapes.items()}
    return weights | {f"{prefix}{n}.bias": torch.zeros(shape[0]) for n, shape in shapes.items()}


@pytest.mark.parametrize("family", PROGRAMS)
@pytest.mark.parametrize("wrap", [
    lambda state: state | {"n_averaged": torch.tensor(3)},
    lambda state: {f"module.{key}": value for key, value in state.items()} | {"n_averaged": torch.tensor(3)},
    lambda state: state | {"epoch": torch.tensor(2.5), "more.temperature": torch.tensor(1)},
    lambda state: state | _vgg("vgg.features."),
    lambda state: {f"net.{key}": value for key, value in state.items()} | _vgg("loss_network.slice1."),
    lambda state: {f"module.net.{key}": value for key, value in state.items()} | _vgg("module.encoder."),
])  # fmt: skip
def test_counters_and_loss_networks_are_ignored(family, wrap, tmp_path):
    state = make(family)
    torch.save(state, tmp_path / "plain.pth")
    save_file({key: value.clone() for key, value in wrap(state).items()}, tmp_path / "more.safetensors")
    plain, more = (load_foreign(tmp_path / name) for name in ("plain.pth", "more.safetensors"))
    assert more[2]["family"] == family and str(more[0].spec) == str(plain[0].spec)
    for key, value in plain[0].state_dict().items():
        assert torch.equal(more[0].state_dict()[key], value)


@pytest.mark.parametrize(("family", "change", "difference"), [
    ("pytorch/examples", {"res3.in1.bias": None}, "res3.in1.bias is missing"),
    ("pytorch/examples", {"conv1.conv2d.weight": (4, 3, 7, 7)}, r"conv1.conv2d.weight is .4, 3, 7, 7. instead of .4, 3, 9, 9."),
    ("pytorch/examples", {"attention.weight": (4, 4)}, "it also holds attention.weight"),
    ("rrmina", {"DeconvBlock.4.conv_layer.weight": None}, "DeconvBlock.4.conv_layer.weight is missing"),
    ("igreat", {"layers.1.bias": None, "layers.1.weight": None}, "layers.1.bias, layers.1.weight are missing"),
    ("dxyang", {"in2_e.weight": None}, "in2_e.weight is missing"),
    ("yakhyo", {"in5.weight": (9,)}, "in5.weight is .9,. instead of .4,."),
])  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module."])
def test_nearest_family_is_named_with_the_difference(family, change, difference, prefix, tmp_path):
    state = make(family)
    for key, shape in change.items():
        state[key] = torch.zeros(shape or ())
        if shape is None:
            del state[key]
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=f"unknown architecture, nearly that of {family}, but {difference}$"):
        load_foreign(tmp_path / "net.pth")


UPSCALERS = {
    "ESRGAN": {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
    "ESRGAN ": {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
    "SwinIR": {"conv_first.weight": (60, 3, 3, 3), "layers.0.residual_group.blocks.0.norm1.weight": (60,)},
    "Compact": {"body.0.weight": (64, 3, 3, 3), "body.0.bias": (64,), "body.1.weight": (64,)},
}


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"params_ema": state}])
def test_general_upscalers_are_sent_to_the_host(name, wrap, tmp_path):
    torch.save(wrap({key: torch.zeros(shape) for key, shape in UPSCALERS[name].items()}), tmp_path / "net.pth")
    text = refused(tmp_path / "net.pth")
    assert f"is a general upscaler ({name.strip()})" in text
    assert "models/upscale_models" in text and "Load Upscale Model" in text


def test_spandrel_is_asked_where_it_is_there(tmp_path, monkeypatch):
    class Architecture:
        name = "Newest"

        @staticmethod
        def detect(keys):
            return "newest.weight" in keys

    supported = types.SimpleNamespace(architecture=Architecture)
    registry = types.SimpleNamespace(architectures=lambda order: [supported])
    monkeypatch.setitem(sys.modules, "spandrel", types.SimpleNamespace(MAIN_REGISTRY=registry))
    for name, expected in (("newest", "general upscaler .Newest."), ("other", "unknown architecture .1 tensors")):
        save_file({f"{name}.weight": torch.zeros(3)}, tmp_path / "net.safetensors")
        with pytest.raises(CheckpointError, match=expected):
            load_foreign(tmp_path / "net.safetensors")


@pytest.mark.parametrize(("key", "place"), [
    ("lora_unet_down_blocks_0.lora_up.weight", "models/loras"),
    ("model.diffusion_model.input_blocks.0.0.weight", "models/checkpoints"),
    ("control_model.input_blocks.0.0.weight", "models/controlnet"),
])  # fmt: skip
def test_models_of_image_generators_are_sent_to_their_folders(key, place, tmp_path):
    save_file({key: torch.zeros(3)}, tmp_path / "net.safetensors")
    assert place in refused(tmp_path / "net.safetensors")


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("net.gguf", b"GGUF\x03\0\0\0" + bytes(60), "GGUF file"),
    ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite model"),
    ("net.mlmodel", b"\x08\x01\x12 " + bytes(99), "Core ML model"),
    ("saved_model.pb", b"\x08\x01\x12\x9a\x02" + bytes(99), "TensorFlow graph"),
    ("net.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": {"a": "b"}}).encode(), "list of a model's parts"),
    ("wave.ckpt", b"\0\x006\n4\x08\x01\x120\n\x08Variable" + bytes(500), "TensorFlow checkpoint"),
    ("wave.ckpt.data-00000-of-00001", bytes(1000), "TensorFlow checkpoint"),
    ("wave.ckpt.index", b"\0\0\x02\x08\x01" + bytes(100) + b"W\xfb\x80\x8b$uG\xdb", "TensorFlow checkpoint"),
    ("page.pb", b"<!doctype html><title>Sign in</title>", "web page .'Sign in'"),
])  # fmt: skip
def test_other_kinds_of_files_are_named(name, content, reason, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        open_network(tmp_path / name)
    text = refused(tmp_path / name)
    if reason == "TensorFlow checkpoint":
        assert "tf.train.load_checkpoint('wave.ckpt')" in text and "'wave.safetensors'" in text


def test_converted_tensorflow_checkpoint_is_read(tmp_path):
    run = write_variables(tmp_path / "wave")
    manifest = json.loads((tmp_path / "wave" / "manifest.json").read_text())
    variables = {
        name: torch.from_numpy(np.fromfile(tmp_path / "wave" / name, "<f4").reshape(entry["shape"]))
        for name, entry in manifest.items()
    }
    optimizer = {f"{name}/Adam": value + 1 for name, value in variables.items()} | {"beta1_power": torch.tensor(0.5)}
    save_file(variables | optimizer, tmp_path / "wave.safetensors")
    network, pixels, facts = load_foreign(tmp_path / "wave.safetensors")
    image = torch.rand(1, 3, 32, 24)
    assert facts["family"] == "lengstrom" and facts["name"] == "wave"
    with torch.no_grad():
        assert (pixels.from_network(network(pixels.to_network(image))) - run(image)).abs().max() * 255 < 2e-3
    del variables["Variable_7"]
    save_file(variables, tmp_path / "wave.safetensors")
    assert "Variable_" in refused(tmp_path / "wave.safetensors")


@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "net.safetensors", "net.t7", "net.onnx"])
def test_cut_files_are_called_incomplete(kind, tmp_path):
    path, state = tmp_path / kind, make("pytorch/examples")
    if kind.endswith("pth"):
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip.pth")
    elif kind == "net.safetensors":
        save_file(state, path)
    elif kind == "net.t7":
        write_torch7(path)
    else:
        pytest.importorskip("onnx")
        write_onnx(path, "pytorch/examples")
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "incomplete" in refused(path), share


@pytest.mark.parametrize("wrap", [
    lambda weights: {"epoch": 3, "model": weights},
    lambda weights: {"state_dict": weights, "optimizer": {"state": {0: weights}}},
    lambda weights: weights | {"epoch": 3},
])  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_wrapped_loss_network_is_read(wrap, zipped, loss_weights, tmp_path):
    weights = load_file(loss_weights)
    torch.save(wrap(weights), tmp_path / "5SE.pth", _use_new_zipfile_serialization=zipped)
    read = read_tensors(tmp_path / "5SE.pth")
    assert read.keys() == weights.keys() and all(torch.equal(read[key], weights[key]) for key in weights)
    assert LossNetwork("vgg16", tmp_path / "5SE.pth", ["relu2_2"]).layers


def test_zip_without_end_is_incomplete(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"N." * 100)
    data = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(data[:-22])
    assert "incomplete" in refused(tmp_path / "net.pth")


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["checkpoints", "hostile"])
def test_hard_inputs_are_rejected_in_one_line(folder, shared_data):
    if not (shared_data / "hard_inputs" / folder).is_dir():
        pytest.skip("needs the folder hard_inputs")
    for path in sorted((shared_data / "hard_inputs" / folder).iterdir()):
        refused(path)
