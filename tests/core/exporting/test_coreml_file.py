"""Core ML packages, run by an interpreter of their operators and compared with the plain forward."""

from __future__ import annotations

import random
import sys

import pytest
import torch
from helpers import model_of, picture_of, save_style, style_model
from network_archs import ARCHS, randomized
from perceptual_style.core import blend_styles, errors, load_style, load_upscaler, style_regions
from perceptual_style.core.exporting import comparison, coreml_file
from perceptual_style.core.exporting.any_file import export
from perceptual_style.core.images.mixing import mix
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.pixels import PixelConvention

pytest.importorskip("coremltools")
from coreml_files import CoreMLModel  # noqa: E402


@pytest.fixture
def written(tmp_path):
    """Write a model and return the package, ready to run."""
    return lambda model, **options: CoreMLModel(export(model, tmp_path / "model.mlpackage", **options).path)


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if ArchSpec.parse(arch).out_channels == 3])
def test_every_kind_of_network_matches_it_at_any_size(arch, written):
    choice, model = random.Random(arch), model_of(randomized(arch))
    package, least = written(model), model.spec.smallest_side
    for height, width in ((least, least + 7), (least + choice.randint(1, 12), least + choice.randint(0, 9))):
        image = torch.rand(1, 3, height, width)
        assert (package(image) - picture_of(model, image)).abs().max() < 1e-4, (height, width)


@pytest.mark.parametrize("arch", ARCHS[:2] + ARCHS[-1:])
def test_package_of_one_size_has_no_computed_sides(arch, written):
    model = model_of(randomized(arch))
    for width, height in ((36, 28), (37, 33)):
        package, image = written(model, size=(width, height)), torch.rand(1, 3, height, width)
        assert "shape" not in package.kinds
        assert (package(image) - picture_of(model, image)).abs().max() < 1e-4
    assert list(package.spec.description.input[0].type.multiArrayType.shape) == [1, 3, 33, 37]


@pytest.mark.parametrize("pixels", ["bgr in=caffe out=255-127.5", "rgb in=imagenet out=imagenet"])
def test_pixel_conventions_are_part_of_the_package(pixels, written):
    model = model_of(randomized("c3s1-4,c5s1-3 padding=zero output=tanh150"), PixelConvention.parse(pixels))
    image = torch.rand(1, 3, 9, 12)
    assert (written(model)(image) - picture_of(model, image)).abs().max() < 1e-4


@pytest.mark.parametrize("load, name", [(load_style, "wave"), (load_upscaler, "perceptual_x2")])
def test_bundled_networks_give_the_pictures_of_this_package(load, name, written):
    model, image = load(name), torch.rand(1, 3, 21, 26)
    assert (written(model)(image) - picture_of(model, image)).abs().max() < 1 / 255


def test_half_is_half_the_size_with_norms_in_float32(written, tmp_path):
    model, image = load_style("wave"), torch.rand(1, 3, 22, 18)
    sizes = []
    for half in (False, True):
        package = written(model, half=half)
        sizes.append(sum(each.stat().st_size for each in tmp_path.rglob("weight.bin")))
    assert sizes[1] < 0.55 * sizes[0]
    assert (package(image) - picture_of(model, image)).abs().max() < 4 / 255


def test_blend_of_unrelated_styles_is_one_package(written):
    first, second = style_model(seed=1, name="one"), style_model(seed=2, name="two")
    package, image = written(blend_styles(first, second, 0.3)), torch.rand(1, 3, 22, 17)
    pictures = [model.stylize(image, precision="fp32") for model in (first, second)]
    assert (package(image) - mix(*pictures, 0.3)).abs().max() < 1e-4
    assert package.metadata["name"] == "one + two"


def test_images_are_read_and_returned_as_bytes(written):
    model, image = style_model(), torch.randint(0, 256, (1, 3, 14, 19)).float()
    package = written(model, layout="image")
    result = package(image)
    assert result.dtype == torch.float32 and (result == result.round()).all()
    assert (result / 255 - picture_of(model, image / 255)).abs().max() < 0.51 / 255
    for each in (*package.spec.description.input, *package.spec.description.output):
        assert each.type.WhichOneof("Type") == "imageType", each.name


def test_package_says_what_it_is_and_that_nobody_ran_it(tmp_path):
    save_style(tmp_path / "s.safetensors", title="Storm", license="CC0-1.0", credit={"artist": "Ada", "year": 1900})
    written = export(load_style(tmp_path / "s.safetensors"), tmp_path / "new" / "s.mlpackage")
    package = CoreMLModel(written.path)
    facts = {"name": "s", "title": "Storm", "license": "CC0-1.0", "credit": "Ada, 1900", "layout": "float-nchw"}
    assert package.metadata.items() >= facts.items()
    assert package.metadata["smallest_side"] == str(written.smallest_side)
    shown = package.spec.description.metadata
    assert (shown.shortDescription, shown.author, shown.license) == ("Storm", "Ada, 1900", "CC0-1.0")
    sides = package.spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [each.lowerBound for each in sides] == [1, 3, written.smallest_side, written.smallest_side]
    if sys.platform != "darwin":
        assert (written.difference, written.unverified) == (None, "not verified here: Core ML runs on macOS only")


def test_nothing_is_printed_and_nothing_is_left_behind(tmp_path, capfd):
    for _ in range(2):  # the second package replaces the first
        export(style_model(), tmp_path / "style.mlpackage")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["style.mlpackage"]


def test_other_folders_and_files_are_never_replaced(tmp_path):
    for name in ("folder.mlpackage", "file.mlpackage"):
        target = tmp_path / name
        kept = target
        if name.startswith("folder"):
            target.mkdir()
            kept = target / "photo.jpg"
        kept.write_bytes(b"mine")
        with pytest.raises(errors.InputError, match="exists and is not a Core ML package; choose another name"):
            export(style_model(), target)
        assert kept.read_bytes() == b"mine"


def test_package_that_differs_is_not_written(tmp_path, monkeypatch):
    old = export(style_model(), tmp_path / "style.mlpackage").path / "Manifest.json"
    before = old.read_bytes()
    monkeypatch.setattr(coreml_file, "runner", lambda path, layout: torch.zeros_like)
    monkeypatch.setattr(comparison, "compare", lambda *_: 0.5)
    with pytest.raises(errors.CheckpointError, match="differs from test by 127.50/255 in Core ML"):
        export(style_model(), tmp_path / "style.mlpackage")
    assert old.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["style.mlpackage"]


def test_wrong_arguments_are_reported(tmp_path):
    model, target = style_model(), tmp_path / "style.mlpackage"
    with pytest.raises(
        errors.InputError, match="layout is 'uint8-nhwc'; expected one of float-nchw, image for Core ML"
    ):
        export(model, target, layout="uint8-nhwc")
    with pytest.raises(errors.InputError, match=r"size is 3x99; expected WIDTHxHEIGHT with \d+ to 8192 px each"):
        export(model, target, size=(3, 99))
    with pytest.raises(errors.InputError, match="has regions"):
        export(style_regions(model, torch.ones(1, 1, 4, 4), model), target)
    assert list(tmp_path.iterdir()) == []
    export(model, target)  # coremltools remembers nothing of the one that failed


@pytest.mark.skipif(sys.platform != "darwin", reason="needs macOS")
@pytest.mark.parametrize("layout", ["float-nchw", "image"])
def test_core_ml_itself_gives_the_same_picture(layout, tmp_path):
    assert export(style_model(), tmp_path / "style.mlpackage", layout=layout).difference < 1.5 / 255
