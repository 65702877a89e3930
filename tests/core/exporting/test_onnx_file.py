"""Exported networks, compared with the plain forward and with stylize, upscale and mix."""

from __future__ import annotations

import random
import re
from importlib.util import find_spec

import pytest
import torch
from foreign_containers import write_torch7
from foreign_files import PROGRAMS, make
from helpers import model_of, save_style, style_model
from network_archs import ARCHS, random_arch, randomized
from perceptual_style.core import blend_styles, errors, load_style, load_upscaler, style_regions
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.exporting import comparison, onnx_file
from perceptual_style.core.exporting.any_file import export
from perceptual_style.core.exporting.onnx_file import build, runner
from perceptual_style.core.images.mixing import mix
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.pixels import PixelConvention

onnx = pytest.importorskip("onnx")
from onnx_files import OnnxModel  # noqa: E402

CLOSE = 1 / 255


def expected(model, image):
    spec = model.network.spec
    values = model.network(model.pixels.to_network(image))[
        ..., : image.shape[2] * spec.scale, : image.shape[3] * spec.scale
    ]
    return model.pixels.from_network(values).clamp(0, 1)


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if ArchSpec.parse(arch).out_channels == 3])
def test_every_kind_of_network_matches_plain_forward_at_any_size(arch):
    choice, model = random.Random(arch), model_of(randomized(arch))
    exported, least = OnnxModel(build(model)), model.spec.smallest_side
    for height, width in ((least, least + 7), (least + choice.randint(1, 12), least + choice.randint(0, 9))):
        image = torch.rand(1, 3, height, width)
        result = exported(image)
        assert result.shape == expected(model, image).shape
        assert (result - expected(model, image)).abs().max() < 1e-4, (height, width)


def test_random_networks_match_plain_forward():
    choice = random.Random(3)
    for seed in range(12):
        model = model_of(randomized(re.sub(r"-\d( norm)", r"-3\1", random_arch(choice)), seed))
        least = model.spec.smallest_side
        image = torch.rand(1, 3, least + choice.randint(0, 8), least + choice.randint(0, 8))
        assert (OnnxModel(build(model))(image) - expected(model, image)).abs().max() < 1e-4, str(model.spec)


def test_images_of_a_batch_are_independent():
    model = model_of(randomized("c3s1-4,d4,R4,n2,c3s1-3 padding=reflect"))
    images, exported = torch.rand(3, 3, 11, 14), OnnxModel(build(model))
    alone = torch.cat([exported(image[None]) for image in images])
    assert (exported(images) - alone).abs().max() < 1e-5


@pytest.mark.parametrize(
    "pixels",
    ["bgr in=caffe out=255-127.5", "rgb in=imagenet out=imagenet", "bgr in=255 out=255", "rgb in=unit out=255"],
)
def test_pixel_conventions_are_part_of_the_graph(pixels):
    network = randomized("c3s1-4,c5s1-3 padding=zero output=tanh150")
    model, image = model_of(network, PixelConvention.parse(pixels)), torch.rand(1, 3, 9, 12)
    assert (OnnxModel(build(model))(image) - expected(model, image)).abs().max() < 1e-4


def test_bytes_in_and_out_are_the_same_picture():
    model, image = style_model(), torch.randint(0, 256, (1, 14, 19, 3), dtype=torch.uint8)
    result = OnnxModel(build(model, layout="uint8-nhwc"))(image)
    photo = image.permute(0, 3, 1, 2) / 255
    assert result.dtype == torch.uint8 and result.shape == image.shape
    assert (result.permute(0, 3, 1, 2) / 255 - model.stylize(photo, precision="fp32")).abs().max() < 0.51 / 255


@pytest.mark.parametrize(
    "load, name", [(load_style, "wave"), (load_style, "shipwreck"), (load_upscaler, "perceptual_x2")]
)
def test_bundled_networks_give_the_pictures_of_this_package(load, name):
    model, image = load(name), torch.rand(1, 3, 21, 26)
    run = model.upscale if name.endswith("x2") else model.stylize
    assert (OnnxModel(build(model))(image) - run(image, precision="fp32")).abs().max() < CLOSE


def test_blend_of_unrelated_styles_is_one_graph():
    first, second = style_model(seed=1, name="one"), style_model(seed=2, name="two")
    blend, image = blend_styles(first, second, 0.3), torch.rand(1, 3, 22, 17)
    exported = OnnxModel(build(blend))
    pictures = [model.stylize(image, precision="fp32") for model in (first, second)]
    assert (exported(image) - mix(*pictures, 0.3)).abs().max() < 1e-4
    assert exported.metadata["name"] == "one + two"


def test_mixture_of_rows_is_exported(tmp_path):
    facts = {"task": "style", "name": "two", "styles": [{"name": "wave"}, {"name": "candy"}]}
    save_network(tmp_path / "two.safetensors", randomized("c3s1-4,d4,R4,n2,c3s1-3 padding=reflect styles=2"), facts)
    model = load_style(f"{tmp_path / 'two.safetensors'}#wave=0.7,candy=0.3")
    image, exported = torch.rand(1, 3, 13, 10), OnnxModel(build(model))
    assert (exported(image) - model.stylize(image, precision="fp32")).abs().max() < 1e-4
    assert exported.metadata["name"] == "0.7 wave + 0.3 candy"


def test_networks_of_other_programs_give_the_pictures_of_those_programs(tmp_path):
    torch.save(make("pytorch/examples"), tmp_path / "examples.pth")
    run_torch7 = write_torch7(tmp_path / "torch7.t7")
    image = torch.rand(1, 3, 44, 48)
    for path, run in (
        ("examples.pth", lambda image: PROGRAMS["pytorch/examples"].run(make("pytorch/examples"), image)),
        ("torch7.t7", run_torch7),
    ):
        exported = OnnxModel(build(load_style(tmp_path / path)))
        assert (exported(image) - run(image).clamp(0, 1)).abs().max() < CLOSE, path


def test_half_is_half_the_size_and_nearly_the_same_picture():
    model, image = load_style("wave"), torch.rand(1, 3, 22, 18)
    whole, half = build(model), build(model, half=True)
    assert half.ByteSize() < 0.55 * whole.ByteSize()
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert (OnnxModel(half)(image) - model.stylize(image, precision="fp32")).abs().max() < 4 / 255


def test_file_says_what_it_is(tmp_path):
    save_style(tmp_path / "s.safetensors", title="Storm", license="CC0-1.0", credit={"artist": "Ada", "year": 1900})
    written = export(load_style(tmp_path / "s.safetensors"), tmp_path / "new" / "s.onnx")
    exported = OnnxModel(written.path)
    assert (
        exported.metadata.items()
        >= {"name": "s", "title": "Storm", "license": "CC0-1.0", "credit": "Ada, 1900"}.items()
    )
    assert exported.metadata["smallest_side"] == str(written.smallest_side)
    assert exported.proto.opset_import[0].version >= 17
    sides = [[d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in
             (*exported.proto.graph.input, *exported.proto.graph.output)]  # fmt: skip
    assert sides == [["N", 3, "height", "width"]] * 2
    assert (written.difference is None) == (find_spec("onnxruntime") is None)


def test_wrong_arguments_are_reported(tmp_path):
    model = style_model()
    with pytest.raises(errors.InputError, match="layout is 'nchw'; expected one of float-nchw, uint8-nhwc for ONNX"):
        export(model, tmp_path / "style.onnx", layout="nchw")
    with pytest.raises(errors.InputError, match="ONNX files take pictures of any size; leave the size out"):
        export(model, tmp_path / "style.onnx", size=(64, 64))
    with pytest.raises(errors.InputError, match="has regions"):
        export(style_regions(model, torch.ones(1, 1, 4, 4), model), tmp_path / "style.onnx")
    assert list(tmp_path.iterdir()) == []


def test_file_that_differs_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "style.onnx").write_bytes(b"the old one")
    monkeypatch.setattr(onnx_file, "runner", lambda path, layout: torch.zeros_like)
    monkeypatch.setattr(comparison, "compare", lambda *_: 0.5)
    with pytest.raises(errors.CheckpointError, match="differs from test by 127.50/255"):
        export(style_model(), tmp_path / "style.onnx")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the old one"]


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_comparison_finds_a_difference(tmp_path):
    path = export(style_model(seed=1), tmp_path / "style.onnx").path
    run = runner(path, "float-nchw")
    assert comparison.compare(style_model(seed=1), run) < CLOSE
    assert comparison.compare(style_model(seed=2), run) > 10 * CLOSE
