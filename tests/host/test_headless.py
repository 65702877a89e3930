"""examples/headless.py with a real host: results, and errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.host

SECONDS = 300


@pytest.fixture(scope="session")
def python() -> str:
    """An interpreter with the packages that the script needs."""
    for found in (sys.executable, os.environ.get("COMFYUI_PYTHON")):
        if found and not subprocess.run([found, "-c", "import requests, websocket"], capture_output=True).returncode:
            return found
    pytest.skip("requests and websocket-client are not installed")


@pytest.fixture
def start(python, comfyui, root):
    """Start the script as a process that uses the host."""

    def start(*arguments) -> subprocess.Popen:
        command = [python, root / "examples" / "headless.py", "--host", f"127.0.0.1:{comfyui.port}", *arguments]
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )

    return start


@pytest.fixture
def run(start):
    """Run the script, and return its status and the lines of stdout and stderr."""

    def run(*arguments) -> tuple[int, list[str], list[str]]:
        process = start(*arguments)
        out, err = process.communicate(timeout=SECONDS)
        assert "Traceback" not in err
        return process.returncode, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def refused(run):
    """Run the script, which must exit with status 2 and one line on stderr, and return that line."""

    def refused(*arguments) -> str:
        status, out, err = run(*arguments)
        assert (status, out, len(err)) == (2, [], 1), err
        assert err[0].startswith("headless.py: ")
        return err[0]

    return refused


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (30, 41, 3), np.uint8)
    path = tmp_path / "my photo.png"
    Image.fromarray(pixels).save(path)
    return path


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def test_photo_is_stylized(run, core, style, photo, tmp_path):
    out = tmp_path / "new" / "out.png"
    assert run(photo, "-o", out) == (0, [str(out)], [])
    assert run(photo, "-o", out)[0] == 0, "failed when the host had the result in its cache"
    expected = core.load_style(style).stylize(core.images.reading.read_image(photo).pixels)[0].movedim(0, -1).numpy()
    assert np.abs(pixels(out) - np.floor(expected * 255)).max() <= 1
    assert os.listdir(out.parent) == ["out.png"]


def test_other_graph_and_values_write_into_folder(run, photo, root, tmp_path):
    graph = root / "examples" / "api" / "stylize_then_upscale.json"
    status, out, err = run(photo, "-o", tmp_path / "out", "--graph", graph, "--set", "4.model=perceptual_x2")
    assert (status, err) == (0, [])
    (name,) = os.listdir(tmp_path / "out")
    assert out == [str(tmp_path / "out" / name)] and pixels(out[0]).shape == (60, 82, 3)


def test_batch_becomes_several_files(run, photo, graph, style, tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(graph("set below", style, repeat=3)))
    status, out, _ = run(photo, "-o", tmp_path / "out.png", "--graph", tmp_path / "graph.json")
    assert status == 0
    assert out == [str(tmp_path / name) for name in ("out.png", "out_2.png", "out_3.png")]
    assert all(pixels(path).shape == (30, 41, 3) for path in out)


def test_host_errors_name_node_and_input(refused, run, photo, tmp_path):
    line = refused(photo, "-o", tmp_path / "o.png", "--set", "2.style=nothing")
    assert "node 2 (Load Fast Style Model), input style: " in line and "there is no style named 'nothing'" in line
    line = refused(photo, "-o", tmp_path / "o.png", "--set", '3.style_model=["1", 0]')
    assert "node 3 (Fast Stylize), input style_model: Return type mismatch" in line
    status, _, lines = run(photo, "-o", tmp_path / "o.png", "--set", "2.style=nothing", "--set", "1.image=no.png")
    assert status == 2 and len(lines) == 2
    assert all(any(f"node {node}" in line for line in lines) for node in (1, 2))
    assert not (tmp_path / "o.png").exists()


def test_runtime_error_names_node(refused, photo, put_style, tmp_path):
    put_style("hollow.safetensors").write_bytes(b"")
    line = refused(photo, "-o", tmp_path / "o.png", "--set", "2.style=hollow.safetensors")
    assert "node 2 (LoadStyleModel): CheckpointError: " in line and "hollow.safetensors" in line


def test_usage_errors_are_one_line(refused, photo, python, root, tmp_path):
    out = ["-o", tmp_path / "o.png"]
    assert "nothing.png does not exist" in refused("nothing.png", *out)
    assert "2 photos, but the graph has 1 Load Image" in refused(photo, photo, *out)
    workflow = root / "example_workflows" / "stylize_then_upscale.json"
    assert "File > Export (API)" in refused(photo, *out, "--graph", workflow)
    assert "cannot read" in refused(photo, *out, "--graph", photo)
    assert "expected NODE.INPUT=VALUE" in refused(photo, *out, "--set", "style=wave")
    assert "cannot reach ComfyUI at http://127.0.0.1:9 " in refused(photo, *out, "--host", "127.0.0.1:9")
    assert "--output" in refused(photo)
    script = (
        f"import runpy, sys; sys.modules['websocket'] = None; runpy.run_path({str(root / 'examples/headless.py')!r})"
    )
    process = subprocess.run([python, "-c", script], capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.strip().endswith("pip install requests websocket-client")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_interrupts_host(start, comfyui, graph, style, tmp_path):
    path = comfyui.put_photo("headless-long.png", 512, 512)
    (tmp_path / "graph.json").write_text(json.dumps(graph(path.name, style, repeat=128)))
    process = start("-o", tmp_path / "out.png", "--graph", tmp_path / "graph.json")
    deadline = time.monotonic() + 60
    while not comfyui.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "cancelled\n")
    deadline = time.monotonic() + 30
    while comfyui.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert comfyui.get("/queue") == {"queue_running": [], "queue_pending": []}
    assert not list(tmp_path.glob("out*"))
