"""The command ``push``, and ``download USER/NAME``."""

from __future__ import annotations

import json

import torch
from helpers import save_noise, save_style
from perceptual_style.core import load_style


def test_push_then_download_and_stylize(run, hub_standin, use_hub, tmp_path):
    style = save_style(tmp_path / "storm.safetensors", license="CC0-1.0")
    photo = save_noise(tmp_path / "photo.png")
    status, out, _ = run("push", style, "ada/storm", "--photos", photo, "--painting", photo, "--private")
    assert (status, out) == (0, f"{hub_standin.endpoint}/ada/storm\n")
    names = {path.rpartition("/")[2] for path in hub_standin.files}
    assert names == {"README.md", "model.safetensors", "painting.jpg", "picture_1.jpg"}
    assert hub_standin.repositories == {"ada/storm": True}
    status, out, _ = run("download", "ada/storm")
    assert status == 0 and out.endswith("model.safetensors\n")
    assert run("stylize", photo, "-o", tmp_path / "out.png", "--style", "ada/storm")[0] == 0
    image = torch.rand(1, 3, 20, 20)
    assert torch.equal(load_style("ada/storm").stylize(image), load_style(style).stylize(image))


def test_preview_uploads_nothing(run, hub_standin, use_hub, tmp_path):
    style = save_style(tmp_path / "storm.safetensors")
    measures = {"style distance": 0.1, "style distance of the photos": 1.0, "content distance": 0.2, "steadiness": 2.0}
    yardstick = tmp_path / "yardstick.json"
    yardstick.write_text(json.dumps({"styles": [{"style": "storm", "photos": [], **measures}]}))
    options = ("--photos", "--license", "cc-by-4.0", "--title", "Thunder", "--yardstick", yardstick)
    status, out, _ = run("push", style, "ada/storm", "--preview", tmp_path / "card", *options)
    assert (status, out) == (0, f"{tmp_path / 'card' / 'README.md'}\n")
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card and "# Thunder" in card and "style distance | 0.100" in card
    assert hub_standin.requests == []


def test_mistakes_are_one_line_and_upload_nothing(refused, hub_standin, use_hub, tmp_path):
    style = save_style(tmp_path / "storm.safetensors", license="MIT")
    unknown = save_style(tmp_path / "unknown.safetensors")
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "none.json").write_text('{"styles": []}')
    assert "--license" in refused("push", unknown, "ada/storm", "--photos")
    assert "expected USER/NAME" in refused("push", style, "storm", "--photos")
    for name, message in (("other", "is not the yardstick.json"), ("none", "has no measures of storm")):
        assert message in refused("push", style, "ada/storm", "--photos", "--yardstick", tmp_path / f"{name}.json")
    assert "no such file" in refused("push", style, "ada/storm", "--photos", tmp_path / "missing.png")
    assert "--layer is for loss networks" in refused("download", "ada/storm", "--layer", "relu1_1")
    hub_standin.status = 401
    assert "log in" in refused("push", style, "ada/storm", "--photos")
    assert hub_standin.repositories == {} and hub_standin.files == {}
