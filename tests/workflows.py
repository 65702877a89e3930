"""The shipped workflows, as the browser opens them (UI form) and as POST /prompt accepts them (API form)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES, API, EXAMPLES = ROOT / "example_workflows", ROOT / "examples" / "api", ROOT / "examples"
NAMES = sorted(path.stem for path in API.glob("*.json"))
NOTES = ("MarkdownNote", "Note")
LOADERS = {"LoadImage": "image", "LoadVideo": "file"}
HOSTS_PHOTO = "example.png"  # in the input folder of every new ComfyUI
SEEDS = ("seed", "noise_seed")
_AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")


def ui_form(name: str) -> dict[str, Any]:
    """Return a workflow in its UI form."""
    return json.loads((TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))


def api_form(name: str) -> dict[str, Any]:
    """Return a workflow in its API form."""
    return json.loads((API / f"{name}.json").read_text(encoding="utf-8"))


def bare(graph: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Reduce an API form to class and inputs of each node, without titles."""
    return {node: (each["class_type"], each["inputs"]) for node, each in graph.items()}


def as_api_form(ui: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Convert a UI form to the API form, as the frontend does for the queue, in the form of `bare`."""
    links = {link[0]: link for link in ui["links"]}
    graph = {}
    for node in ui["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = widget_values(node)
        for slot, each in enumerate(node["inputs"]):
            if each["link"] is not None:
                _, source, output, target, place, kind = links[each["link"]]
                assert (target, place, kind) == (node["id"], slot, each["type"]), f"{node['type']}: {each['name']}"
                inputs[each["name"]] = [str(source), output]
        graph[str(node["id"])] = (node["type"], inputs)
    return graph


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a node in a UI form by widget name. The form stores them by position."""
    names = [each["name"] for each in node["inputs"] if "widget" in each]
    values, found = list(node["widgets_values"]), {}
    for name in names:
        found[name] = values.pop(0)
        if name in SEEDS and values and values[0] in _AFTER_GENERATE:  # the frontend adds its own widget after a seed
            del values[0]
    if node["type"] in LOADERS:
        values.pop()  # the upload button
    assert values == [], f"{node['type']} has more values than widgets: {values}"
    return found
