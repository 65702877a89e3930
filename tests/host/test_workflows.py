"""The shipped workflows in ComfyUI: results of the API forms, and the files that the host serves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from workflows import HOSTS_PHOTO, NAMES, ROOT, api_form, ui_form

pytestmark = pytest.mark.host

LOSS_NETWORK = "narrow_vgg16.safetensors"
SMALL = (128, 128)


@pytest.fixture
def photo(comfyui) -> Image.Image:
    """The photo that comes with the host."""
    with Image.open(comfyui.base / "input" / HOSTS_PHOTO) as image:
        return image.convert("RGB")


@pytest.fixture
def loss_network(comfyui) -> Iterator[None]:
    """A small, fast loss network for the recipe standard, in models/loss_networks during a test."""
    from small_networks import small_vgg16

    path = small_vgg16(comfyui.base / "models" / "loss_networks" / LOSS_NETWORK)
    yield
    path.unlink()


def _with_small_photo(comfyui, graph: dict) -> dict:
    """Open a smaller copy of the photo, where a graph would take minutes on a CPU."""
    with Image.open(comfyui.base / "input" / HOSTS_PHOTO) as image:
        image.resize(SMALL).save(comfyui.base / "input" / "small.png")
    graph[_node(graph, "LoadImage")]["inputs"]["image"] = "small.png"
    return graph


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def _node(graph: dict, kind: str) -> str:
    (node,) = [node for node, each in graph.items() if each["class_type"] == kind]
    return node


def _result(comfyui, graph: dict, kind: str = "SaveImage") -> Image.Image:
    (image,) = comfyui.images(comfyui.run(graph), _node(graph, kind))
    return image


@pytest.mark.parametrize("name", NAMES)
def test_nodes_belong_to_pack_or_host(comfyui, name):
    info = comfyui.get("/object_info")
    kinds = {node["type"] for node in ui_form(name)["nodes"]} - {"MarkdownNote"}
    assert kinds - set(info) == set()
    modules = {info[kind]["python_module"] for kind in kinds} - {info["LoadStyleModel"]["python_module"], "nodes"}
    assert [module for module in modules if not module.startswith("comfy_extras.")] == []


def test_stylize(comfyui, photo):
    result = _result(comfyui, api_form("stylize"))
    assert result.size == photo.size
    assert np.abs(_pixels(result) - _pixels(photo)).mean() > 10


def test_stylize_then_upscale(comfyui):
    graph = _with_small_photo(comfyui, api_form("stylize_then_upscale"))
    assert _result(comfyui, graph).size == (4 * SMALL[0], 4 * SMALL[1])


def _box(graph: dict) -> tuple[slice, slice]:
    """Return the area that the graph's mask adds or cuts out."""
    combine = graph[_node(graph, "MaskComposite")]["inputs"]
    area = graph[combine["source"][0]]["inputs"]
    x, y = combine["x"], combine["y"]
    return np.s_[y : y + area["height"], x : x + area["width"]]


def test_keep_colors_with_a_mask(comfyui, photo):
    graph = api_form("keep_colors_with_a_mask")
    result, original = _pixels(_result(comfyui, graph)), _pixels(photo)
    kept = np.zeros(original.shape[:2], dtype=bool)
    kept[_box(graph)] = True
    difference = np.abs(result - original)
    assert difference[kept].max() <= 1, "the box differs from the photo"
    assert difference[~kept].mean() > 5
    chroma = result - result.mean(axis=2, keepdims=True), original - original.mean(axis=2, keepdims=True)
    assert np.abs(chroma[0] - chroma[1]).mean() < 4


def test_blend_two_styles(comfyui, photo):
    graph = api_form("blend_two_styles")
    blend = graph[_node(graph, "BlendStyles")]["inputs"]
    results = []
    for amount in (0.0, blend["amount"], 1.0):
        blend["amount"] = amount
        results.append(_pixels(_result(comfyui, graph)))
    assert results[0].shape[:2] == photo.size[::-1]
    first, both, second = results
    apart = np.abs(first - second).mean()
    assert apart > 10
    assert np.abs(first - both).mean() < apart and np.abs(second - both).mean() < apart


def test_two_styles_in_regions(comfyui):
    graph = api_form("two_styles_in_regions")
    result = _pixels(_result(comfyui, graph))
    stylize = graph[_node(graph, "FastStylize")]["inputs"]
    regions = graph[_node(graph, "StyleRegions")]["inputs"]
    rows, _ = _box(graph)
    alone = []
    for style in ("style_model_1", "style_model_2"):
        stylize["style_model"] = regions[style]
        alone.append(
            _pixels(_result(comfyui, {node: each for node, each in graph.items() if each["inputs"] is not regions}))
        )
    assert np.abs(alone[0] - alone[1]).mean() > 10
    for place, style in ((np.s_[: rows.stop - 64], alone[0]), (np.s_[rows.stop + 64 :], alone[1])):
        assert np.abs(result[place] - style[place]).max() <= 2


def test_upscale(comfyui):
    graph = _with_small_photo(comfyui, api_form("upscale"))
    entry = comfyui.run(graph)
    (ours,) = comfyui.images(entry, _node(graph, "SaveImage"))
    (hosts,) = comfyui.images(entry, _node(graph, "PreviewImage"))
    assert (ours.size, hosts.size) == ((4 * SMALL[0], 4 * SMALL[1]), (2 * SMALL[0], 2 * SMALL[1]))


def test_video_frames(comfyui):
    graph = _with_small_photo(comfyui, api_form("video_frames"))
    entry = comfyui.run(graph)
    (video,) = entry["outputs"][_node(graph, "SaveVideo")]["images"]
    path = comfyui.base / "output" / video["subfolder"] / video["filename"]
    assert path.suffix == ".mp4" and path.stat().st_size > 1_000
    # The frames of the film: as many as asked for, of the photo's size. With temporal, grain makes them flicker less.
    made = {key: each for key, each in graph.items() if each["class_type"] not in ("SaveVideo", "CreateVideo")}
    stylize = made[_node(graph, "FastStylize")]["inputs"]
    made["frames"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [_node(graph, "FastStylize"), 0], "filename_prefix": "frames"},
    }
    flicker = {}
    for temporal in (stylize["temporal"], 0.0):
        stylize["temporal"] = temporal
        frames = comfyui.images(comfyui.run(made), "frames")
        assert len(frames) == graph[_node(graph, "RepeatImageBatch")]["inputs"]["amount"]
        assert {frame.size for frame in frames} == {SMALL}
        flicker[temporal] = np.abs(np.diff([_pixels(frame) for frame in frames], axis=0)).mean()
    assert flicker[0.0] > 1 and flicker[1.0] < flicker[0.0]


def test_stylize_video(comfyui):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    graph = _with_small_photo(comfyui, api_form("stylize_video"))
    files, inputs = [], graph[_node(graph, "StylizeVideo")]["inputs"]
    for strength in (1.0, 0.0):
        inputs["strength"] = strength
        (video,) = comfyui.run(graph)["outputs"][_node(graph, "SaveVideo")]["images"]
        with av.open(str(comfyui.base / "output" / video["subfolder"] / video["filename"])) as container:
            files.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert files[0].shape == (graph[_node(graph, "RepeatImageBatch")]["inputs"]["amount"], *SMALL[::-1], 3)
    assert np.abs(files[0].astype(int) - files[1]).mean() > 10


def test_any_painting_at_once(comfyui):
    graph, results = api_form("any_painting_at_once"), []
    graph["1"]["inputs"]["image"] = comfyui.put_photo("small.png", *SMALL, seed=3).name
    for seed in (20, 21):
        graph["2"]["inputs"]["image"] = comfyui.put_photo("painting.png", 100, 90, seed=seed).name
        results.append(_pixels(_result(comfyui, graph)))
    assert results[0].shape == (*SMALL[::-1], 3)
    assert np.abs(results[0] - results[1]).mean() > 0.1


def test_any_painting_without_training(comfyui, loss_network):
    graph = api_form("any_painting_without_training")
    graph[_node(graph, "OptimizeStyle")]["inputs"] |= {"iterations": 3, "style_size": 128}  # enough to see a change
    graph["before"] = {
        "class_type": "SaveImage",
        "inputs": {"images": [_node(graph, "ImageScaleToMaxDimension"), 0], "filename_prefix": "before"},
    }
    graph["2"]["inputs"]["image"] = comfyui.put_photo("painting.png", 100, 90, seed=20).name
    entry = comfyui.run(graph)
    (result,) = comfyui.images(entry, "4")
    (before,) = comfyui.images(entry, "before")
    assert result.size == before.size == (512, 512)
    assert np.abs(_pixels(result) - _pixels(before)).max() > 5


def test_train_a_style(comfyui, photo, loss_network):
    graph = api_form("train_a_style")
    train = graph[_node(graph, "TrainStyle")]["inputs"]
    (comfyui.base / "input" / "photos").mkdir(exist_ok=True)
    for index in range(4):
        comfyui.put_photo(f"photos/{index}.png", 96, 80, seed=index)
    del train["photos"]
    train |= {"content": "photos", "steps": 3, "size": 64, "batch": 1, "style_size": 96}  # seconds instead of minutes
    entry = comfyui.run(graph)
    (result,) = comfyui.images(entry, _node(graph, "SaveImage"))
    (losses,) = comfyui.images(entry, _node(graph, "LossGraphNode"))
    assert result.size == photo.size and losses.width > 400
    assert f"{train['name']}.safetensors" in comfyui.options(), "the new style is not in the list"


def test_training_without_photos_says_what_to_choose(comfyui):
    """A new host has no folder of photos."""
    graph = api_form("train_a_style")
    del graph["2"]["inputs"]["photos"]
    (node,) = comfyui.refused(graph)["node_errors"].values()
    assert all("no photo folder is chosen" in error["details"] for error in node["errors"])
    assert all("connect images to photos" in error["details"] for error in node["errors"])


def test_any_painting_works_with_the_bundled_loss_network(comfyui):
    graph = api_form("any_painting_without_training")
    (node,) = [node for node in graph.values() if node["class_type"] == "OptimizeStyle"]
    node["inputs"]["iterations"] = 2
    entry = comfyui.wait(comfyui.submit(graph))
    assert entry["status"]["status_str"] == "success", entry["status"]


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
    folder = ROOT / "web" / "docs"
    pages = [page for page in folder.rglob("*") if page.is_file()]
    for page in pages:
        status, content = comfyui.request(f"/extensions/{ours}/docs/{page.relative_to(folder).as_posix()}")
        assert status == 200 and content == page.read_bytes()
    assert comfyui.get("/extensions").count(f"/extensions/{ours}/") == 0, (
        "a script of the pack would run in the frontend"
    )


def test_translations_are_served(comfyui):
    served = comfyui.get("/i18n")
    for folder in (ROOT / "locales").iterdir():
        ours = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: served[folder.name]["nodeDefs"][node] for node in ours} == ours
