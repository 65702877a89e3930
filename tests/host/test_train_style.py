"""TrainStyle through ComfyUI's HTTP API: training, interruption, resuming, caching, and memory."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.host
STEPS = 20


@pytest.fixture
def training(comfyui, deep_loss_weights):
    """Build the example's graph for eight tiny photos.

    TrainStyle (2) passes its style to FastStylize (4), and its losses to the host's plot (6).
    """
    comfyui.loss_networks.mkdir(exist_ok=True)
    (comfyui.loss_networks / "vgg16.safetensors").write_bytes(deep_loss_weights.read_bytes())
    for n in range(8):
        comfyui.put_photo(f"eight/{n}.png", 90 + n, 80, seed=n)
    painting, photo = comfyui.put_photo("painting.png", 100, 90, seed=20), comfyui.put_photo("photo.png", 61, 47)

    def graph(name: str, **inputs) -> dict:
        nodes = json.loads(Path(__file__).with_name("train_style.json").read_text(encoding="utf-8"))
        nodes["1"]["inputs"]["image"], nodes["3"]["inputs"]["image"] = painting.name, photo.name
        settings = {"name": name, "content": "eight", "steps": STEPS, "size": 64, "batch": 6, "style_size": 80}
        nodes["2"]["inputs"] |= {**settings, "loss_network": "vgg16.safetensors", **inputs}
        nodes["7"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 2], "filename_prefix": "preview"}}
        return nodes

    return graph


@pytest.fixture
def watch(comfyui):
    """Run a graph as a browser does, and return its history entry and the steps, previews and texts of node 2."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")

    def watch(graph: dict, on_step=lambda step, prompt_id: None) -> tuple[dict, list[int], list[bytes], list[str]]:
        client = websocket.create_connection(f"ws://127.0.0.1:{comfyui.port}/ws?clientId=train", timeout=240)
        steps, previews, texts = [], [], []
        try:
            prompt_id = comfyui.submit(graph, client_id="train")
            while True:
                message = client.recv()
                if isinstance(message, bytes):
                    kind = int.from_bytes(message[:4], "big")
                    if kind in (1, 4):
                        previews.append(message)
                    elif kind == 3:
                        texts.append(message[9:].decode())  # after the length and the node's id
                    continue
                message = json.loads(message)
                data = message.get("data", {})
                if message["type"] == "progress" and data["node"] == "2":
                    steps.append(data["value"])
                    assert data["max"] == STEPS
                    on_step(data["value"], prompt_id)
                ended = message["type"] in ("execution_success", "execution_error", "execution_interrupted")
                if ended and data["prompt_id"] == prompt_id:
                    return comfyui.wait(prompt_id), steps, previews, texts
        finally:
            client.close()

    return watch


@pytest.fixture
def free(comfyui):
    """Make the host free all it can. Return whether ``forgotten`` confirms it within five calls.

    The host misses a call while it cleans up after the last prompt.
    """

    def free(forgotten=lambda: True) -> bool:
        for _ in range(5):
            time.sleep(2)
            comfyui.request("/free", {"unload_models": True, "free_memory": True})
            time.sleep(2)
            if forgotten():
                return True
        return False

    return free


@pytest.fixture
def weights(comfyui):
    return lambda name: load_file(comfyui.styles / f"{name}.safetensors")


def test_training_in_graph(comfyui, training, watch):
    graph = training("in a graph")
    entry, steps, previews, texts = watch(graph)
    assert entry["status"]["status_str"] == "success", entry["messages"].get("execution_error")
    assert steps == list(range(1, STEPS + 1))
    assert len(previews) == STEPS and len(set(previews)) > 1 and all(b"\xff\xd8\xff" in preview for preview in previews)
    assert texts[-1].startswith(f"step {STEPS} of {STEPS}, 0 s left, objective ")
    (stylized,), (preview,) = comfyui.images(entry, "5"), comfyui.images(entry, "7")
    assert (stylized.size, preview.size) == ((61, 47), (90, 80))
    (plot,), (shown,) = comfyui.images(entry, "6"), comfyui.images(entry, "2")
    assert plot.size == (840, 520) and shown.size == (90, 80)

    assert "in a graph.safetensors" in comfyui.options()
    assert not [name for name in comfyui.options() if "training" in name]
    again, steps, _, _ = watch(graph)
    assert set(again["messages"]["execution_cached"]["nodes"]) == set(graph) and steps == []
    graph["3"]["inputs"]["image"] = "painting.png"  # changes only what follows the training
    again, steps, _, _ = watch(graph)
    assert "2" in again["messages"]["execution_cached"]["nodes"] and steps == []


def test_interrupted_run_resumes_with_same_result(comfyui, training, watch, weights, core):
    watch(training("whole"))

    def interrupt(step: int, prompt_id: str) -> None:
        if step == 10:
            comfyui.request("/interrupt", {"prompt_id": prompt_id})

    entry, _, _, _ = watch(training("halved"), interrupt)
    assert entry["messages"].get("execution_interrupted", {}).get("node_type") == "TrainStyle", entry["status"]
    checkpoint = comfyui.styles / "halved.training.safetensors"
    done = core.checkpoints.own_format.load_tensors(checkpoint)[1]["step"]
    assert 10 <= done < STEPS and not (comfyui.styles / "halved.safetensors").exists()
    assert not [name for name in comfyui.options() if "halved" in name]

    entry, steps, _, _ = watch(training("halved"))
    assert entry["status"]["status_str"] == "success" and steps == list(range(done + 1, STEPS + 1))
    whole, halved = weights("whole"), weights("halved")
    assert whole.keys() == halved.keys() and all((whole[key] == halved[key]).all() for key in whole)
    assert not checkpoint.exists()


def test_finished_run_is_not_repeated_after_host_forgets_it(comfyui, training, watch, free):
    watch(training("finished"))
    before = (comfyui.styles / "finished.safetensors").stat().st_mtime_ns

    def forgotten() -> bool:
        entry, steps, _, _ = watch(training("finished"))
        assert entry["status"]["status_str"] == "success" and steps == []
        return "2" not in entry["messages"]["execution_cached"]["nodes"]

    assert free(forgotten), "the host kept the result of the training run"
    assert (comfyui.styles / "finished.safetensors").stat().st_mtime_ns == before


def test_photos_from_images_are_one_run(comfyui, training, watch):
    graph = training("from images", content="(none)", photos=["8", 0])
    graph["8"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["3", 0]}}
    entry, steps, _, _ = watch(graph)
    assert entry["status"]["status_str"] == "success", entry["messages"].get("execution_error")
    assert steps == list(range(1, STEPS + 1))


def resident(process) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_is_released(comfyui, training, watch, free):
    watch(training("first"))
    free()
    before, peak = resident(comfyui.process), []
    watch(training("large", size=192, batch=4, steps=STEPS), lambda step, _: peak.append(resident(comfyui.process)))
    assert max(peak) > before + 150, "the training run was too small to measure"
    assert free(lambda: resident(comfyui.process) < before + 0.3 * (max(peak) - before)), (
        f"{before:.0f} MiB before, {max(peak):.0f} at most, {resident(comfyui.process):.0f} after"
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"name": "a/b"}, "the style name 'a/b' contains '/'; choose a name such as my_style"),
        ({"name": "../outside"}, "the style name '../outside' contains '/'; choose a name such as my_style"),
        ({"name": ""}, "the style name is ''; expected 1 to 100 characters, such as my_style"),
        ({"content": "../models"}, "input folder has no folder '../models'; choose one of: "),
        ({"content": "(none)"}, "no photo folder is chosen; choose one of: "),
        ({"loss_network": "../../x.pth"}, "no loss network named '../../x.pth'; choose one of: "),
        ({"start_from": "gone"}, "no style named 'gone'; choose one of: "),
    ],
)
def test_missing_choices_are_rejected_before_running(comfyui, training, inputs, message):
    """The host repeats the node's text for every input that the node checks."""
    nodes = training("never")
    nodes["2"]["inputs"] |= inputs
    errors = comfyui.refused(nodes)["node_errors"]["2"]["errors"]
    assert {error["type"] for error in errors} == {"custom_validation_failed"}
    assert all(message in error["details"] for error in errors)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"preset": "paper", "loss_network": "auto"}, "put its weights there as vgg16.safetensors"),
        ({"width": 32}, "predicted is 16 channels wide, not 32"),
        ({"size": 66}, "multiple of 4"),
    ],
)
def test_bad_input_errors_are_one_line(comfyui, training, inputs, message):
    nodes = training("never", **inputs)
    if inputs.get("loss_network") == "auto":
        (comfyui.loss_networks / "vgg16.safetensors").unlink()
    error = comfyui.wait(comfyui.submit(nodes))["messages"]["execution_error"]
    assert message in error["exception_message"] and len(error["exception_message"].strip().splitlines()) == 1
    assert not list(comfyui.styles.glob("never*"))


def test_out_of_range_number_is_rejected(comfyui, training):
    (error,) = comfyui.refused(training("never", steps=-1))["node_errors"]["2"]["errors"]
    assert error["type"] == "value_smaller_than_min"
