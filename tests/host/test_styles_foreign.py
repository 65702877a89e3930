"""Foreign checkpoints and a style from the Hub, through POST /prompt."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from foreign_files import make

pytestmark = pytest.mark.host


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def _visible(family: str, seed: int) -> dict[str, torch.Tensor]:
    """Return a checkpoint of a family for pixels in [0, 255], with random weights and visible contrast."""
    state = make(family, seed=seed)
    last = next(
        key.removesuffix(".bias") for key, value in state.items() if value.shape == (3,) and key.endswith("bias")
    )
    return state | {f"{last}.weight": 40 * state[f"{last}.weight"], f"{last}.bias": torch.full((3,), 120.0)}


def _by_core(core, path, photo, **overrides) -> np.ndarray:
    model = core.load_style(path, **overrides)
    return model.stylize(core.images.reading.read_image(photo).pixels)[0].movedim(0, -1).numpy() * 255


@pytest.mark.parametrize(("family", "name"), [("pytorch/examples", "candy.pth"), ("rrmina", "udnie_aggressive.model")])
def test_foreign_file_matches_core(comfyui, core, graph, family, name):
    path = comfyui.styles / name
    torch.save(_visible(family, 7), path)
    assert name in comfyui.options()
    photo = comfyui.put_photo(f"{path.stem}.png", 96, 64)
    (result,) = comfyui.images(comfyui.run(graph(photo.name, name)), "4")
    assert np.abs(_pixels(result) - np.floor(_by_core(core, path, photo))).max() <= 1
    assert _pixels(result).std() > 10


def test_channel_order_and_output_are_used(comfyui, core, graph):
    path = comfyui.styles / "order.pth"
    torch.save(_visible("rrmina", 8), path)
    photo = comfyui.put_photo("order.png", 48, 40)
    nodes = graph(photo.name, path.name)
    (usual,) = comfyui.images(comfyui.run(nodes), "4")
    overrides = {"channel_order": "rgb", "output": "tanh150"}
    nodes["2"]["inputs"] |= overrides
    entry = comfyui.run(nodes)
    assert "2" not in entry["messages"]["execution_cached"]["nodes"]
    (other,) = comfyui.images(entry, "4")
    assert np.abs(_pixels(other) - np.floor(_by_core(core, path, photo, **overrides))).max() <= 1
    assert np.abs(_pixels(other) - _pixels(usual)).max() > 1


def test_hub_style_is_downloaded_when_queued(comfyui, graph):
    photo = comfyui.put_photo("hub.png", 40, 30)
    nodes = graph(photo.name, "hub_wave (download)")
    assert "hub_wave (download)" in comfyui.options()
    nodes["2"]["inputs"]["download"] = False
    error = comfyui.wait(comfyui.submit(nodes))["messages"]["execution_error"]
    assert str(comfyui.styles / "hub_wave.pth") in error["exception_message"] and comfyui.hub.requests == []

    nodes["2"]["inputs"]["download"] = True
    (result,) = comfyui.images(comfyui.run(nodes), "4")
    assert result.size == (40, 30)
    data = next(iter(comfyui.hub.files.values()))
    assert hashlib.sha256((comfyui.styles / "hub_wave.pth").read_bytes()).digest() == hashlib.sha256(data).digest()
    assert "hub_wave" in comfyui.options() and "hub_wave.pth" not in comfyui.options()
    assert set(comfyui.run(nodes)["messages"]["execution_cached"]["nodes"]) == set(nodes), (
        "the old name gives another fingerprint"
    )


def test_inputs_keep_order_and_have_tooltips(comfyui):
    info = comfyui.get("/object_info/LoadStyleModel")["LoadStyleModel"]
    assert list(info["input"]["required"]) == ["style"]
    assert list(info["input"]["optional"]) == ["download", "channel_order", "output"]
    assert info["input"]["optional"]["download"][1]["default"] is True
    assert all(config["tooltip"] for _, config in info["input"]["optional"].values())


def test_module_pickle_error_is_one_line(comfyui, graph):
    torch.save(torch.nn.Conv2d(3, 3, 3), comfyui.styles / "module.pth")
    photo = comfyui.put_photo("module.png", 20, 20)
    entry = comfyui.wait(comfyui.submit(graph(photo.name, "module.pth")))
    error = entry["messages"]["execution_error"]
    assert error["exception_type"].endswith("CheckpointError")
    assert "module.pth" in error["exception_message"] and len(error["exception_message"].strip().splitlines()) == 1
