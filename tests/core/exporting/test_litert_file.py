"""LiteRT files, run by LiteRT's interpreter and compared with the plain forward."""

from __future__ import annotations

import random

import pytest
import torch
from helpers import model_of, picture_of, save_style, style_model
from network_archs import ARCHS, randomized
from perceptual_style.core import blend_styles, errors, load_style, load_upscaler, style_regions
from perceptual_style.core.exporting import comparison, litert_file
from perceptual_style.core.exporting.any_file import export
from perceptual_style.core.exporting.litert_file import runner
from perceptual_style.core.images.mixing import mix
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.pixels import PixelConvention

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402


def contents(path):
    """Return the texts in a file by their names."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    return {each.name.decode(): bytes(model.buffers[each.buffer].data).decode() for each in model.metadata}


@pytest.fixture
def written(tmp_path):
    """Write a model for the size of an image, and return what the interpreter makes of the image."""

    def run(model, image, layout="float-nhwc", **options):
        size = image.shape[3], image.shape[2]
        return runner(export(model, tmp_path / "model.tflite", size=size, layout=layout, **options).path, layout)(image)

    return run


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if ArchSpec.parse(arch).out_channels == 3])
def test_every_kind_of_network_matches_it_at_sizes_of_any_remainder(arch, written):
    choice, model = random.Random(arch), model_of(randomized(arch))
    least = model.spec.smallest_side
    for height, width in ((least, least + 7), (least + choice.randint(1, 12), least + choice.randint(0, 9))):
        image = torch.rand(1, 3, height, width)
        assert (written(model, image) - picture_of(model, image)).abs().max() < 1e-4, (height, width)


@pytest.mark.parametrize("pixels", ["bgr in=caffe out=255-127.5", "rgb in=imagenet out=imagenet"])
def test_pixel_conventions_are_part_of_the_file(pixels, written):
    model = model_of(randomized("c3s1-4,c5s1-3 padding=zero output=tanh150"), PixelConvention.parse(pixels))
    image = torch.rand(1, 3, 9, 12)
    assert (written(model, image) - picture_of(model, image)).abs().max() < 1e-4


def test_network_that_is_being_trained_can_be_exported(written):
    model, image = model_of(randomized(ARCHS[4]).requires_grad_()), torch.rand(1, 3, 21, 26)
    assert (written(model, image) - picture_of(model, image)).abs().max() < 1e-4


@pytest.mark.parametrize("load, name", [(load_style, "wave"), (load_upscaler, "perceptual_x2")])
def test_bundled_networks_give_the_pictures_of_this_package(load, name, written):
    model, image = load(name), torch.rand(1, 3, 61, 86)
    assert (written(model, image) - picture_of(model, image)).abs().max() < 1e-3


def test_blend_of_unrelated_styles_is_one_file(written, tmp_path):
    first, second = style_model(seed=1, name="one"), style_model(seed=2, name="two")
    image = torch.rand(1, 3, 22, 17)
    result = written(blend_styles(first, second, 0.3), image)
    pictures = [model.stylize(image, precision="fp32") for model in (first, second)]
    assert (result - mix(*pictures, 0.3)).abs().max() < 1e-4
    assert contents(tmp_path / "model.tflite")["name"] == "one + two"


def test_bytes_in_and_out_are_the_same_picture(written):
    model, image = style_model(), torch.randint(0, 256, (1, 3, 14, 19)) / 255
    result = written(model, image, layout="uint8-nhwc")
    assert (result * 255 - (result * 255).round()).abs().max() < 1e-4
    assert (result - picture_of(model, image)).abs().max() < 0.51 / 255


def test_half_is_half_the_size_and_nearly_the_same_picture(written, tmp_path):
    model, image, sizes = load_style("wave"), torch.rand(1, 3, 22, 18), []
    for half in (False, True):
        difference = (written(model, image, half=half) - picture_of(model, image)).abs().max()
        sizes.append((tmp_path / "model.tflite").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0] and difference < 4 / 255


def test_statistics_keep_their_digits_in_large_pictures(tmp_path):
    model = load_style("wave")
    assert export(model, tmp_path / "large.tflite", size=(500, 460)).difference < 0.01 / 255


@pytest.mark.parametrize("arch", [ARCHS[0], ARCHS[1], ARCHS[-1]])
def test_xnnpack_gives_the_same_picture(arch, tmp_path):
    model = model_of(randomized(arch))
    path = export(model, tmp_path / "style.tflite", size=(50, 41)).path
    interpreter, image = Interpreter(str(path)), torch.rand(1, 3, 41, 50)
    signature = interpreter.get_signature_runner()
    result = torch.from_numpy(signature(image=image.permute(0, 2, 3, 1).numpy())["result"]).permute(0, 3, 1, 2)
    assert (result - picture_of(model, image)).abs().max() < 1e-4


def test_file_says_what_it_is(tmp_path):
    save_style(tmp_path / "s.safetensors", title="Storm", license="CC0-1.0", credit={"artist": "Ada", "year": 1900})
    written = export(load_style(tmp_path / "s.safetensors"), tmp_path / "new" / "s.tflite", size=(40, 30))
    facts = {"name": "s", "title": "Storm", "license": "CC0-1.0", "credit": "Ada, 1900", "layout": "float-nhwc"}
    assert contents(written.path).items() >= facts.items()
    assert contents(written.path)["smallest_side"] == str(written.smallest_side)
    assert written.size == (40, 30) and written.program == "LiteRT" and written.difference < 1 / 255


def test_constants_lie_where_processors_read_numbers(tmp_path):
    data = export(style_model(), tmp_path / "style.tflite", size=(40, 30)).path.read_bytes()
    model, places = schema.Model.GetRootAsModel(data, 0), []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            places.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert places and {place % 16 for place in places} == {0}


def test_nothing_is_printed_and_nothing_is_left_behind(tmp_path, capfd):
    export(style_model(), tmp_path / "style.tflite", size=(40, 30))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["style.tflite"]


def test_comparison_finds_a_difference(tmp_path):
    run = runner(export(style_model(seed=1), tmp_path / "style.tflite", size=(40, 30)).path, "float-nhwc")
    assert comparison.compare(style_model(seed=1), run, (40, 30)) < 1 / 255
    assert comparison.compare(style_model(seed=2), run, (40, 30)) > 10 / 255


def test_file_that_differs_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "style.tflite").write_bytes(b"the old one")
    monkeypatch.setattr(comparison, "compare", lambda *_: 0.5)
    with pytest.raises(errors.CheckpointError, match="differs from test by 127.50/255 in LiteRT"):
        export(style_model(), tmp_path / "style.tflite", size=(40, 30))
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the old one"]


def test_file_that_does_not_run_is_not_written(tmp_path, monkeypatch):
    def failing(picture):
        raise RuntimeError("tensor 5 is missing\nand so on")

    monkeypatch.setattr(litert_file, "runner", lambda path, layout: failing)
    with pytest.raises(errors.CheckpointError, match="^LiteRT cannot run the exported file: tensor 5 is missing$"):
        export(style_model(), tmp_path / "style.tflite", size=(40, 30))
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_reported(tmp_path):
    model, target = style_model(), tmp_path / "style.tflite"
    message = "layout is 'float-nchw'; expected one of float-nhwc, uint8-nhwc for LiteRT"
    with pytest.raises(errors.InputError, match=message):
        export(model, target, layout="float-nchw")
    with pytest.raises(errors.InputError, match=r"size is 3x99; expected WIDTHxHEIGHT with \d+ to 8192 px each"):
        export(model, target, size=(3, 99))
    with pytest.raises(errors.InputError, match="has regions"):
        export(style_regions(model, torch.ones(1, 1, 4, 4), model), target)
    assert list(tmp_path.iterdir()) == []
