"""Families with their own containers: Torch7, raw variables, Keras, ONNX."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from foreign_containers import Torch7Writer, torch7_modules, write_keras, write_onnx, write_torch7, write_variables
from foreign_files import PROGRAMS, make
from perceptual_style.core.checkpoints.dialects import load_foreign
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.models.style_model import load_style


def difference(path, run, image) -> float:
    network, pixels, _ = load_foreign(path)
    with torch.no_grad():
        return float((pixels.from_network(network(pixels.to_network(image))) - run(image)).abs().max()) * 255


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_torch7_network_matches_its_program(norm, wrapped, rng, tmp_path):
    image = torch.rand(1, 3, 48, 44, generator=rng)
    run = write_torch7(tmp_path / "style.t7", norm, wrapped)
    network, pixels, facts = load_foreign(tmp_path / "style.t7")
    assert (facts["family"], facts.get("style_image")) == ("jcjohnson", "muse.jpg" if wrapped else None)
    assert (network.spec.norm, network.spec.output, str(pixels)) == (norm, "tanh150", "bgr in=caffe out=caffe")
    assert difference(tmp_path / "style.t7", run, image) < 2e-3


def test_torch7_preprocessing_and_unknown_modules(tmp_path):
    model = torch7_modules(make("rrmina"), "instance")
    path = tmp_path / "style.t7"
    path.write_bytes(Torch7Writer().write({"opt": {"preprocessing": "resnet"}, "model": model}).data)
    assert str(load_foreign(path)[1]) == "rgb in=imagenet out=imagenet"
    model[1]["modules"][3] = ("nn.Dropout", {"p": 0.5})
    path.write_bytes(Torch7Writer().write(model).data)
    with pytest.raises(CheckpointError, match=r"ReLU is missing|nn.Dropout"):
        load_foreign(path)
    for content in ({"opt": {}}, 3.0, ("nn.Linear", {"weight": torch.ones(2, 2)})):
        path.write_bytes(Torch7Writer().write(content).data)
        with pytest.raises(CheckpointError, match="no network|no modules|not a readable|not a fast-neural-style"):
            load_foreign(path)


@pytest.mark.parametrize("size", [(32, 24), (30, 27)])
def test_raw_variables_match_their_program(size, rng, tmp_path):
    image = torch.rand(1, 3, *size, generator=rng)
    run = write_variables(tmp_path / "la_muse")
    for path in (tmp_path / "la_muse", tmp_path / "la_muse" / "manifest.json"):
        assert load_foreign(path)[2] | {"source": ""} == {
            "task": "style",
            "name": "la_muse",
            "family": "lengstrom",
            "source": "",
        }
        assert difference(path, run, image) < 2e-3
    original = load_style(tmp_path / "la_muse")
    save_network(tmp_path / "new.safetensors", original.network, original.facts, pixels=original.pixels)
    assert torch.equal(load_style(tmp_path / "new.safetensors").stylize(image), original.stylize(image))


@pytest.mark.parametrize("change, reason", [
    ({"filename": "../secret"}, "expected a file beside it"),
    ({"filename": "/etc/passwd"}, "expected a file beside it"),
    ({"shape": [9, 9, 3, 2**40]}, "no usable shape"),
    ({"shape": [9, 9, 3, 60000]}, "but the manifest claims"),
    ({"shape": []}, "no usable shape"),
    ({"filename": "missing"}, "cannot be read"),
])  # fmt: skip
def test_wrong_manifest_is_rejected(change, reason, tmp_path):
    write_variables(tmp_path)
    (tmp_path.parent / "secret").write_bytes(b"0" * 31104)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["Variable"] |= change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=reason):
        load_foreign(tmp_path)


def test_keras_weights_match_their_program(rng, tmp_path):
    pytest.importorskip("pyfive")
    pytest.importorskip("h5py")
    run = write_keras(tmp_path / "sr.h5")
    network, _, facts = load_foreign(tmp_path / "sr.h5")
    assert (facts["family"], facts["task"], network.spec.scale) == ("rajatdv", "upscale", 4)
    assert difference(tmp_path / "sr.h5", run, torch.rand(1, 3, 9, 10, generator=rng)) < 2e-3


@pytest.mark.parametrize(
    "family, residual", [("pytorch/examples", "plain"), ("pytorch/examples", "relu"), ("yakhyo", "twice")]
)
@pytest.mark.parametrize("named", [True, False])
def test_onnx_graph_matches_its_program(family, residual, named, rng, tmp_path):
    pytest.importorskip("onnx")
    state = write_onnx(tmp_path / "net.onnx", family, named, residual)
    network, pixels, facts = load_foreign(tmp_path / "net.onnx")
    assert network.spec.residual == residual and str(pixels) == "rgb in=255 out=255"
    assert facts["family"] == (f"{family} (ONNX)" if named and residual != "relu" else "ONNX")
    if residual != "relu":
        assert (
            difference(tmp_path / "net.onnx", lambda x: PROGRAMS[family].run(state, x), torch.rand(1, 3, 24, 28)) < 2e-3
        )


def test_onnx_graph_of_other_network_is_rejected(tmp_path):
    onnx = pytest.importorskip("onnx")
    write_onnx(tmp_path / "net.onnx", "pytorch/examples")
    for change, reason in (
        (lambda graph: setattr(graph.node[2], "op_type", "Softmax"), "Softmax|convolution is expected"),
        (lambda graph: graph.node[1].attribute[0].CopyFrom(onnx.helper.make_attribute("mode", "wrap")), "unknown kind"),
        (lambda graph: graph.output[0].__setattr__("name", "elsewhere"), "do not lead"),
        (lambda graph: graph.initializer[0].__setattr__("data_location", 1), "another file"),
    ):
        model = onnx.load(tmp_path / "net.onnx")
        change(model.graph)
        (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match=reason):
            load_foreign(tmp_path / "changed.onnx")


def test_missing_reader_names_install_command(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100))
    for module, file, extra in (("pyfive", "a.h5", "hdf5"), ("onnx", "a.onnx", "onnx")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(
            CheckpointError, match=rf'needs the package {module}: pip install "perceptual-style\[{extra}\]"'
        ):
            load_foreign(tmp_path / file)


def test_compressed_keras_weights_are_rejected(tmp_path):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("pyfive")
    write_keras(tmp_path / "sr.h5")
    with h5py.File(tmp_path / "sr.h5", "r+") as file:
        values = file["conv2d_1/conv2d_1/kernel:0"][...]
        del file["conv2d_1/conv2d_1/kernel:0"]
        file.create_dataset("conv2d_1/conv2d_1/kernel:0", data=values, chunks=values.shape, compression="gzip")
    with pytest.raises(CheckpointError, match="weights of conv2d_1 are compressed"):
        load_foreign(tmp_path / "sr.h5")


def test_variables_in_the_same_file_are_rejected(tmp_path):
    write_variables(tmp_path / "muse")
    path = tmp_path / "muse" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["Variable_4"]["filename"] = "Variable_1"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="names the same file for several variables"):
        load_foreign(path)
