"""The commands describe and convert."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from foreign_containers import write_variables
from foreign_files import make
from perceptual_style.core.cli import main
from perceptual_style.core.models.style_model import load_style


@pytest.fixture
def foreign(tmp_path):
    torch.save({"state_dict": make("rrmina"), "epoch": 2}, tmp_path / "rain.pth")
    return tmp_path / "rain.pth"


def test_describe_prints_facts_of_a_file(foreign, capsys):
    assert main(["describe", str(foreign), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["arch"] == "c9s1-4,d8,d16,R16x5,u8,u4,c9s1-3 norm=instance padding=reflect output=linear"
    assert answer["sha256"] == hashlib.sha256(foreign.read_bytes()).hexdigest()
    expected = {"name": "rain", "task": "style", "family": "rrmina", "width": 4, "scale": 1, "license": "unknown"}
    assert answer | expected == answer and answer["pixels"] == "bgr in=255 out=255"
    assert answer["parameters"] == sum(value.numel() for value in make("rrmina").values())
    assert main(["describe", str(foreign), "--channel-order", "rgb", "--output-function", "tanh150"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "pixels: rgb in=255 out=255" in lines and any(line.endswith("output=tanh150") for line in lines)


def test_describe_reads_a_folder_of_raw_variables(tmp_path, capsys):
    write_variables(tmp_path / "wave")
    assert main(["describe", str(tmp_path / "wave")]) == 0
    assert "family: lengstrom" in capsys.readouterr().out


@pytest.mark.parametrize("half", [False, True])
def test_convert_writes_this_projects_format(half, foreign, tmp_path, capsys, rng):
    target = tmp_path / "new" / "rain.safetensors"
    arguments = ["convert", str(foreign), "-o", str(target), "--channel-order", "rgb", "--output-function", "tanh150"]
    assert main([*arguments, *(["--half"] if half else [])]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    image = torch.rand(1, 3, 24, 30, generator=rng)
    original = load_style(foreign, channel_order="rgb", output="tanh150").stylize(image, precision="fp32")
    converted = load_style(target)
    assert str(converted.spec).endswith("output=tanh150") and converted.facts["family"] == "rrmina"
    ours = converted.stylize(image, precision="fp32")
    assert torch.allclose(ours, original, atol=1 / 255) if half else torch.equal(ours, original)


def test_errors_are_one_line_and_status_2(foreign, tmp_path, capsys):
    (tmp_path / "text.pth").write_text("Entry not found")
    for arguments in (
        ["convert", str(foreign), "-o", str(tmp_path / "new.pth")],
        ["convert", str(foreign), "-o", str(tmp_path / "new.safetensors"), "--output-function", "arctan"],
        ["convert", str(tmp_path / "text.pth"), "-o", str(tmp_path / "new.safetensors")],
        ["convert", str(tmp_path / "missing.pth"), "-o", str(tmp_path / "new.safetensors")],
        ["describe", str(tmp_path / "text.pth")],
        ["describe", "no_such_style"],
        ["stylize", "photo.png", "-o", str(tmp_path / "o.png"), "--style", str(tmp_path / "text.pth")],
    ):
        assert main(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith("perceptual-style: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "new.safetensors").exists()


def test_convert_does_not_replace_its_input(foreign, tmp_path, capsys):
    target = tmp_path / "rain.safetensors"
    assert main(["convert", str(foreign), "-o", str(target)]) == 0
    assert main(["convert", str(target), "-o", str(target)]) == 2
    assert "is the file to convert and would be replaced" in capsys.readouterr().err
    assert main(["convert", str(target), "-o", str(tmp_path / "again.safetensors")]) == 0
    again, once = (load_style(tmp_path / name) for name in ("again.safetensors", "rain.safetensors"))
    assert again.facts == once.facts and again.pixels == once.pixels
    assert all(map(torch.equal, again.network.state_dict().values(), once.network.state_dict().values()))
