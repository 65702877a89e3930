"""The yardstick: its values against NumPy and float64, the table and JSON, the sheet, and the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_files import make
from helpers import hide_optional_packages, save_noise, save_style, style_model
from perceptual_style.core.errors import CheckpointError, ImageError
from perceptual_style.core.evaluation import sheet as sheet_module
from perceptual_style.core.evaluation.sheet import write_sheet
from perceptual_style.core.evaluation.yardstick import Yardstick, change_when_moved, scaled, yardstick_photo
from perceptual_style.core.evaluation.yardstick_report import as_json, markdown
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.style_model import load_style
from PIL import Image
from safetensors.torch import save_file
from small_networks import vgg16

WEIGHTS = vgg16()
LAYERS = {2: "relu1_2", 7: "relu2_2", 14: "relu3_3", 21: "relu4_3"}


@pytest.fixture
def photos(tmp_path):
    """Write two photos of blocks, one upright, and return their paths."""
    random, paths = np.random.default_rng(4), []
    for name, size in (("a.png", (6, 9)), ("b.jpg", (8, 5))):
        pixels = random.integers(0, 256, (*size, 3), np.uint8).repeat(13, axis=0).repeat(13, axis=1)
        (tmp_path / "photos").mkdir(exist_ok=True)
        paths.append(tmp_path / "photos" / name)
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def painting(tmp_path):
    """Write a painting, and return its path."""
    return save_noise(tmp_path / "painting.png", 90, 70)


@pytest.fixture
def small(monkeypatch):
    """Make the yardstick's images small, so that tests are fast."""
    from perceptual_style.core.evaluation import yardstick

    monkeypatch.setattr(yardstick, "PHOTO_SIDE", 72)
    monkeypatch.setattr(yardstick, "STYLE_SIZES", (48, 64, 80, 96))


def features(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return VGG-16's features of 8-bit RGB (H, W, 3) by layer, (C, positions) in float64, from the published layout."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy((image / 255 - mean) / std).permute(2, 0, 1)[None]
    found = {}
    for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21):
        if index in (5, 10, 17):
            x = F.max_pool2d(x, 2)
        weight, bias = (WEIGHTS[f"features.{index}.{part}"].double() for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding=1).relu()
        if index in LAYERS:
            found[LAYERS[index]] = x[0].flatten(1).numpy()
    return found


def expected(model, paths, painting, photo_side=72, style_sizes=(48, 64, 80, 96)):
    """Return style distance by layer, size, content distance and steadiness, as the module describes them."""

    def relative(a, b):
        one, two = (x @ x.T / x.shape[1] for x in (a, b))
        return ((one - two) ** 2).sum() / (two**2).sum()

    art, targets = Image.open(painting), {}
    for size in style_sizes:
        factor = size / max(art.size)
        sides = tuple(round(side * factor) for side in art.size)
        targets[size] = features(np.array(art.resize(sides, Image.LANCZOS)))
    distances, contents, changes = {size: [] for size in style_sizes}, [], []
    for path in paths:
        photo = Image.open(path).convert("RGB")
        factor = photo_side / min(photo.size)
        photo = np.array(photo.resize(tuple(round(side * factor) // 4 * 4 for side in photo.size), Image.LANCZOS))
        image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
        height, width = photo.shape[:2]
        # the network itself, not the engine
        picture = model.network(image)[..., :height, :width].clamp(0, 1)
        moved = model.network(image[..., 1 : height - 3, 1 : width - 3])[..., : height - 4, : width - 4].clamp(0, 1)
        inner = picture[..., 25 : height - 27, 25 : width - 27] - moved[..., 24 : height - 28, 24 : width - 28]
        changes.append(float(inner.abs().mean()) * 255)
        seen, own = features(picture[0].permute(1, 2, 0).double().numpy() * 255), features(photo)
        for size in style_sizes:
            distances[size].append([relative(seen[layer], targets[size][layer]) for layer in LAYERS.values()])
        one, two = (each["relu3_3"] / (np.linalg.norm(each["relu3_3"], axis=0) + 1e-8) for each in (seen, own))
        contents.append(((one - two) ** 2).sum(axis=0).mean())
    best = min(style_sizes, key=lambda size: np.mean(distances[size]))
    return np.mean(distances[best], axis=0), best, np.mean(contents), np.mean(changes)


def test_values_equal_float64_and_numpy(small, photos, painting):
    model = style_model("c3s1-4,d4,R4,n2,c3s1-3 padding=reflect", seed=3)
    measured = Yardstick(photos, WEIGHTS).measure(model, read_image(painting).pixels)
    layers, size, content, steadiness = expected(model, photos, painting)
    assert list(measured.layers) == list(LAYERS.values()) and measured.size == size
    assert list(measured.layers.values()) == pytest.approx(layers, rel=2e-4)
    assert measured.style_distance == pytest.approx(layers.mean(), rel=2e-4)
    assert measured.content_distance == pytest.approx(content, rel=2e-4)
    assert measured.steadiness == pytest.approx(steadiness, rel=2e-3) and steadiness > 0.1
    assert [each.photo for each in measured.photos] == ["a.png", "b.jpg"]


class Copy:
    """A style that leaves photos as they are, or brightens them by a pattern fixed to the frame."""

    name = "copy"

    def __init__(self, pattern: float = 0.0) -> None:
        self.pattern = pattern

    def stylize(self, image, precision):
        assert precision == "fp32"
        stripes = (torch.arange(image.shape[-1]) % 2) * self.pattern
        return 0.8 * image + stripes


def test_photos_themselves_have_no_content_distance_and_are_steady(small, photos, painting):
    class Same(Copy):
        def stylize(self, image, precision):
            return image.clone()

    measured = Yardstick(photos, WEIGHTS).measure(Same(), read_image(painting).pixels)
    assert measured.content_distance == 0 and measured.steadiness == 0
    assert measured.style_distance == measured.unchanged > 0


def test_pictures_of_photos_equal_to_the_painting_have_no_style_distance(small, painting):
    class Same(Copy):
        def stylize(self, image, precision):
            return image.clone()

    from perceptual_style.core.evaluation import yardstick

    square = read_image(painting).pixels[..., :64, :64]
    ruler = Yardstick([painting], WEIGHTS)
    ruler._targets = [ruler._look(scaled(square, 64, max))]
    ruler.photos = [scaled(square, 64, max)]
    measured = ruler.measure(Same(), square)
    assert measured.style_distance == 0 and measured.size == yardstick.STYLE_SIZES[1] == 64


def test_steadiness_is_the_change_of_what_stays_with_the_frame():
    photo = torch.rand(1, 3, 72, 80) * 0.5
    for pattern in (0.0, 0.1):
        model = Copy(pattern)
        change = change_when_moved(model, photo, model.stylize(photo, "fp32"))
        assert change == pytest.approx(255 * pattern, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "expected_size"), [((100, 200), (384, 768)), ((385, 299), (492, 384)), ((7, 9), (384, 492))]
)
def test_photos_have_a_short_side_of_384_and_multiples_of_four(size, expected_size, tmp_path):
    path = save_noise(tmp_path / "a.png", size[1], size[0])
    assert tuple(yardstick_photo(path).shape[-2:]) == expected_size


def test_progress_counts_photos_and_stops_work(small, photos, painting, stop_at):
    ruler, model, seen = Yardstick(photos, WEIGHTS), style_model(), []
    ruler.measure(model, read_image(painting).pixels, seen.append)
    assert [(each.done, each.total) for each in seen] == [(1, 2), (2, 2)]
    with pytest.raises(RuntimeError, match="enough"):
        ruler.measure(model, read_image(painting).pixels, stop_at(1, RuntimeError("enough")))


def test_photos_and_weights_are_checked(photos, tmp_path):
    with pytest.raises(ImageError, match="no photos to measure with"):
        Yardstick([], WEIGHTS)
    shallow = {key: value for key, value in WEIGHTS.items() if not key.startswith("features.21")}
    with pytest.raises(CheckpointError, match="lacks relu4_3 of vgg16"):
        Yardstick(photos, shallow)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(ImageError, match="broken.jpg"):
        Yardstick([*photos, tmp_path / "broken.jpg"], WEIGHTS)


def test_table_and_json_have_every_value(small, photos, painting):
    measured = Yardstick(photos, WEIGHTS).measure(style_model(name="mine"), read_image(painting).pixels)
    text = markdown([measured, measured], "0123abcd")
    row = (
        f"| mine | {measured.style_distance:.3f} | {measured.unchanged:.3f} | {measured.size} | "
        f"{measured.content_distance:.3f} | {measured.steadiness:.1f} |"
    )
    assert text.count(row) == 2 and "weights 0123abcd" in text and "2 photos" in text
    answer = as_json([measured], "0123abcd")
    assert json.loads(json.dumps(answer)) == answer and answer["weights"] == "0123abcd"
    (style,) = answer["styles"]
    assert style["style distance"] == measured.style_distance and style["layers"] == measured.layers
    assert math.isclose(np.mean([photo["steadiness"] for photo in style["photos"]]), style["steadiness"])


def test_sheet_has_a_row_for_each_photo_and_a_column_for_each_style(small, photos, tmp_path):
    models, seen = [style_model(name="one"), style_model(seed=1, name="two")], []
    path = write_sheet(tmp_path / "sheet.png", models, photos, progress=seen.append)
    assert [(each.done, each.total) for each in seen] == [(n, 4) for n in range(1, 5)]
    pixels = read_image(path).pixels
    contents = [yardstick_photo(photo) for photo in photos]
    width, top = max(content.shape[-1] for content in contents), 16
    assert pixels.shape[-1] == 2 * 16 + 3 * width + 2 * 12
    for content in contents:
        height, own = content.shape[-2:]
        pictures = [content, *(model.stylize(content, precision="fp32") for model in models)]
        for column, picture in enumerate(pictures):
            left = 16 + column * (width + 12) + (width - own) // 2
            found = pixels[..., top : top + height, left : left + own]
            assert (found - picture).abs().max() <= 0.5 / 255 + 1e-6
        top += height + 8 + 22 + 16 // 2 + 16
    assert pixels.shape[-2] == top - 16


@pytest.fixture
def command(small, photos, painting, tmp_path):
    """Return the arguments of a short evaluation, without the styles."""
    save_file(WEIGHTS, tmp_path / "vgg16.safetensors")
    return ["--data", tmp_path / "photos", "--style-image", painting, "--vgg16", tmp_path / "vgg16.safetensors"]


@pytest.mark.slow
def test_command_measures_own_and_foreign_styles_and_draws_a_sheet(run, command, tmp_path, monkeypatch):
    hide_optional_packages(monkeypatch)  # it works right after installation
    own, foreign = save_style(tmp_path / "own.safetensors"), tmp_path / "theirs.pth"
    torch.save(make("pytorch/examples"), foreign)
    shown = []
    original = sheet_module.write_sheet
    monkeypatch.setattr(
        "perceptual_style.core.cli.evaluate_style.write_sheet",
        lambda path, models, photos, *more: shown.append(photos) or original(path, models, photos, *more),
    )
    arguments = ["evaluate", "style", own, foreign, *command]
    status, out, _ = run(*arguments, "-o", tmp_path / "out", "--sheet", tmp_path / "sheet.jpg")
    assert status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"yardstick.md", "yardstick.json"}
    assert (tmp_path / "out" / "yardstick.md").read_text(encoding="utf-8") == out
    assert "| own |" in out and "| theirs |" in out
    assert read_image(tmp_path / "sheet.jpg").pixels.shape[-1] > 3 * 72
    answer = json.loads((tmp_path / "out" / "yardstick.json").read_text(encoding="utf-8"))
    photos = [tmp_path / "photos" / name for name in ("a.png", "b.jpg")]
    ruler = Yardstick(photos, tmp_path / "vgg16.safetensors")
    again = ruler.measure(load_style(foreign), read_image(tmp_path / "painting.png").pixels)
    assert answer["styles"][1]["style distance"] == pytest.approx(again.style_distance, rel=1e-5)

    options = ("--photos", 1, "--sheet", tmp_path / "sheet.png", "--sheet-photos", tmp_path / "photos", "--json")
    status, out, _ = run(*arguments, *options)
    assert status == 0 and [len(style["photos"]) for style in json.loads(out)["yardstick"]["styles"]] == [1, 1]
    assert [len(each) for each in shown] == [2, 2]


def test_command_errors_are_one_line_and_come_before_work(refused, command, tmp_path, monkeypatch):
    monkeypatch.setattr("perceptual_style.core.cli.evaluate_style.Yardstick", None)
    own = save_style(tmp_path / "own.safetensors")
    arguments = ["evaluate", "style", own, *command]
    assert "suffix" in refused(*arguments, "--sheet", tmp_path / "sheet.txt")
    assert "there are 2 style images for 1 styles" in refused(
        *arguments, "--style-image", tmp_path / "painting.png", tmp_path / "painting.png"
    )
    assert "nothing does not exist" in refused(*arguments, "--sheet", tmp_path / "a.jpg", "--sheet-photos", "nothing")
    without_weights = [each for each in arguments if each not in ("--vgg16", tmp_path / "vgg16.safetensors")]
    assert "perceptual-style download vgg16" in refused(*without_weights)
