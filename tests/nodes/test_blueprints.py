"""The subgraph blueprints: consistent, and up to date with the nodes."""

from __future__ import annotations

import json

import pytest
from workflows import ROOT

PATHS = sorted((ROOT / "subgraphs").glob("*.json"))
INPUT, OUTPUT = -10, -20  # the ids of a subgraph's own sockets


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def blueprint(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def _parts(blueprint: dict) -> tuple[dict, dict, dict]:
    """Return the outer node, the subgraph, and the subgraph's nodes by id."""
    (outer,), (subgraph,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    return outer, subgraph, {node["id"]: node for node in subgraph["nodes"]}


def test_blueprints_are_named_after_their_files():
    names = [json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]["name"] for path in PATHS]
    assert names == [path.stem for path in PATHS] == ["Stylize and upscale", "Stylize", "Train a style"]


def test_links_join_sockets_of_same_type(blueprint):
    outer, subgraph, nodes = _parts(blueprint)
    assert outer["type"] == subgraph["id"]
    for link in subgraph["links"]:
        source, target = link["origin_id"], link["target_id"]
        start = (subgraph["inputs"] if source == INPUT else nodes[source]["outputs"])[link["origin_slot"]]
        end = (subgraph["outputs"] if target == OUTPUT else nodes[target]["inputs"])[link["target_slot"]]
        assert start["type"] == end["type"] == link["type"]
        assert link["id"] in (start["linkIds"] if source == INPUT else start["links"])
        assert link["id"] in (end["linkIds"] if target == OUTPUT else [end["link"]])
    for side in ("inputs", "outputs"):
        inner = [(each["name"], each["type"]) for each in subgraph[side]]
        assert [(each["name"], each["type"]) for each in outer[side]] == inner


def test_blueprint_fits_nodes(pack, blueprint):
    """Values are stored by position. A missing input would get the next one's value."""
    outer, subgraph, nodes = _parts(blueprint)
    for node in nodes.values():
        if node["type"] not in pack.nodes:
            continue
        widgets = [each["name"] for each in node["inputs"] if "widget" in each]
        inputs = [each.id for each in pack.schema(node["type"]).inputs]
        assert sorted(inputs) == sorted(each["name"] for each in node["inputs"])
        assert [name for name in inputs if name in widgets] == widgets
        assert len(node["widgets_values"]) == len(widgets)
    for number, name in outer["properties"]["proxyWidgets"]:
        assert name in [each["name"] for each in nodes[int(number)]["inputs"]]
