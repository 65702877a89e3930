"""OptimizeStyle in ComfyUI: the same result as core's, previews, and interruption."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_networks import small_vgg16

pytestmark = pytest.mark.host

WEIGHTS = "narrow_vgg16.safetensors"


@pytest.fixture
def weights(comfyui) -> Iterator[Path]:
    """A small loss network for the recipe standard, in models/loss_networks during a test."""
    path = small_vgg16(comfyui.loss_networks / WEIGHTS)
    yield path
    path.unlink()


def _graph(content: str, style_image: str, **inputs) -> dict:
    """Connect LoadImage (1, 2), OptimizeStyle (3) and SaveImage (4)."""
    inputs = {
        "content": ["1", 0], "style_image": ["2", 0], "recipe": "standard", "iterations": 3, "content_weight": 1.0,
        "style_weight": 1.0, "tv_weight": 1.0, "start": "content", "seed": 0, "loss_network": WEIGHTS, "style_size": 64,
        **inputs,
    }  # fmt: skip
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": content}},
        "2": {"class_type": "LoadImage", "inputs": {"image": style_image}},
        "3": {"class_type": "OptimizeStyle", "inputs": inputs},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "optimized"}},
    }


def test_object_info_lists_the_node(comfyui, weights):
    info = comfyui.get("/object_info/OptimizeStyle")["OptimizeStyle"]
    assert (info["display_name"], info["output"]) == ("Optimize Style (slow)", ["IMAGE"])
    assert {"auto", WEIGHTS} < set(comfyui.options("OptimizeStyle", "loss_network"))
    inputs = info["input"]["required"] | info["input"]["optional"]
    assert info["description"] and all(config["tooltip"] for _, config in inputs.values())


@pytest.mark.parametrize("start", ["content", "noise"])
def test_result_matches_core(comfyui, core, weights, start):
    photo, painting = comfyui.put_photo("content.png", 48, 37), comfyui.put_photo("painting.png", 80, 70, seed=1)
    (result,) = comfyui.images(comfyui.run(_graph(photo.name, painting.name, start=start)), "4")
    images = [core.images.reading.read_image(path).pixels for path in (photo, painting)]
    expected = importlib.import_module(f"{core.__name__}.training.optimize_image").optimize_image(
        *images, loss_weights=weights, iterations=3, start=start, style_size=64
    )
    expected = np.floor(expected[0].movedim(0, -1).numpy() * 255)  # SaveImage truncates values
    assert result.size == (48, 37)
    assert np.abs(np.asarray(result, dtype=np.float64) - expected).max() <= 1


def test_second_run_is_cached(comfyui, weights):
    nodes = _graph(comfyui.put_photo("a.png", 40, 36).name, comfyui.put_photo("b.png", 70, 70, seed=2).name)
    comfyui.run(nodes)
    assert set(comfyui.run(nodes)["messages"]["execution_cached"]["nodes"]) == set(nodes)


def test_errors_are_one_line(comfyui, weights):
    photo, small = comfyui.put_photo("large.png", 70, 70).name, comfyui.put_photo("small.png", 30, 70).name
    nodes = _graph(photo, photo, loss_network="../" + WEIGHTS)
    (error,) = comfyui.refused(nodes)["node_errors"]["3"]["errors"]
    assert "no loss network named" in error["details"]
    (error,) = comfyui.refused(_graph(photo, photo, iterations=0))["node_errors"]["3"]["errors"]
    assert error["type"] == "value_smaller_than_min"
    wrong = comfyui.loss_networks / "wrong.safetensors"
    save_file({"features.0.weight": torch.zeros(4, 3, 3, 3)}, wrong)
    for nodes, message in (
        (_graph(photo, small), "expected at least 64 px on each side"),
        (_graph(photo, photo, loss_network=wrong.name), "is not a loss network that can be used here"),
    ):
        text = comfyui.wait(comfyui.submit(nodes))["messages"]["execution_error"]["exception_message"].strip()
        assert message in text and len(text.splitlines()) == 1
    wrong.unlink()


def test_interrupt_stops_run_and_next_run_works(comfyui, weights):
    photo, painting = comfyui.put_photo("long.png", 256, 256).name, comfyui.put_photo("b.png", 70, 70).name
    prompt_id = comfyui.submit(_graph(photo, painting, iterations=10_000))
    deadline = time.monotonic() + 60
    while not comfyui.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    comfyui.request("/interrupt", {"prompt_id": prompt_id})
    entry = comfyui.wait(prompt_id, seconds=60)
    assert entry["messages"].get("execution_interrupted", {}).get("node_type") == "OptimizeStyle", entry["status"]
    assert "execution_error" not in entry["messages"]
    (result,) = comfyui.images(comfyui.run(_graph(photo, painting, iterations=1)), "4")
    assert result.size == (256, 256)


def test_progress_and_previews_reach_a_client(comfyui, weights):
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    nodes = _graph(comfyui.put_photo("live.png", 60, 50).name, comfyui.put_photo("b.png", 70, 70).name, iterations=5)
    client = websocket.create_connection(f"ws://127.0.0.1:{comfyui.port}/ws?clientId=optimize", timeout=120)
    values, previews, kind = [], [], ""
    try:
        prompt_id = comfyui.submit(nodes, client_id="optimize")
        while kind not in ("execution_success", "execution_error"):
            message = client.recv()
            if isinstance(message, bytes):
                previews.append(message)
                continue
            message = json.loads(message)
            kind, data = message["type"], message.get("data", {})
            if kind == "progress" and data["node"] == "3" and data["prompt_id"] == prompt_id:
                values.append((data["value"], data["max"]))
    finally:
        client.close()
    assert kind == "execution_success"
    # newer hosts leave out messages that follow each other quickly
    assert values == sorted({*values}) and {*values} <= {(200 * n, 1000) for n in range(1, 6)} and values[-1][0] == 1000
    assert previews and Image.open(BytesIO(previews[-1][8:])).size == (60, 50)
