"""The kind of a file of tensors depends on its content only."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.checkpoints.tensor_files import read_safetensors, read_tensors
from perceptual_style.core.errors import CheckpointError
from safetensors.torch import save_file


def test_safetensors_with_any_header_length_are_recognized(tmp_path, monkeypatch, rng):
    # The file starts with the header's length, whose first byte can be that of a pickle (0x80).
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("taken for a torch file"))
    tensor, first_bytes = torch.rand(2, 3, generator=rng), set()
    for length in range(0, 640, 8):
        path = tmp_path / f"{length}.bin"
        save_file({"a": tensor}, path, metadata={"text": "x" * length})
        first_bytes.add(path.read_bytes()[0])
        assert torch.equal(read_tensors(path)["a"], tensor)
    assert 0x80 in first_bytes


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_torch_file_with_any_name_is_recognized(zipped, suffix, tmp_path, rng):
    tensors = {"a": torch.rand(3, generator=rng), "b.weight": torch.arange(4)}
    path = tmp_path / f"weights{suffix}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    read = read_tensors(path)
    assert list(read) == list(tensors) and all(torch.equal(read[key], tensors[key]) for key in tensors)


def test_metadata_are_read_or_empty(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "with.safetensors", metadata={"key": "värde"})
    save_file({"a": torch.ones(1)}, tmp_path / "without.safetensors")
    assert read_safetensors(tmp_path / "with.safetensors")[1] == {"key": "värde"}
    assert read_safetensors(tmp_path / "without.safetensors")[1] == {}


def test_truncated_safetensors_are_rejected(tmp_path, rng):
    path = tmp_path / "short.safetensors"
    save_file({"a": torch.rand(40, generator=rng)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="short.safetensors is") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_file_is_rejected_in_one_line(zipped, tmp_path, rng):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(40, generator=rng)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(4, len(whole), len(whole) // 12):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cannot be opened safely") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)
