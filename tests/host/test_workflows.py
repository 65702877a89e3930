"""The shipped workflows in ComfyUI: results of the API forms, and the files that the host serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workflows import EXAMPLES, NAMES, ROOT, api_form, ui_form

pytestmark = pytest.mark.host

LOSS_NETWORK = "small_distilled.safetensors"


@pytest.fixture(scope="module")
def examples(comfyui) -> None:
    comfyui.put_examples()


@pytest.fixture
def loss_network(comfyui) -> Iterator[None]:
    """A small, fast loss network for the recipe standard, in models/loss_networks during a test."""
    from small_networks import distilled

    path = distilled(comfyui.base / "models" / "loss_networks" / LOSS_NETWORK)
    yield
    path.unlink()


def _size(name: str) -> tuple[int, int]:
    with Image.open(EXAMPLES / name) as image:
        return image.size


def _pixels(image: Image.Image | Path) -> np.ndarray:
    if isinstance(image, Path):
        with Image.open(image) as opened:
            return _pixels(opened)
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def _node(graph: dict, kind: str) -> str:
    (node,) = [node for node, each in graph.items() if each["class_type"] == kind]
    return node


def _result(comfyui, graph: dict, kind: str = "SaveImage") -> Image.Image:
    (image,) = comfyui.images(comfyui.run(graph), _node(graph, kind))
    return image


def _read_by_host(comfyui, graph: dict) -> np.ndarray:
    """Return the pixels of the graph's photo as LoadImage reads it: not with Pillow in newer hosts."""
    save = {"class_type": "SaveImage", "inputs": {"images": ["load", 0], "filename_prefix": "read"}}
    return _pixels(_result(comfyui, {"load": graph[_node(graph, "LoadImage")], "save": save}))


@pytest.mark.parametrize("name", NAMES)
def test_nodes_belong_to_pack_or_host(comfyui, name):
    info = comfyui.get("/object_info")
    kinds = {node["type"] for node in ui_form(name)["nodes"]} - {"MarkdownNote"}
    assert kinds - set(info) == set()
    modules = {info[kind]["python_module"] for kind in kinds} - {info["LoadStyleModel"]["python_module"], "nodes"}
    assert [module for module in modules if not module.startswith("comfy_extras.")] == []


def test_stylize(comfyui, examples):
    result = _result(comfyui, api_form("stylize"))
    assert result.size == _size("astronaut.jpg")
    assert np.abs(_pixels(result) - _pixels(EXAMPLES / "astronaut.jpg")).mean() > 10


def test_stylize_then_upscale(comfyui, examples):
    width, height = _size("astronaut.jpg")
    assert _result(comfyui, api_form("stylize_then_upscale")).size == (4 * width, 4 * height)


def test_keep_colors_with_a_mask(comfyui, examples):
    graph = api_form("keep_colors_with_a_mask")
    result, photo = _pixels(_result(comfyui, graph)), _read_by_host(comfyui, graph)
    with Image.open(EXAMPLES / "astronaut_masked.webp") as opened:
        painted_over = np.asarray(opened.getchannel("A")) == 0
    difference = np.abs(result - photo)
    assert difference[painted_over].max() <= 1, "the head differs from the photo"
    assert difference[~painted_over].mean() > 5
    chroma = result - result.mean(axis=2, keepdims=True), photo - photo.mean(axis=2, keepdims=True)
    assert np.abs(chroma[0] - chroma[1]).mean() < 4


def test_blend_two_styles(comfyui, examples):
    graph = api_form("blend_two_styles")
    blend = graph[_node(graph, "BlendStyles")]["inputs"]
    results = []
    for amount in (0.0, blend["amount"], 1.0):
        blend["amount"] = amount
        results.append(_pixels(_result(comfyui, graph)))
    assert results[0].shape[:2] == _size("astronaut.jpg")[::-1]
    first, both, second = results
    apart = np.abs(first - second).mean()
    assert apart > 10
    assert np.abs(first - both).mean() < apart and np.abs(second - both).mean() < apart


def test_two_styles_in_regions(comfyui, examples):
    graph = api_form("two_styles_in_regions")
    result = _pixels(_result(comfyui, graph))
    stylize = graph[_node(graph, "FastStylize")]["inputs"]
    regions = graph[_node(graph, "StyleRegions")]["inputs"]
    alone = []
    for style in ("style_model_1", "style_model_2"):
        stylize["style_model"] = regions[style]
        alone.append(
            _pixels(_result(comfyui, {node: each for node, each in graph.items() if each["inputs"] is not regions}))
        )
    with Image.open(EXAMPLES / "astronaut_masked.webp") as opened:
        head = np.asarray(opened.getchannel("A")) == 0
    ys, xs = np.nonzero(head)
    y, x = int(ys.mean()), int(xs.mean())
    for place, style in ((np.s_[y - 8 : y + 8, x - 8 : x + 8], alone[0]), (np.s_[-64:, -64:], alone[1])):
        assert np.abs(result[place] - style[place]).max() <= 2


def test_upscale(comfyui, examples):
    graph, (width, height) = api_form("upscale"), _size("chelsea.jpg")
    entry = comfyui.run(graph)
    (ours,) = comfyui.images(entry, _node(graph, "SaveImage"))
    (hosts,) = comfyui.images(entry, _node(graph, "PreviewImage"))
    assert (ours.size, hosts.size) == ((4 * width, 4 * height), (2 * width, 2 * height))


def test_video_frames(comfyui, examples):
    graph = api_form("video_frames")
    entry = comfyui.run(graph)
    (video,) = entry["outputs"][_node(graph, "SaveVideo")]["images"]
    path = comfyui.base / "output" / video["subfolder"] / video["filename"]
    assert path.suffix == ".mp4" and path.stat().st_size > 10_000
    # The frames of the film: as many as the clip has, of its size, and different.
    made = {key: each for key, each in graph.items() if each["class_type"] not in ("SaveVideo", "CreateVideo")}
    made["frames"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [_node(graph, "FastStylize"), 0], "filename_prefix": "frames"},
    }
    frames = comfyui.images(comfyui.run(made), "frames")
    assert len(frames) == 24 and {frame.size for frame in frames} == {(320, 240)}
    assert np.abs(_pixels(frames[0]) - _pixels(frames[-1])).mean() > 2


def test_any_painting_without_training(comfyui, examples, loss_network):
    graph = api_form("any_painting_without_training")
    graph[_node(graph, "OptimizeStyle")]["inputs"] |= {"iterations": 3, "style_size": 128}  # enough to see a change
    result = _result(comfyui, graph)
    assert result.size == _size("coffee.jpg")
    assert np.abs(_pixels(result) - _pixels(EXAMPLES / "coffee.jpg")).max() > 5


def test_train_a_style(comfyui, examples, loss_network):
    graph = api_form("train_a_style")
    train = graph[_node(graph, "TrainStyle")]["inputs"]
    (comfyui.base / "input" / train["content"]).mkdir(exist_ok=True)
    for index in range(4):
        comfyui.put_photo(f"{train['content']}/{index}.png", 96, 80, seed=index)
    train |= {"steps": 3, "size": 64, "batch": 1, "style_size": 96}  # seconds instead of minutes
    entry = comfyui.run(graph)
    (result,) = comfyui.images(entry, _node(graph, "SaveImage"))
    (losses,) = comfyui.images(entry, _node(graph, "LossGraphNode"))
    assert result.size == _size("astronaut.jpg") and losses.width > 400
    assert f"{train['name']}.safetensors" in comfyui.options(), "the new style is not in the list"


@pytest.mark.parametrize("name", NAMES)
def test_template_and_its_picture_are_served(comfyui, name):
    listed = comfyui.get("/workflow_templates")
    (pack,) = [pack for pack, templates in listed.items() if name in templates]
    assert sorted(listed[pack]) == NAMES
    assert comfyui.get(f"/api/workflow_templates/{pack}/{name}.json") == ui_form(name)
    status, picture = comfyui.request(f"/api/workflow_templates/{pack}/{name}.jpg")
    assert status == 200 and picture[:3] == b"\xff\xd8\xff"


def test_help_pages_are_served(comfyui):
    ours = comfyui.get("/object_info/LoadStyleModel")["LoadStyleModel"]["python_module"].partition(".")[2]
    pages = list((ROOT / "web" / "docs").iterdir())
    for page in pages:
        status, content = comfyui.request(f"/extensions/{ours}/docs/{page.name}")
        assert status == 200 and content == page.read_bytes()
    assert comfyui.get("/extensions").count(f"/extensions/{ours}/") == 0, (
        "a script of the pack would run in the frontend"
    )


def test_translations_are_served(comfyui):
    served = comfyui.get("/i18n")
    for folder in (ROOT / "locales").iterdir():
        ours = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: served[folder.name]["nodeDefs"][node] for node in ours} == ours
