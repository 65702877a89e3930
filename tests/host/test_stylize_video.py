"""StylizeVideo in ComfyUI: from Load Video to Save Video, memory, progress and interruption."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("av", reason="PyAV is not installed")

from clips import FRAMES, HEIGHT, WIDTH, contents, write_clip  # noqa: E402

pytestmark = pytest.mark.host

FILM_SECONDS = int(os.environ.get("FILM_SECONDS", "30"))
MEGABYTES = 300


def _graph(clip: str, style: str, **inputs) -> dict:
    """Connect LoadVideo (1), LoadStyleModel (2), StylizeVideo (3) and SaveVideo (4)."""
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": clip}},
        "2": {"class_type": "LoadStyleModel", "inputs": {"style": style}},
        "3": {"class_type": "StylizeVideo", "inputs": {"video": ["1", 0], "style_model": ["2", 0], **inputs}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "film", "format": "auto", "codec": "auto"},
        },
    }


def _saved(comfyui, entry: dict) -> Path:
    (video,) = entry["outputs"]["4"]["images"]
    return comfyui.base / "output" / video["subfolder"] / video["filename"]


def _temporary(comfyui) -> set[str]:
    """Return the names of stylized videos in the host's temporary folder, those being written included."""
    return {path.name for path in (comfyui.base / "temp").iterdir() if path.suffix == ".mp4"}


@contextmanager
def _watched(process: psutil.Process) -> Iterator[list[float]]:
    """Append the memory of a process in MB to a list, ten times a second."""
    looks, stop = [process.memory_info().rss / 2**20], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            looks.append(process.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield looks
    finally:
        stop.set()
        watcher.join()


@pytest.fixture
def clip(comfyui) -> Path:
    return write_clip(comfyui.base / "input" / "clip.mp4")


def test_object_info_lists_the_node(comfyui):
    info = comfyui.get("/object_info/StylizeVideo")["StylizeVideo"]
    assert (info["display_name"], info["output"]) == ("Stylize Video", ["VIDEO"])
    assert list(info["input"]["required"]) == ["video", "style_model"]
    inputs = info["input"]["required"] | info["input"]["optional"]
    assert info["description"] and all(config["tooltip"] for _, config in inputs.values())
    assert info["input"]["optional"]["temporal"][1]["default"] == 1.0


def test_video_from_file_to_file(comfyui, put_style, clip):
    entry = comfyui.run(_graph(clip.name, put_style("video.safetensors").name))
    before, after = contents(clip), contents(_saved(comfyui, entry))
    assert after.pixels.shape == (FRAMES, HEIGHT, WIDTH, 3) and after.times == before.times
    assert after.packets == before.packets
    assert np.abs(after.pixels.astype(int) - before.pixels).mean() > 5, "nothing was stylized"


def test_rotated_video(comfyui, put_style):
    clip = write_clip(comfyui.base / "input" / "rotated.mp4", rotation=90)
    after = contents(_saved(comfyui, comfyui.run(_graph(clip.name, put_style("video.safetensors").name))))
    assert (after.stream["size"], after.stream["rotation"]) == ((HEIGHT, WIDTH), 0)


def test_video_of_images(comfyui, put_style):
    nodes = _graph("", put_style("video.safetensors").name)
    nodes["1"] = {"class_type": "CreateVideo", "inputs": {"images": ["5", 0], "fps": 8.0}}
    nodes["5"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 5, "color": 200}}
    before = _temporary(comfyui)
    after = contents(_saved(comfyui, comfyui.run(nodes)))
    assert np.allclose(after.times, np.arange(5) / 8) and after.pixels.shape == (5, 48, 64, 3)
    assert len(_temporary(comfyui) - before) == 1, "more than the result was left"


def test_damaged_video_gives_one_line(comfyui, put_style):
    (comfyui.base / "input" / "bad.mp4").write_bytes(b"no video" * 100)
    entry = comfyui.wait(comfyui.submit(_graph("bad.mp4", put_style("video.safetensors").name)))
    text = entry["messages"]["execution_error"]["exception_message"].strip()
    assert "cannot read the video" in text and len(text.splitlines()) == 1


def test_progress_and_previews_reach_a_client(comfyui, put_style, clip):
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    client = websocket.create_connection(f"ws://127.0.0.1:{comfyui.port}/ws?clientId=video", timeout=120)
    values, previews, kind = [], 0, ""
    try:
        nodes = _graph(clip.name, put_style("video.safetensors", 3).name, crf=20.0)
        prompt_id = comfyui.submit(nodes, client_id="video")
        while kind not in ("execution_success", "execution_error"):
            message = client.recv()
            if isinstance(message, bytes):
                previews += 1
                continue
            message = json.loads(message)
            kind, data = message["type"], message.get("data", {})
            if kind == "progress" and data["node"] == "3" and data["prompt_id"] == prompt_id:
                values.append(data["value"])
    finally:
        client.close()
    assert kind == "execution_success"
    assert values == sorted(values) and values[-1] == 1000 and previews


@pytest.mark.slow
def test_film_needs_little_memory_and_interrupt_leaves_nothing(comfyui, put_style):
    """FILM_SECONDS sets the length of the film."""
    times = [2560 * index for index in range(5 * FILM_SECONDS)]  # five frames a second
    film = write_clip(comfyui.base / "input" / "film.mp4", times=times, size=(360, 640))
    style, process = put_style("film.safetensors").name, psutil.Process(comfyui.process.pid)
    began = time.monotonic()
    with _watched(process) as looks:
        entry = comfyui.wait(comfyui.submit(_graph(film.name, style)), seconds=3600)
    assert entry["status"]["status_str"] == "success", entry["messages"]
    seconds = time.monotonic() - began
    print(f"\n{len(times)} frames in {seconds:.1f} s; memory {looks[0]:.0f} MB, at most {max(looks):.0f} MB")
    before, after = contents(film, decode=False), contents(_saved(comfyui, entry), decode=False)
    assert after.times == before.times and len(after.times) == len(times) and after.packets == before.packets
    assert max(looks) - looks[0] < MEGABYTES

    files = _temporary(comfyui)
    saved = sorted((comfyui.base / "output").rglob("*"))
    prompt_id = comfyui.submit(_graph(film.name, style, strength=0.9))
    time.sleep(seconds / 2)
    began = time.monotonic()
    comfyui.request("/interrupt", {"prompt_id": prompt_id})
    entry = comfyui.wait(prompt_id, seconds=60)
    print(f"interrupted after {time.monotonic() - began:.2f} s")
    assert entry["messages"].get("execution_interrupted", {}).get("node_type") == "StylizeVideo", entry["status"]
    assert "execution_error" not in entry["messages"]
    assert _temporary(comfyui) == files and sorted((comfyui.base / "output").rglob("*")) == saved
