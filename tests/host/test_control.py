"""FastStylize's options, BlendStyles and StyleRegions in ComfyUI, compared with Python and the command line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.host


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def _difference(by_node, by_core) -> float:
    """Return the largest difference in 1/255. SaveImage truncates values."""
    return np.abs(_pixels(by_node)[..., :3] - np.floor(by_core[0].movedim(0, -1).numpy() * 255)).max()


@pytest.fixture
def photo(comfyui):
    return comfyui.put_photo("control.png", 75, 52)


@pytest.fixture
def mask(comfyui):
    """A mask in the input folder, white with a black frame, larger than the photo."""
    pixels = np.zeros((104, 150), np.uint8)
    pixels[20:-20, 24:-24] = 255
    path = comfyui.base / "input" / "control-mask.png"
    Image.fromarray(pixels).convert("RGB").save(path)
    return path


@pytest.fixture
def weights(core, mask):
    """The same mask for core."""
    import torch

    plane = torch.from_numpy(np.asarray(Image.open(mask))[..., 0] / np.float32(255))[None, None]
    return core.images.masks.fit_mask(plane, 52, 75)


def _with_mask(nodes: dict, mask) -> dict:
    nodes["9"] = {"class_type": "LoadImageMask", "inputs": {"image": mask.name, "channel": "red"}}
    return nodes


def _two_styles(graph, photo, names, node: str, **inputs) -> dict:
    """Add a second LoadStyleModel (7), and ``node`` (8) between both and FastStylize."""
    nodes = graph(photo.name, names[0])
    nodes["7"] = {"class_type": "LoadStyleModel", "inputs": {"style": names[1]}}
    nodes["8"] = {"class_type": node, "inputs": {"style_model_1": ["2", 0], "style_model_2": ["7", 0], **inputs}}
    nodes["3"]["inputs"]["style_model"] = ["8", 0]
    return nodes


def test_object_info_lists_options_and_nodes(comfyui):
    info = comfyui.get("/object_info")
    stylize = info["FastStylize"]["input"]
    assert set(stylize["required"]) == {"image", "style_model"}
    expected = {"strength", "stroke_size", "color", "mask", "feather", "temporal", "wrap", "auto_stroke_size"}
    assert set(stylize["optional"]) == expected
    for node in ("FastStylize", "BlendStyles", "StyleRegions"):
        inputs = info[node]["input"]["required"] | info[node]["input"].get("optional", {})
        assert info[node]["description"] and all(config["tooltip"] for _, config in inputs.values())
    assert info["BlendStyles"]["output"] == info["StyleRegions"]["output"] == ["PERCEPTUAL_STYLE_MODEL"]


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.0},
        {"strength": 0.5},
        {"stroke_size": 2.0},
        {"stroke_size": 0.5, "color": "keep"},
        {"color": "match", "strength": 0.7},
        {"mask": True, "feather": 6.0},
    ],
    ids=lambda options: " ".join(options),
)
def test_nodes_python_and_command_line_agree(comfyui, core, graph, put_style, photo, mask, weights, tmp_path, options):
    style, options = put_style("control.safetensors"), dict(options)
    masked = options.pop("mask", False)
    nodes = _with_mask(graph(photo.name, style.name), mask)
    nodes["3"]["inputs"] |= options | ({"mask": ["9", 0]} if masked else {})
    (by_node,) = comfyui.images(comfyui.run(nodes), "4")

    before = core.images.reading.read_image(photo).pixels
    result = core.load_style(style).stylize(before, mask=weights if masked else None, **options)
    assert _difference(by_node, result) <= 1
    if masked:
        assert np.array_equal(_pixels(by_node)[:9], _pixels(Image.open(photo))[:9]), "the photo was changed"

    output = tmp_path / "out.png"
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    arguments += ["--mask", str(mask)] if masked else []
    command = ["stylize", str(photo), "-o", str(output), "--style", str(style), "--device", "cpu", *arguments]
    assert core.cli.main(command) == 0
    with Image.open(output) as by_command:
        assert np.abs(_pixels(by_command) - _pixels(by_node)).max() <= 1


def test_default_options_change_nothing(comfyui, graph, put_style, photo):
    style = put_style("control.safetensors")
    (plain,) = comfyui.images(comfyui.run(graph(photo.name, style.name)), "4")
    nodes = graph(photo.name, style.name)
    nodes["3"]["inputs"] |= {"strength": 1.0, "stroke_size": 1.0, "color": "style", "feather": 0.0, "temporal": 0.0}
    (same,) = comfyui.images(comfyui.run(nodes), "4")
    assert np.array_equal(_pixels(plain), _pixels(same))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("strength", 1.5, "value_bigger_than_max"), ("stroke_size", 0.1, "value_smaller_than_min")],
)
def test_bad_value_error_names_node_and_input(comfyui, graph, put_style, photo, name, value, problem):
    nodes = graph(photo.name, put_style("control.safetensors").name)
    nodes["3"]["inputs"][name] = value
    (error,) = comfyui.refused(nodes)["node_errors"]["3"]["errors"]
    assert (error["type"], error["extra_info"]["input_name"]) == (problem, name)


def test_blend_matches_core(comfyui, core, graph, put_style, photo):
    styles = [put_style(f"blend{seed}.safetensors", seed) for seed in (1, 2)]
    names = [style.name for style in styles]
    (by_node,) = comfyui.images(comfyui.run(_two_styles(graph, photo, names, "BlendStyles", amount=0.4)), "4")
    blend = core.blend_styles(*map(core.load_style, styles), 0.4)
    assert _difference(by_node, blend.stylize(core.images.reading.read_image(photo).pixels)) <= 1


def test_regions_match_core(comfyui, core, graph, put_style, photo, mask, weights):
    styles = [put_style(f"blend{seed}.safetensors", seed) for seed in (1, 2)]
    names = [style.name for style in styles]
    nodes = _two_styles(graph, photo, names, "StyleRegions", mask_1=["9", 0], mask_2=["10", 0], feather=4.0)
    nodes = _with_mask(nodes, mask)
    nodes["10"] = {"class_type": "InvertMask", "inputs": {"mask": ["9", 0]}}
    (by_node,) = comfyui.images(comfyui.run(nodes), "4")
    regions = core.style_regions(core.load_style(styles[0]), weights, core.load_style(styles[1]), 1 - weights, 4.0)
    assert _difference(by_node, regions.stylize(core.images.reading.read_image(photo).pixels)) <= 1


def test_video_frames_in_one_batch_and_alone(comfyui, core, graph, put_style):
    """No state is kept from one call to the next."""
    import torch

    style = put_style("control.safetensors")
    random = np.random.default_rng(0)
    still = random.integers(40, 216, (6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    paths = []
    for t in range(3):
        paths.append(comfyui.base / "input" / f"frame{t}.png")
        noisy = still + random.normal(0, 5, still.shape)
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(paths[-1])
    frames = torch.cat([core.images.reading.read_image(path).pixels for path in paths])

    nodes = graph(paths[0].name, style.name)
    nodes["11"] = {"class_type": "LoadImage", "inputs": {"image": paths[1].name}}
    nodes["12"] = {"class_type": "LoadImage", "inputs": {"image": paths[2].name}}
    nodes["13"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["11", 0]}}
    nodes["14"] = {"class_type": "ImageBatch", "inputs": {"image1": ["13", 0], "image2": ["12", 0]}}
    nodes["3"]["inputs"] |= {"image": ["14", 0], "temporal": 1.0}
    by_node = comfyui.images(comfyui.run(nodes), "4")
    by_core = core.load_style(style).stylize(frames, temporal=1.0)
    assert [_difference(one, other[None]) <= 1 for one, other in zip(by_node, by_core, strict=True)] == [True] * 3

    nodes["3"]["inputs"]["image"] = ["12", 0]
    (alone,) = comfyui.images(comfyui.run(nodes), "4")
    assert _difference(alone, core.load_style(style).stylize(frames[2:])) <= 1
