"""The user's styles in models/fast_style, and equal results from the nodes, Python and the command line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.host


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def test_new_file_works_without_restart(comfyui, graph, put_style):
    assert "late.safetensors" not in comfyui.options()
    put_style("late.safetensors")
    assert "late.safetensors" in comfyui.options()
    (result,) = comfyui.images(comfyui.run(graph(comfyui.put_photo("late.png", 33, 21).name, "late.safetensors")), "4")
    assert result.size == (33, 21)


def test_file_in_subfolder_works(comfyui, graph, put_style):
    put_style("mine/deep.safetensors")
    (name,) = [name for name in comfyui.options() if name.endswith("deep.safetensors")]
    (result,) = comfyui.images(comfyui.run(graph(comfyui.put_photo("deep.png", 33, 21).name, name)), "4")
    assert result.size == (33, 21)


def test_other_files_are_not_listed(comfyui, put_style):
    put_style("wave.training.safetensors")
    (comfyui.styles / "readme.txt").write_text("any")
    assert [name for name in comfyui.options() if "training" in name or "readme" in name] == []


def test_replaced_file_is_reloaded(comfyui, graph, put_style):
    path = put_style("changing.safetensors", seed=0)
    nodes = graph(comfyui.put_photo("changing.png", 33, 21).name, path.name)
    (first,) = comfyui.images(comfyui.run(nodes), "4")
    assert set(comfyui.run(nodes)["messages"]["execution_cached"]["nodes"]) == set(nodes)

    put_style("changing.safetensors", seed=1)
    entry = comfyui.run(nodes)
    assert entry["messages"]["execution_cached"]["nodes"] == ["1"]
    (second,) = comfyui.images(entry, "4")
    assert np.abs(_pixels(first) - _pixels(second)).max() > 1
    assert set(comfyui.run(nodes)["messages"]["execution_cached"]["nodes"]) == set(nodes)


@pytest.mark.parametrize("content", [b"", b"not a style" * 1000, "half"], ids=["empty", "garbage", "half"])
def test_damaged_file_error_is_one_line(comfyui, graph, put_style, content):
    path = put_style("damaged.safetensors")
    path.write_bytes(path.read_bytes()[:5000] if content == "half" else content)
    entry = comfyui.wait(comfyui.submit(graph(comfyui.put_photo("any.png", 20, 20).name, path.name)))
    assert entry["status"]["status_str"] == "error"
    error = entry["messages"]["execution_error"]
    assert error["node_type"] == "LoadStyleModel"
    assert error["exception_type"].endswith("CheckpointError")
    assert path.name in error["exception_message"]
    assert len(error["exception_message"].strip().splitlines()) == 1

    put_style("damaged.safetensors")  # the same graph works once the file is replaced
    comfyui.run(graph("any.png", path.name))


def test_removed_file_is_rejected(comfyui, graph, put_style):
    path = put_style("removed.safetensors")
    nodes = graph(comfyui.put_photo("any.png", 20, 20).name, path.name)
    comfyui.run(nodes)
    path.unlink()
    (error,) = comfyui.refused(nodes)["node_errors"]["2"]["errors"]
    assert "removed.safetensors" in error["details"]


@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_nodes_python_and_command_line_agree(comfyui, core, graph, style, tmp_path, alpha):
    path = comfyui.put_photo(f"parity-{alpha}.png", 147, 98, alpha=alpha)
    (by_node,) = comfyui.images(comfyui.run(graph(path.name, style, join_alpha=alpha)), "4")

    read = core.images.reading.read_image(path)
    by_core = core.load_style(style).stylize(read.pixels)[0].movedim(0, -1).numpy() * 255
    # SaveImage truncates values.
    assert np.abs(_pixels(by_node)[..., :3] - np.floor(by_core)).max() <= 1

    output = tmp_path / "out.png"
    assert core.cli.main(["stylize", str(path), "-o", str(output), "--style", style, "--device", "cpu"]) == 0
    with Image.open(output) as by_command:
        assert (by_command.size, by_command.mode) == (by_node.size, by_node.mode)
        assert np.abs(_pixels(by_command) - _pixels(by_node)).max() <= 1


def test_own_file_matches_core(comfyui, core, graph, put_style):
    path = put_style("parity.safetensors", seed=3)
    photo = comfyui.put_photo("parity-own.png", 64, 47)
    (by_node,) = comfyui.images(comfyui.run(graph(photo.name, path.name)), "4")
    by_core = (
        core.load_style(path).stylize(core.images.reading.read_image(photo).pixels)[0].movedim(0, -1).numpy() * 255
    )
    assert np.abs(_pixels(by_node) - np.floor(by_core)).max() <= 1


def test_each_style_of_a_file_is_listed_and_loads(comfyui, core, graph):
    """The file contains two styles, which share everything but their rows of scales and shifts."""
    import torch

    torch.manual_seed(8)
    network = core.build_network("c9s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect styles=2").requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if ".norm." in name:
            tensor.normal_()
    path = comfyui.styles / "two.safetensors"
    facts = {"task": "style", "styles": [{"name": "wave"}, {"name": "the night"}]}
    core.checkpoints.own_format.save_network(path, network, facts)
    listed = [name for name in comfyui.options() if name.startswith(path.name)]
    assert listed == ["two.safetensors#wave", "two.safetensors#the night"]

    photo, results = comfyui.put_photo("two.png", 41, 30), []
    for name in listed:
        (by_node,) = comfyui.images(comfyui.run(graph(photo.name, name)), "4")
        model = core.load_style(path, style=name.partition("#")[2])
        by_core = model.stylize(core.images.reading.read_image(photo).pixels)[0].movedim(0, -1).numpy() * 255
        assert np.abs(_pixels(by_node) - np.floor(by_core)).max() <= 1
        results.append(_pixels(by_node))
    assert np.abs(results[0] - results[1]).max() > 5

    for unknown in ("two.safetensors", "two.safetensors#candy"):
        (error,) = comfyui.refused(graph(photo.name, unknown))["node_errors"]["2"]["errors"]
        assert repr(unknown) in error["details"] and "two.safetensors#the night" in error["details"]
