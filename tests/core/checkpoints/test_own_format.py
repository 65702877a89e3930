"""Files in this project's format round-trip; other files are rejected with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from perceptual_style.core.checkpoints.own_format import (
    load_network,
    load_tensors,
    network_from,
    save_network,
    save_tensors,
)
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.network.transform_net import build_network
from safetensors.torch import load_file, save_file

ARCH = "c3s1-4,d6,R6,U2,c3s1-3 norm=batch padding=reflect output=tanh150"
FACTS = {
    "task": "style",
    "name": "Nuit étoilée",
    "credit": {"artist": "van Gogh", "year": 1889},
    "figures": [1, 2.5, None],
}


@pytest.fixture
def network(rng):
    network = build_network(ARCH)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=rng)
    return network


def write(path, tensors, header) -> None:
    """Write a safetensors file with any header in our metadata."""
    header = header if isinstance(header, str) else json.dumps(header)
    save_file(dict(tensors), path, metadata={"perceptual_style": header})


def test_network_and_facts_round_trip(tmp_path, network, rng):
    save_network(tmp_path / "style.safetensors", network, FACTS)
    loaded, facts = load_network(tmp_path / "style.safetensors")
    assert loaded.spec == network.spec and facts == {**FACTS, "arch": str(network.spec)}
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.state_dict().items())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    image = torch.rand(1, 3, 12, 12, generator=rng)
    assert torch.equal(loaded(image), network.eval()(image))


def test_half_precision_keeps_eleven_bits(tmp_path, network):
    save_network(tmp_path / "half.safetensors", network, FACTS, half=True)
    stored, (loaded, _) = load_file(tmp_path / "half.safetensors"), load_network(tmp_path / "half.safetensors")
    floats = [key for key, tensor in network.state_dict().items() if tensor.is_floating_point()]
    assert {stored[key].dtype for key in floats} == {torch.float16}
    for key in floats:
        value = loaded.state_dict()[key]
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, network.state_dict()[key], rtol=2**-11, atol=0)
    assert stored["stages.0.norm.num_batches_tracked"].dtype == torch.int64


def test_half_precision_keeps_large_variances(tmp_path, network):
    network.stages[0].norm.running_var.fill_(1e6)  # float16 ends at 65504
    save_network(tmp_path / "half.safetensors", network, FACTS, half=True)
    loaded, _ = load_network(tmp_path / "half.safetensors")
    assert torch.equal(loaded.stages[0].norm.running_var, network.stages[0].norm.running_var)


def test_channels_last_network_round_trips(tmp_path, network):
    save_network(tmp_path / "style.safetensors", network.to(memory_format=torch.channels_last), FACTS)
    loaded, _ = load_network(tmp_path / "style.safetensors")
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.state_dict().items())


def test_facts_cannot_replace_format_and_arch(tmp_path, network):
    save_network(tmp_path / "style.safetensors", network, {**FACTS, "arch": "c9s1-3", "format": 99})
    loaded, facts = load_network(tmp_path / "style.safetensors")
    assert facts["arch"] == str(network.spec) == str(loaded.spec)


def test_tensors_and_header_round_trip(tmp_path, rng):
    tensors = {"a": torch.rand(3, 2, generator=rng).T, "b": torch.tensor(7), "empty": torch.zeros(0, 3)}
    save_tensors(tmp_path / "file.safetensors", tensors, {"format": 1, "step": 12})
    read, header = load_tensors(tmp_path / "file.safetensors")
    assert header == {"format": 1, "step": 12} and read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensors[key]) for key in tensors)


def test_foreign_safetensors_are_rejected_with_content(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"unet.weight": torch.zeros(2), "a.bias": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"other.safetensors is not a file of this project.*a.bias, unet.weight"):
        load_network(path)
    save_file({}, path)
    with pytest.raises(CheckpointError, match="no tensors"):
        load_network(path)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("{broken", "is not a file of this project"),
        ("[1, 2]", "has format"),
        ({"task": "style"}, "has format"),
        ({"format": 2, "arch": ARCH}, "this version reads format 1"),
        ({"format": 1, "task": "training", "arch": ARCH}, "unfinished training"),
        ({"format": 1, "task": "style"}, "does not say its architecture"),
        ({"format": 1, "task": "style", "arch": 5}, "does not say its architecture"),
        ({"format": 1, "task": "style", "arch": "c9s1-3,q7"}, "'q7'"),
        ({"format": 1, "task": "style", "arch": "d8,c3s1-3"}, "1/2 of the input"),
    ],
)
def test_wrong_header_is_rejected_with_file_name(header, named, tmp_path, network):
    path = tmp_path / "style.safetensors"
    write(path, network.state_dict(), header)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_network(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def change(tensors: dict, kind: str) -> dict:
    """Return the tensors with one error."""
    if kind == "missing":
        del tensors["stages.2.first.conv.weight"]
    elif kind == "more":
        tensors["stages.9.conv.weight"] = torch.zeros(1)
    elif kind == "shape":
        tensors["stages.0.conv.weight"] = torch.zeros(4, 3, 5, 5)
    else:
        tensors["stages.0.conv.weight"] = tensors["stages.0.conv.weight"].to(torch.int32)
    return tensors


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing", r"stages.2.first.conv.weight is missing, expected \(6, 6, 3, 3\)"),
        ("more", r"stages.9.conv.weight is \(1,\), expected no such tensor"),
        ("shape", r"stages.0.conv.weight is \(4, 3, 5, 5\), expected \(4, 3, 3, 3\)"),
        ("integers", r"stages.0.conv.weight"),
    ],
)
def test_architecture_that_does_not_fit_tensors_is_rejected(kind, named, tmp_path, network):
    path = tmp_path / "style.safetensors"
    write(path, change(network.state_dict(), kind), {"format": 1, "task": "style", "arch": ARCH})
    with pytest.raises(CheckpointError, match=named) as caught:
        load_network(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_huge_architecture_allocates_nothing():
    wide = "c31s1-4096," + "c31s1-4096," * 200 + "c3s1-3"  # 13 TB of weights
    with pytest.raises(CheckpointError, match="is missing"):
        network_from({}, wide, "the file")


def test_unwritable_folder_is_named(tmp_path, network):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match=r"cannot write .*style.safetensors: ") as caught:
        save_network(tmp_path / "file" / "style.safetensors", network, FACTS)
    assert "\n" not in str(caught.value)


def test_failed_write_keeps_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "style.safetensors"
    save_network(path, network, FACTS)
    before = path.read_bytes()

    write = Path.write_bytes

    def full(target, content):
        write(target, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_network(path, build_network("c3s1-3"), FACTS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
