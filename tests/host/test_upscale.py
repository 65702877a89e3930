"""Upscaling in ComfyUI: the pack's node, the host's node with the pack's model, and the shipped example."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = json.loads((ROOT / "examples" / "api" / "stylize_then_upscale.json").read_text(encoding="utf-8"))
BUNDLED = [
    entry["id"]
    for entry in json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))["entries"]
    if entry["task"] == "upscale" and "replaced_by" not in entry
]


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def _graph(photo: str, model: str, **inputs) -> dict:
    """Connect LoadImage (1), PerceptualUpscale (2) and SaveImage (3). The mask is converted (4) and saved (5)."""
    inputs = {"image": ["1", 0], "model": model, "fidelity": 0.0, "match_colors": False, **inputs}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": photo}},
        "2": {"class_type": "PerceptualUpscale", "inputs": inputs},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "large"}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["2", 1]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "mask"}},
    }


def _by_core(core, comfyui, model: str, photo, **options) -> np.ndarray:
    pixels = core.images.reading.read_image(photo).pixels
    result = core.load_upscaler(comfyui.upscalers / model).upscale(pixels, **options)
    return np.floor(result[0].movedim(0, -1).numpy() * 255)  # SaveImage truncates values


def test_object_info_lists_the_nodes(comfyui):
    info = comfyui.get("/object_info")
    ours, load = info["PerceptualUpscale"], info["LoadPerceptualUpscaler"]
    assert (ours["display_name"], ours["output"]) == ("Perceptual Upscale", ["IMAGE", "MASK"])
    assert (load["display_name"], load["output"]) == ("Load Perceptual Upscaler", ["UPSCALE_MODEL"])
    assert set(BUNDLED) <= set(comfyui.options("PerceptualUpscale", "model"))
    for node in (ours, load):
        assert node["description"] and all(node["output_tooltips"])
        inputs = node["input"]["required"] | node["input"].get("optional", {})
        assert all(config["tooltip"] for _, config in inputs.values())
        fidelity = node["input"]["optional"]["fidelity"][1]
        assert (fidelity["min"], fidelity["max"], fidelity["display"]) == (0.0, 1.0, "slider")


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(37, 29), (1, 1), (64, 3)])
def test_result_is_exact_multiple_of_photo_size(comfyui, core, put_upscaler, size, scale):
    model = put_upscaler(f"x{scale}.safetensors", scale)
    photo = comfyui.put_photo("{}x{}.png".format(*size), *size)
    entry = comfyui.run(_graph(photo.name, model))
    (result,), (mask,) = comfyui.images(entry, "3"), comfyui.images(entry, "5")
    assert result.size == mask.size == (size[0] * scale, size[1] * scale) and result.mode == "RGB"
    assert np.abs(_pixels(result) - _by_core(core, comfyui, model, photo)).max() <= 1
    assert not _pixels(mask).any()


def test_fidelity_and_match_colors_match_core(comfyui, core, put_upscaler):
    put_upscaler("smooth.safetensors", seed=1)
    model = put_upscaler("sharp.safetensors", partner="smooth")
    photo = comfyui.put_photo("blend.png", 40, 30)
    for options in ({"fidelity": 0.5}, {"fidelity": 1.0}, {"match_colors": True}):
        (result,) = comfyui.images(comfyui.run(_graph(photo.name, model, **options)), "3")
        assert np.abs(_pixels(result) - _by_core(core, comfyui, model, photo, **options)).max() <= 1


def test_alpha_and_mask_are_enlarged(comfyui, core, put_upscaler):
    model, photo = put_upscaler("alpha.safetensors", 2), comfyui.put_photo("alpha-up.png", 41, 30, alpha=True)
    alpha = core.images.bicubic.enlarge(core.images.reading.read_image(photo).alpha, 2).clamp(0, 1)[0, 0].numpy() * 255

    by_mask = comfyui.run(_graph(photo.name, model, mask=["1", 1]))
    (result,), (mask,) = comfyui.images(by_mask, "3"), comfyui.images(by_mask, "5")
    assert (result.size, result.mode, mask.size) == ((82, 60), "RGB", (82, 60))
    assert np.abs(255 - _pixels(mask)[..., 0] - alpha).max() <= 1.5

    nodes = _graph(photo.name, model, image=["6", 0])
    nodes["6"] = {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["1", 0], "alpha": ["1", 1]}}
    joined = comfyui.run(nodes)
    (with_alpha,), (mask,) = comfyui.images(joined, "3"), comfyui.images(joined, "5")
    assert (with_alpha.size, with_alpha.mode) == ((82, 60), "RGBA")
    assert np.array_equal(_pixels(with_alpha)[..., :3], _pixels(result))
    assert np.abs(_pixels(with_alpha)[..., 3] - alpha).max() <= 1.5
    assert np.abs(255 - _pixels(mask)[..., 0] - alpha).max() <= 1.5


@pytest.mark.parametrize("size", [(37, 29), (700, 530)], ids=["one tile", "tiles"])
def test_host_node_works_with_our_model(comfyui, core, put_upscaler, size):
    put_upscaler("smooth.safetensors", 2, seed=1)
    model = put_upscaler("sharp.safetensors", 2, partner="smooth")
    photo = comfyui.put_photo("hosts.png", *size)
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": photo.name}},
        "2": {"class_type": "LoadPerceptualUpscaler", "inputs": {"model": model, "fidelity": 0.25}},
        "3": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "hosts"}},
    }
    (result,) = comfyui.images(comfyui.run(nodes), "4")
    assert result.size == (2 * size[0], 2 * size[1])
    assert np.abs(_pixels(result) - _by_core(core, comfyui, model, photo, fidelity=0.25)).max() <= 1

    nodes["1"]["inputs"]["image"] = comfyui.put_photo("hosts2.png", 30, 20).name  # the same model again
    entry = comfyui.run(nodes)
    assert entry["messages"]["execution_cached"]["nodes"] == ["2"]
    assert comfyui.images(entry, "4")[0].size == (60, 40)


@pytest.mark.parametrize("name", ["no_such_model", "../../etc/passwd", "/etc/passwd", "x.safetensors", ""])
@pytest.mark.parametrize("node", ["PerceptualUpscale", "LoadPerceptualUpscaler"])
def test_unknown_model_is_rejected_before_running(comfyui, node, name):
    nodes = _graph(comfyui.put_photo("any.png", 20, 20).name, name)
    if node == "LoadPerceptualUpscaler":
        nodes["2"] = {"class_type": node, "inputs": {"model": name, "fidelity": 0.0}}
        nodes["3"] = {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]}}
        nodes["5"] = {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "any"}}
        del nodes["4"]
    errors = comfyui.refused(nodes)["node_errors"]["2"]["errors"]
    assert len(errors) == 1 and repr(name) in errors[0]["details"]


def test_bad_fidelity_is_rejected(comfyui, put_upscaler):
    model, photo = put_upscaler("alone.safetensors"), comfyui.put_photo("any.png", 20, 20)
    (error,) = comfyui.refused(_graph(photo.name, model, fidelity=1.5))["node_errors"]["2"]["errors"]
    assert error["type"] == "value_bigger_than_max"
    model = put_upscaler("orphan.safetensors", partner="elsewhere")
    entry = comfyui.wait(comfyui.submit(_graph(photo.name, model, fidelity=0.5)))
    error = entry["messages"]["execution_error"]
    assert "no partner" in error["exception_message"] and len(error["exception_message"].strip().splitlines()) == 1


def test_replaced_file_is_reloaded(comfyui, put_upscaler):
    model, photo = put_upscaler("changing.safetensors"), comfyui.put_photo("any.png", 20, 20)
    (first,) = comfyui.images(comfyui.run(_graph(photo.name, model)), "3")
    assert set(comfyui.run(_graph(photo.name, model))["messages"]["execution_cached"]["nodes"]) == set("12345")
    put_upscaler("changing.safetensors", seed=1)
    (second,) = comfyui.images(comfyui.run(_graph(photo.name, model)), "3")
    assert np.abs(_pixels(first) - _pixels(second)).max() > 1


def test_interruption_stops_upscaling(comfyui, put_upscaler):
    model = put_upscaler("slow.safetensors", 2, width=64)
    photo = comfyui.put_photo("slow.png", 1024, 1024)
    nodes = _graph(photo.name, model, image=["6", 0])
    nodes["6"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 8}}
    prompt_id = comfyui.submit(nodes)
    deadline = time.monotonic() + 60
    while not comfyui.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    comfyui.request("/interrupt", {"prompt_id": prompt_id})
    entry = comfyui.wait(prompt_id, seconds=30)
    assert entry["messages"].get("execution_interrupted", {}).get("node_type") == "PerceptualUpscale", entry["status"]
    assert "execution_error" not in entry["messages"]
    small = comfyui.put_photo("small.png", 16, 16)
    assert comfyui.images(comfyui.run(_graph(small.name, model)), "3")[0].size == (32, 32)


@pytest.mark.parametrize("model", ["perceptual_x4", "untrained.safetensors"])
def test_shipped_graph_stylizes_and_upscales(comfyui, put_upscaler, model):
    if model.endswith(".safetensors"):
        put_upscaler(model)
    elif model not in BUNDLED:
        pytest.skip(f"{model} is not bundled yet")
    nodes = json.loads(json.dumps(EXAMPLE))
    assert nodes["4"]["inputs"]["model"] == "perceptual_x4"
    nodes["1"]["inputs"]["image"] = comfyui.put_photo("small.png", 96, 64).name
    nodes["4"]["inputs"]["model"] = model
    (result,) = comfyui.images(comfyui.run(nodes), "5")
    assert (result.size, result.mode) == ((4 * 96, 4 * 64), "RGB")
