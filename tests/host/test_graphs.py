"""Graphs through ComfyUI's HTTP API: loading, results, caching, rejected inputs and interruption."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.host


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def test_pack_loads_without_errors(comfyui):
    start = comfyui.log_text().partition("To see the GUI")[0]  # later, other tests cause errors on purpose
    about_the_pack = [line for line in start.splitlines() if "some-Renamed.folder" in line]
    assert about_the_pack, "the pack is not in the list of import times"
    trouble = ("IMPORT FAILED", "Cannot import", "Error", "Warning", "Skip", "Unable", 'File "')
    failed = [line for line in about_the_pack if any(word in line for word in trouble)]
    assert failed == []


def test_object_info_lists_the_nodes(comfyui, style):
    info = comfyui.get("/object_info")
    load, stylize = info["LoadStyleModel"], info["FastStylize"]
    assert (load["display_name"], stylize["display_name"]) == ("Load Fast Style Model", "Fast Stylize")
    assert load["output"] == ["PERCEPTUAL_STYLE_MODEL"]
    assert stylize["input"]["required"]["style_model"][0] == "PERCEPTUAL_STYLE_MODEL"
    assert stylize["output"] == ["IMAGE"]
    assert load["python_module"] == stylize["python_module"] == "custom_nodes.some-Renamed.folder"
    assert style in comfyui.options()
    for node in (load, stylize):
        assert node["description"]
        assert all(node["output_tooltips"])
        assert all(config["tooltip"] for _, config in node["input"]["required"].values())


@pytest.mark.parametrize("size", [(512, 512), (511, 333), (37, 29), (1, 1)])
def test_result_has_photo_size(comfyui, graph, style, size):
    path = comfyui.put_photo("{}x{}.png".format(*size), *size)
    (result,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
    assert (result.size, result.mode) == (size, "RGB")
    with Image.open(path) as photo:
        assert np.abs(_pixels(result) - _pixels(photo)).max() > 0, "nothing was stylized"


def test_photo_with_alpha_gives_rgb(comfyui, graph, style):
    """LoadImage removes the alpha channel and returns it as a mask."""
    path = comfyui.put_photo("alpha.png", 61, 45, alpha=True)
    (result,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
    assert (result.size, result.mode) == ((61, 45), "RGB")


def test_four_channel_image_keeps_alpha(comfyui, graph, style):
    path = comfyui.put_photo("joined.png", 61, 45, alpha=True)
    (with_alpha,) = comfyui.images(comfyui.run(graph(path.name, style, join_alpha=True)), "4")
    (without,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
    assert (with_alpha.size, with_alpha.mode) == ((61, 45), "RGBA")
    with Image.open(path) as photo:
        # The host converts alpha to a mask and back, and truncates instead of rounding.
        assert np.abs(_pixels(with_alpha)[..., 3] - _pixels(photo)[..., 3]).max() <= 1
    assert np.array_equal(_pixels(with_alpha)[..., :3], _pixels(without))


def test_batch_matches_single(comfyui, graph, style):
    path = comfyui.put_photo("batch.png", 50, 34)
    images = comfyui.images(comfyui.run(graph(path.name, style, repeat=3)), "4")
    (single,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
    assert [image.size for image in images] == [(50, 34)] * 3
    for image in images:
        assert np.array_equal(_pixels(image), _pixels(single))


def test_photos_in_batch_are_independent(comfyui, graph, style):
    """Images in a batch do not influence each other."""
    paths = [comfyui.put_photo(f"different{i}.png", 50, 34, seed=i) for i in range(2)]
    together = graph(paths[0].name, style)
    together["5"] = {"class_type": "LoadImage", "inputs": {"image": paths[1].name}}
    together["6"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["5", 0]}}
    together["3"]["inputs"]["image"] = ["6", 0]
    images = comfyui.images(comfyui.run(together), "4")
    assert len(images) == 2
    for path, image in zip(paths, images, strict=True):
        (alone,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
        assert np.abs(_pixels(image) - _pixels(alone)).max() <= 1


def test_second_run_is_cached(comfyui, graph, style):
    nodes = graph(comfyui.put_photo("cached.png", 40, 30).name, style)
    first, second = comfyui.run(nodes), comfyui.run(nodes)
    assert "4" not in first["messages"]["execution_cached"]["nodes"]
    assert set(second["messages"]["execution_cached"]["nodes"]) == set(nodes)


def test_style_is_loaded_once_for_several_photos(comfyui, graph, style):
    photos = [comfyui.put_photo(f"photo{i}.png", 40, 30, seed=i) for i in range(2)]
    comfyui.run(graph(photos[0].name, style))
    second = comfyui.run(graph(photos[1].name, style))
    assert second["messages"]["execution_cached"]["nodes"] == ["2"]


@pytest.mark.parametrize("name", ["no_such_style", "../../etc/passwd", "/etc/passwd", "../x.safetensors", ""])
def test_unknown_style_is_rejected_before_running(comfyui, graph, style, name):
    answer = comfyui.refused(graph(comfyui.put_photo("any.png", 20, 20).name, name))
    errors = answer["node_errors"]["2"]["errors"]
    assert len(errors) == 1
    assert repr(name) in errors[0]["details"] and style in errors[0]["details"]
    assert "Traceback" not in json.dumps(answer) and "traceback" not in errors[0]["extra_info"]


def test_interruption_stops_a_long_batch(comfyui, graph, style):
    path = comfyui.put_photo("long.png", 512, 512)
    prompt_id = comfyui.submit(graph(path.name, style, repeat=96))
    deadline = time.monotonic() + 60
    while not comfyui.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)  # loading takes a moment, stylizing 96 photos much longer
    began = time.monotonic()
    comfyui.request("/interrupt", {"prompt_id": prompt_id})
    entry = comfyui.wait(prompt_id, seconds=30)
    assert time.monotonic() - began < 30
    assert entry["messages"].get("execution_interrupted", {}).get("node_type") == "FastStylize", entry["status"]
    assert "execution_error" not in entry["messages"]

    (result,) = comfyui.images(comfyui.run(graph(path.name, style)), "4")
    assert result.size == (512, 512)


def test_progress_reaches_a_client(comfyui, graph, style):
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    nodes = graph(comfyui.put_photo("progress.png", 30, 30).name, style, repeat=4)
    client = websocket.create_connection(f"ws://127.0.0.1:{comfyui.port}/ws?clientId=test", timeout=120)
    try:
        prompt_id = comfyui.submit(nodes, client_id="test")
        values, total = [], None
        while True:
            message = client.recv()
            message = json.loads(message) if isinstance(message, str) else {"type": "binary"}
            data = message.get("data", {})
            if message["type"] == "progress" and data["node"] == "3":
                values.append(data["value"])
                total = data["max"]
            if message["type"] in ("execution_success", "execution_error") and data["prompt_id"] == prompt_id:
                break
    finally:
        client.close()
    assert message["type"] == "execution_success"
    assert values == sorted(values)
    assert values[-1] == total > 4
