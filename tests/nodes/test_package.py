"""How the host finds the nodes, and their schemas."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import pickle
import sys
from types import SimpleNamespace

import pytest

HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "execution", "nodes"}

NODES = {
    "LoadStyleModel": "Load Fast Style Model",
    "FastStylize": "Fast Stylize",
    "BlendStyles": "Blend Styles",
    "StyleRegions": "Style Regions",
    "PerceptualUpscale": "Perceptual Upscale",
    "LoadPerceptualUpscaler": "Load Perceptual Upscaler",
    "OptimizeStyle": "Optimize Style (slow)",
    "TrainStyle": "Train Style",
    "StylizeVideo": "Stylize Video",
    "StyleSheet": "Style Sheet",
    "StyleFromPainting": "Style From Painting",
}
INPUTS = {
    # Never change this order: workflows store values by position. Append new inputs.
    "LoadStyleModel": {"style": "COMBO", "download": "BOOLEAN", "channel_order": "COMBO", "output": "COMBO"},
    "FastStylize": {
        "image": "IMAGE",
        "style_model": "PERCEPTUAL_STYLE_MODEL",
        "strength": "FLOAT",
        "stroke_size": "FLOAT",
        "color": "COMBO",
        "mask": "MASK",
        "feather": "FLOAT",
        "temporal": "FLOAT",
        "auto_stroke_size": "BOOLEAN",
        "wrap": "COMBO",
    },
    "BlendStyles": {
        "style_model_1": "PERCEPTUAL_STYLE_MODEL",
        "style_model_2": "PERCEPTUAL_STYLE_MODEL",
        "amount": "FLOAT",
    },
    "StyleRegions": {
        "style_model_1": "PERCEPTUAL_STYLE_MODEL",
        "mask_1": "MASK",
        "style_model_2": "PERCEPTUAL_STYLE_MODEL",
        "mask_2": "MASK",
        "feather": "FLOAT",
    },
    "PerceptualUpscale": {
        "image": "IMAGE",
        "model": "COMBO",
        "fidelity": "FLOAT",
        "match_colors": "BOOLEAN",
        "mask": "MASK",
        "denoise": "FLOAT",
    },
    "LoadPerceptualUpscaler": {"model": "COMBO", "fidelity": "FLOAT", "denoise": "FLOAT"},
    "OptimizeStyle": {
        "content": "IMAGE",
        "style_image": "IMAGE",
        "recipe": "COMBO",
        "iterations": "INT",
        "content_weight": "FLOAT",
        "style_weight": "FLOAT",
        "tv_weight": "FLOAT",
        "start": "COMBO",
        "seed": "INT",
        "loss_network": "COMBO",
        "style_size": "INT",
    },
    "StylizeVideo": {
        "video": "VIDEO",
        "style_model": "PERCEPTUAL_STYLE_MODEL",
        "strength": "FLOAT",
        "stroke_size": "FLOAT",
        "color": "COMBO",
        "mask": "MASK",
        "feather": "FLOAT",
        "temporal": "FLOAT",
        "crf": "FLOAT",
        "auto_stroke_size": "BOOLEAN",
        "wrap": "COMBO",
    },
    "StyleSheet": {"image": "IMAGE", "styles": "STRING", "size": "INT", "columns": "INT"},
    "StyleFromPainting": {"paintings": "IMAGE", "weights": "STRING", "predictor": "COMBO"},
    "TrainStyle": {
        "style_image": "IMAGE",
        "content": "COMBO",
        "name": "STRING",
        "preset": "COMBO",
        "steps": "INT",
        "size": "INT",
        "batch": "INT",
        "width": "INT",
        "content_weight": "FLOAT",
        "style_weight": "FLOAT",
        "tv_weight": "FLOAT",
        "style_size": "INT",
        "loss_network": "COMBO",
        "start_from": "COMBO",
        "resume": "BOOLEAN",
        "seed": "INT",
        "photos": "IMAGE",
    },
}
OUTPUTS = {
    "LoadStyleModel": {"style_model": "PERCEPTUAL_STYLE_MODEL"},
    "FastStylize": {"image": "IMAGE"},
    "BlendStyles": {"style_model": "PERCEPTUAL_STYLE_MODEL"},
    "StyleRegions": {"style_model": "PERCEPTUAL_STYLE_MODEL"},
    "PerceptualUpscale": {"image": "IMAGE", "mask": "MASK"},
    "OptimizeStyle": {"image": "IMAGE"},
    "StylizeVideo": {"video": "VIDEO"},
    "StyleSheet": {"sheet": "IMAGE", "names": "STRING"},
    "StyleFromPainting": {"style_model": "PERCEPTUAL_STYLE_MODEL"},
    "LoadPerceptualUpscaler": {"upscale_model": "UPSCALE_MODEL"},
    "TrainStyle": {"style_model": "PERCEPTUAL_STYLE_MODEL", "loss_map": "LOSS_MAP", "preview": "IMAGE"},
}

#: Hidden by newer hosts until the user asks for them. Not what error messages send the user to.
ADVANCED = {
    "LoadStyleModel": {"download", "channel_order", "output"},
    "FastStylize": {"auto_stroke_size", "wrap"},
    "OptimizeStyle": {"style_size"},
    "StylizeVideo": {"crf", "auto_stroke_size", "wrap"},
    "StyleFromPainting": {"predictor"},
    "TrainStyle": {
        "steps", "size", "batch", "width", "content_weight", "style_weight", "tv_weight", "style_size",
    },
}  # fmt: skip


def test_root_imports_nothing(load_root, monkeypatch):
    for name in HOST:
        monkeypatch.setitem(sys.modules, name, None)  # importing it now raises
    before = set(sys.modules)
    root = load_root()
    assert set(sys.modules) - before == {root.__name__}


def test_root_has_only_v3_entry_point(load_root):
    root = load_root()
    assert asyncio.iscoroutinefunction(root.comfy_entrypoint)
    # The host would use this one, even if it is empty, and ignore the entry point.
    assert not hasattr(root, "NODE_CLASS_MAPPINGS")


def test_old_hosts_get_no_replacement(pack):
    extension = asyncio.run(pack.root.comfy_entrypoint())
    assert asyncio.run(extension.on_load()) is None


def test_new_hosts_get_replacement_for_abandoned_pack(pack, monkeypatch):
    host, registered = sys.modules["comfy_api.latest"], []

    class Replacement:
        async def register(self, replacement):
            registered.append(replacement)

    monkeypatch.setattr(host.io, "NodeReplace", lambda **facts: facts, raising=False)
    monkeypatch.setattr(host, "ComfyAPI", lambda: SimpleNamespace(node_replacement=Replacement()), raising=False)
    asyncio.run(asyncio.run(pack.root.comfy_entrypoint()).on_load())
    assert [(each["old_node_id"], each["new_node_id"]) for each in registered] == [("FastStyleTransfer", "FastStylize")]
    inputs = [each.id for each in pack.schema("FastStylize").inputs]
    assert [each["new_id"] for each in registered[0]["input_mapping"] if each["new_id"] not in inputs] == []


def test_loading_keeps_host_modules(load_pack, monkeypatch):
    """The host has its own module called nodes. The pack's core and nodes must not become top-level modules."""
    hosts = sys.modules["pytest"]  # stands for any module
    monkeypatch.setitem(sys.modules, "nodes", hosts)
    paths = list(sys.path)
    load_pack()
    assert sys.modules["nodes"] is hosts
    assert "core" not in sys.modules
    assert sys.path == paths


def _error_types(pack) -> dict[str, type[Exception]]:
    errors = vars(pack.module("core.errors"))
    return {name: each for name, each in errors.items() if isinstance(each, type) and issubclass(each, Exception)}


def test_error_types_do_not_show_installation_path(pack):
    """The host shows an error's module and name. It makes the module's name from the pack's path."""
    kinds = _error_types(pack)
    assert {"InputError", "CheckpointError", "HubError", "Cancelled"} < set(kinds)
    assert {kind.__module__ for kind in kinds.values()} == {"perceptual_style.core.errors"}
    with pytest.raises(ValueError, match="no style named") as raised:
        pack.run("LoadStyleModel", style="missing")
    assert type(raised.value) is kinds["InputError"]


def test_errors_are_pickled_under_any_package_name(pack):
    """Errors cross the borders of processes."""
    for name, kind in _error_types(pack).items():
        error = kind(f"a {name}", 2)
        error.cause = "a reason"
        for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(copied) is kind and (copied.args, copied.cause) == (error.args, "a reason")


def test_ids_and_display_names(pack):
    assert {node: pack.schema(node).display_name for node in pack.nodes} == NODES


@pytest.mark.parametrize("node", NODES)
def test_input_and_output_types(pack, node):
    schema = pack.schema(node)
    assert [(each.id, each.io_type) for each in schema.inputs] == list(INPUTS[node].items())
    assert {each.display_name: each.io_type for each in schema.outputs} == OUTPUTS[node]


def test_nodes_have_descriptions_and_tooltips(pack):
    """Every node has a description, and every input and output a tooltip."""
    for node in pack.nodes:
        schema = pack.schema(node)
        assert schema.description.endswith("."), node
        assert schema.category.startswith("Perceptual Style"), node
        for each in [*schema.inputs, *schema.outputs]:
            assert each.tooltip and each.tooltip.endswith("."), f"{node}: {each.id or each.display_name}"


def test_advanced_inputs_in_newer_hosts(host, load_pack):
    host.newer = True
    pack = load_pack()
    for node in pack.nodes:
        inputs = pack.schema(node).inputs
        advanced = {each.id for each in inputs if getattr(each, "advanced", None)}
        assert advanced == ADVANCED.get(node, set()), node
        assert all(each.optional for each in inputs if each.id in advanced)


@pytest.mark.parametrize("node", NODES)
def test_execute_accepts_schema_inputs(pack, node):
    parameters = inspect.signature(pack.nodes[node].execute).parameters
    names = [name for name, each in parameters.items() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(names) < len(parameters):  # **inputs become the fields of Settings
        assert node == "TrainStyle"
        names += [each.name for each in dataclasses.fields(pack.module("nodes.training_inputs").Settings)]
    assert sorted(names) == sorted(INPUTS[node])
