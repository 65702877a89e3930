"""What newer hosts offer besides nodes: subgraph blueprints, and a replacement for an abandoned pack's node."""

from __future__ import annotations

import json

import pytest
from workflows import HOSTS_PHOTO, ROOT

pytestmark = pytest.mark.host

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
OLD_NODE = "FastStyleTransfer"


@pytest.fixture(scope="module")
def blueprints(comfyui) -> dict[str, dict]:
    """The pack's blueprints by name, as the host serves them."""
    status, content = comfyui.request("/global_subgraphs")
    if status == 404:
        pytest.skip("this host has no subgraph blueprints")
    entries = {key: each for key, each in json.loads(content).items() if each["source"] == "custom_node"}
    return {each["name"]: comfyui.get(f"/global_subgraphs/{key}") for key, each in entries.items()}


@pytest.fixture(scope="module")
def replacements(comfyui) -> list[dict]:
    """The nodes that the host offers in place of the abandoned pack's node."""
    status, content = comfyui.request("/api/node_replacements")
    if status == 404:
        pytest.skip("this host does not replace nodes")
    return json.loads(content)[OLD_NODE]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprint_is_served_with_known_nodes(comfyui, blueprints, path):
    served = json.loads(blueprints[path.stem]["data"])
    assert served == json.loads(path.read_text(encoding="utf-8"))
    kinds = {node["type"] for subgraph in served["definitions"]["subgraphs"] for node in subgraph["nodes"]}
    assert kinds - set(comfyui.get("/object_info")) == set()


def test_replacement_takes_over_photo_and_output(comfyui, replacements):
    (replacement,) = replacements
    assert replacement["new_node_id"] == "FastStylize"
    assert replacement["input_mapping"] == [{"new_id": "image", "old_id": "content_img"}]
    assert replacement["output_mapping"] == [{"new_idx": 0, "old_idx": 0}]


def test_graph_of_abandoned_pack_needs_only_a_style(comfyui, replacements):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": HOSTS_PHOTO}, "_meta": {"title": "Load Image"}},
        "2": {
            "class_type": OLD_NODE,
            "inputs": {"content_img": ["1", 0], "model": "mosaic.pth"},
            "_meta": {"title": "Fast Style Transfer"},
        },
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["2", 0], "filename_prefix": "old"},
            "_meta": {"title": "Save Image"},
        },
    }
    errors = comfyui.refused(graph)["node_errors"]["2"]
    assert errors["class_type"] == "FastStylize"
    assert [error["extra_info"]["input_name"] for error in errors["errors"]] == ["style_model"]
