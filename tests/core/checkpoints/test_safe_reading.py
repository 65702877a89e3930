"""Files are safe to open: nothing in them runs, claimed sizes are not allocated, and errors name what was found."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict

import helpers
import pytest
import torch
from foreign_containers import Torch7Writer
from foreign_files import make
from perceptual_style.core.checkpoints.dialects import load_foreign
from perceptual_style.core.checkpoints.tensor_files import kind_of, read_tensors
from perceptual_style.core.cli import main
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.models.style_model import load_style
from safetensors.torch import save_file


class Evil:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def refusal(path) -> str:
    text = helpers.refusal(CheckpointError, load_style, path)
    assert str(path) in text
    return text


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["net.pth", "net.t7", "net.safetensors", "net.onnx"])
def test_malicious_pickle_does_not_run_under_any_name(protocol, name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=protocol))
    assert f"{os.mkdir.__module__}.mkdir" in refusal(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [
    lambda evil: evil,
    lambda evil: {"state_dict": {"a": torch.ones(2), "b": evil}},
    lambda evil: make("pytorch/examples") | {"z": evil},
    lambda evil: {"deep": [[({"x": evil},)]]},
    lambda evil: OrderedDict(a=evil),
])  # fmt: skip
def test_malicious_pickle_in_torch_file_does_not_run(wrap, zipped, tmp_path):
    torch.save(wrap(Evil(tmp_path / "ran")), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    text = refusal(tmp_path / "net.pth")
    assert f"{os.mkdir.__module__}.mkdir" in text and "Nothing in it was run" in text
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_module_is_rejected_with_advice(zipped, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    torch.save(module, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    text = refusal(tmp_path / "net.pth")
    assert "torch.nn.modules.conv.Conv2d" in text and "model.state_dict()" in text


def test_torchscript_is_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/code/__torch__.py", "pass")
    assert "TorchScript" in refusal(tmp_path / "net.pt")


@pytest.mark.parametrize("content, reason", [
    (b"", "is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6737564\n", "Git LFS pointer"),
    (b"<!DOCTYPE HTML>\n<html><title>301 Moved\nPermanently</title></html>", "web page .'301 Moved Permanently'"),
    (b"  \n<HTML><body>404</body></html>", "web page"),
    (b'{"error": "not found"}', "is JSON"),
    (b"Entry not found", "is text"),
    (bytes(5000), "contains only zeros"),
    (b"\x1f\x8b\x08" + bytes(50), "unpack it first"),
    (b"\x93NUMPY\x01\x00" + bytes(50), "numpy array"),
    (b"\xde\xad\xbe\xef" * 9, "not a readable safetensors file"),
    (b"\x03\0\0\0\x01\0\0\0\x02\0\0\0" + bytes(3), "cut off or damaged"),
    (b"\x03\0\0\0\x01\0\0\0\x01\0\0\0\x06\0\0\0", "Lua function"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".t7", ".safetensors"])
def test_error_names_kind_of_other_files(content, reason, suffix, tmp_path):
    (tmp_path / f"net{suffix}").write_bytes(content)
    assert re.search(reason, refusal(tmp_path / f"net{suffix}"))


def test_command_reports_malicious_file_in_one_line(tmp_path, capsys):
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    for command in (["describe", "net.pth"], ["convert", "net.pth", "-o", "out.safetensors"]):
        assert main([str(tmp_path / part) if "." in part else part for part in command]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and "mkdir" in captured.err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out.safetensors").exists()


def test_safetensors_header_that_claims_terabytes_is_rejected(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**42) + b"{" + bytes(100))
    assert f"claims {2**42} bytes" in refusal(tmp_path / "a.safetensors")
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    assert "not a readable safetensors file" in refusal(tmp_path / "b.safetensors")


def test_zip_bomb_is_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(50_000_000))
    assert "claims 5" in refusal(tmp_path / "bomb.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("a.npy", b"123")
    assert "a.npy" in refusal(tmp_path / "other.pth")


def _tensor_pickle(count: int, shape: tuple, stride: tuple, offset: int = 0, legacy: bool = False) -> bytes:
    """Return the pickle of {'w': tensor} as torch writes it, with given sizes."""

    class Writer(pickle._Pickler):
        def persistent_id(self, value):
            if isinstance(value, Claim):
                return ("storage", torch.FloatStorage, "0", "cpu", count, None)[: 6 if legacy else 5]

        def save_type(self, value):
            self.write(b"ctorch\nFloatStorage\n") if value is torch.FloatStorage else super().save_type(value)

        dispatch = pickle._Pickler.dispatch.copy()
        dispatch[type] = save_type

    class Claim:
        pass

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Claim(), offset, shape, stride, False, OrderedDict())

    out = io.BytesIO()
    Writer(out, 2).dump({"w": Tensor()})
    return out.getvalue()


@pytest.mark.parametrize("count, shape, stride, offset", [
    (2**40, (2**40,), (1,), 0), (4, (2**20, 2**20), (0, 0), 0), (4, (5,), (1,), 0), (4, (2,), (4,), 0), (4, (4,), (1,), 1),
    (4, (-1,), (1,), 0), (4, (2, 2), (1,), 0), (4, (2**70,), (1,), 0), (3, (3,), (1,), 0),
])  # fmt: skip
def test_wrong_sizes_in_torch_file_are_rejected(count, shape, stride, offset, tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_pickle(count, shape, stride, offset))
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
    header = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    legacy = _tensor_pickle(count, shape, stride, offset, legacy=True)
    body = struct.pack("<q4f", count if count > 4 else 4, 1, 2, 3, 4)
    (tmp_path / "legacy.pth").write_bytes(b"".join([*header, legacy, pickle.dumps(["0"], 2), body]))
    for name in ("zip.pth", "legacy.pth"):
        if (name, count) == ("legacy.pth", 3):
            continue  # a storage larger than its used part is allowed there
        with pytest.raises(CheckpointError, match="zip.pth|legacy.pth"):
            read_tensors(tmp_path / name)


def test_true_sizes_in_torch_file_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_pickle(4, (2, 2), (1, 2)))
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
    assert read_tensors(tmp_path / "zip.pth")["w"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("body", [
    b"\x80\x02" + b")\x85" * 300_000 + b"}" + b"N" + b"s.",  # nested tuples
    b"\x80\x02}" + b"(" * 300_000 + b".",
    b"\x80\x02" + b"]" * 100 + b"a" * 99 + b".",
    b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".",  # a string of exabytes
    b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b".",
    b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # a memo with 4 billion entries
    b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.",  # a dict key that would overflow the stack when hashed
])  # fmt: skip
def test_deep_or_huge_pickle_is_rejected(body, tmp_path):
    (tmp_path / "net.pth").write_bytes(body)
    refusal(tmp_path / "net.pth")


def test_deep_or_recursive_dict_is_rejected(tmp_path):
    state = make("kleinicke")
    for _ in range(30):
        state = {"state_dict": state}
    torch.save(state, tmp_path / "deep.pth")
    assert "no state dict" in refusal(tmp_path / "deep.pth")
    loop = {"a": torch.ones(1)}
    loop["state_dict"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    assert "no state dict" in refusal(tmp_path / "loop.pth")


def test_deep_or_huge_torch7_file_is_rejected(tmp_path):
    nested: dict = {}
    for _ in range(300):
        nested = {"a": nested}
    (tmp_path / "a.t7").write_bytes(Torch7Writer().write(nested).data)
    assert "nested deeper" in refusal(tmp_path / "a.t7")
    data = bytes(Torch7Writer().write({"w": torch.ones(2, 3)}).data)
    claims = data.replace(struct.pack("<q", 9), struct.pack("<q", 2**50))  # elements of the storage
    (tmp_path / "b.t7").write_bytes(claims)
    assert "claimed" in refusal(tmp_path / "b.t7")
    (tmp_path / "c.t7").write_bytes(data.replace(struct.pack("<q", 2), struct.pack("<q", 2**40), 1))
    assert "more than its storage" in refusal(tmp_path / "c.t7")


def test_kind_depends_on_content_only(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.onnx")
    assert kind_of(tmp_path / "a.onnx") == "safetensors"
    assert "manifest.json" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "missing.pth")
    with pytest.raises(CheckpointError):
        load_foreign("a\0b.pth")
