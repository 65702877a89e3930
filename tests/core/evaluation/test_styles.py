"""Measure styles: the objective, the iterations, the reports, and rejected input."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers import hide_optional_packages
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.evaluation import styles as module
from perceptual_style.core.evaluation.style_report import as_json, markdown, verdict
from perceptual_style.core.evaluation.styles import (
    PhotoValues,
    Speed,
    StyleEvaluation,
    evaluate_style,
    reached,
    spread,
    square_photo,
)
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.writing import save_image
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.optimize_image import build_objective, descend, noise
from perceptual_style.core.training.photos import fit_style_image
from perceptual_style.core.training.state import as_json as recipe_as_json
from perceptual_style.core.training.state import file_digest, image_digest
from perceptual_style.core.training.style_recipes import get_recipe, recipe_of
from safetensors.torch import save_file
from small_networks import small_vgg16, vgg16

ARCH = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh"
RECIPE = dataclasses.replace(get_recipe("standard"), style_size=64)
STATED = {key: value for key, value in recipe_as_json(RECIPE).items() if key != "recolor"}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return small_vgg16(tmp_path_factory.mktemp("network") / "narrow.safetensors")


@pytest.fixture
def folder(tmp_path):
    """Write five photos that are not square, and a painting beside their folder."""
    generator = torch.Generator().manual_seed(3)
    for n in range(5):
        save_image(tmp_path / "photos" / f"{n}.png", torch.rand(3, 40 + n, 61, generator=generator))
    save_image(tmp_path / "painting.png", torch.rand(3, 66, 80, generator=generator).square())
    return tmp_path


@pytest.fixture
def style(folder, network):
    """Write an untrained style file that records its recipe and training data."""
    painting = read_image(folder / "painting.png").pixels
    run = {"style image": image_digest(painting), "loss network": file_digest(network)}
    facts = {"task": "style", "title": "Tiny", "recipe": STATED}
    facts["run"] = {**run, "recipe": facts["recipe"]}
    save_network(folder / "tiny.safetensors", build_network(ARCH), facts)
    return folder / "tiny.safetensors"


@pytest.fixture
def evaluate(style, folder, network):
    """Return a function that calls evaluate_style on two photos of 32 px, with two iterations."""

    def run(**settings):
        settings = {"recipe": RECIPE, "loss_weights": network, "size": 32, "iterations": 2, **settings}
        photos = settings.pop("photos", [folder / "photos" / f"{n}.png" for n in (1, 3)])
        return evaluate_style(load_style(style), read_image(folder / "painting.png").pixels, photos, **settings)

    return run


def test_recipe_is_read_from_file(style):
    assert recipe_of({"recipe": json.loads(json.dumps(recipe_as_json(RECIPE)))}, "tiny") == RECIPE
    assert recipe_of(load_style(style).facts, "tiny").weights == RECIPE.weights
    for facts in ({}, {"recipe": "ImageNet"}, {"recipe": {"weights": {"unheard": 1}}}, {"recipe": {"steps": 4}}):
        with pytest.raises(InputError, match="tiny does not state the recipe"):
            recipe_of(facts, "tiny")


def test_spread_chooses_evenly():
    assert spread(list("abcdefghij"), 3) == ["b", "f", "i"]
    assert spread(list("abc"), None) == list("abc") == spread(list("abc"), 3)
    for number in (0, 4):
        with pytest.raises(InputError, match=f"{number} photos were requested; expected 1 to 3"):
            spread(list("abc"), number)


def test_square_photo_is_the_middle_square(tmp_path):
    pixels = torch.zeros(3, 40, 100)
    pixels[:, :, 30:70] = 1
    save_image(tmp_path / "a.png", pixels)
    assert torch.equal(square_photo(tmp_path / "a.png", 40), torch.ones(1, 3, 40, 40))
    assert square_photo(tmp_path / "a.png", 64).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("start", ["noise", "content"])
def test_values_equal_a_step_by_step_computation(evaluate, style, folder, network, start):
    evaluation = evaluate(start=start, seed=7)
    assert [photo.photo for photo in evaluation.photos] == ["1.png", "3.png"]
    photo, painting = square_photo(folder / "photos" / "1.png", 32), read_image(folder / "painting.png").pixels
    painting = fit_style_image(painting, 64)
    objective = build_objective(RECIPE, RECIPE.weights, network, painting, "cpu")

    def value(image) -> float:
        return float(sum(objective(image, photo).values()))

    found = evaluation.photos[0]
    assert sum(found.content.values()) == pytest.approx(value(photo), rel=1e-5)
    assert sum(found.network.values()) == pytest.approx(value(load_style(style).stylize(photo)), rel=1e-5)
    begin = noise(photo, 7) if start == "noise" else photo
    curve = [sum(parts.values()) for _, parts in descend(lambda image: objective(image, photo), begin, 2)]
    assert found.curve == pytest.approx(curve, rel=1e-4) and len(curve) == 3
    assert sum(found.optimized.values()) == pytest.approx(curve[-1], rel=1e-4)


def test_terms_for_training_networks_only_are_left_out(evaluate):
    plain = evaluate(recipe=dataclasses.replace(RECIPE, saturation=1.0 - RECIPE.saturation))
    assert evaluate().photos[0] == plain.photos[0]


def fake(curves, network: float, **more) -> StyleEvaluation:
    """Return an evaluation of photos with these curves."""
    photos = [
        PhotoValues(f"{n}.png", {"content a": 50.0}, {"content a": network}, {"content a": curve[-1]}, tuple(curve))
        for n, curve in enumerate(curves)
    ]
    return StyleEvaluation("tiny", "Tiny", RECIPE, 256, "noise", "cpu", photos, **more)


def test_worth_is_the_first_iteration_as_good_as_one_pass():
    assert reached([9, 7, 5, 3], 5) == 2 and reached([9, 7, 5, 3], 5.1) == 2 and reached([9, 7, 5, 3], 4.9) == 3
    assert reached([9, 7, 5, 3], 2) is None and reached([9], 10) == 0
    evaluation = fake([[30, 20, 10, 6, 4], [30, 30, 20, 12, 10]], 10)
    assert evaluation.curve == [30, 25, 15, 9, 7] and evaluation.worth == 3
    assert [photo.worth for photo in evaluation.photos] == [2, 4]
    assert "worth 3 iterations of optimization at 256 px (by the mean objective of 2 photos" in verdict(evaluation)
    assert "for single photos 2 to 4, median 3" in verdict(evaluation)
    assert "worth more than 4 iterations" in verdict(fake([[30, 20, 10, 6, 4]], 1))


def test_report_has_paper_times_only_for_paper_sizes():
    text = markdown(
        fake([[30, 20, 10]], 15, speeds=[Speed(256, 0.5, 1.0), Speed(300, 0.5, 1.0)], notes=["Caution: x."])
    )
    assert "| 256 | 0.500 | 100.00 | 300.00 | 500.00 | 200 | 600 | 1000 |" in text
    assert "| 256 (paper) | 0.015 | 3.17 | 9.52 | 15.86 | 211 | 635 | 1057 |" in text
    assert "| 300 | 0.500 |" in text and "300 (paper)" not in text and "Caution: x." in text
    assert "| the network | 15.000 | 15.000 |" in text and "| objective | 30.000 | 20.000 | 10.000 |" in text
    assert "(paper)" not in markdown(fake([[30, 20, 10]], 15))


def test_json_has_every_value():
    answer = as_json(fake([[30, 20, 10], [10, 9, 8]], 15, speeds=[Speed(64, 0.5, 1.0)]))
    assert json.loads(json.dumps(answer)) == answer
    assert answer["mean"] == {"content": 50, "network": 15, "optimized": 9, "curve": [20, 14.5, 9]}
    assert [photo["worth"] for photo in answer["photos"]] == [2, 0] and answer["worth"] == 1
    assert answer["speed"][0]["speed-up"] == {"100": 200, "300": 600, "500": 1000}
    assert answer["recipe"]["weights"]["content"] == RECIPE.weights.content


def test_notes_caution_about_a_different_objective(evaluate, folder, network, tmp_path):
    assert list(evaluate().notes) == []
    other = dataclasses.replace(RECIPE, name="mine", weights=RECIPE.weights.scaled(style=2))
    assert "trained with another recipe" in " ".join(evaluate(recipe=other).notes)
    save_image(folder / "painting.png", torch.rand(3, 66, 80))
    (note,) = evaluate().notes
    assert note.startswith("Caution: ") and "trained with another style image" in note
    weights = small_vgg16(tmp_path / "other.safetensors", seed=6)
    assert "trained with another loss network" in " ".join(evaluate(loss_weights=weights).notes)


def test_times_are_measured_once_per_size(evaluate, monkeypatch):
    monkeypatch.setattr(module, "_REPEATS", 1)
    speeds = evaluate(sizes=[32, 40, 32]).speeds
    assert [each.size for each in speeds] == [32, 40]
    assert all(0 < each.network < 60 and 0 < each.iteration < 60 for each in speeds)


def test_progress_counts_iterations_and_stops_work(evaluate, stop_at):
    seen = []
    evaluate(progress=seen.append)
    assert [(each.done, each.total) for each in seen] == [(n, 4) for n in range(1, 5)]
    with pytest.raises(RuntimeError, match="enough"):
        evaluate(progress=stop_at(3, RuntimeError("enough")))


def test_bad_input_is_rejected_before_any_work(evaluate, folder):
    seen, broken = [], folder / "photos" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff broken")
    for settings, message in (
        ({"size": 16}, "size is 16; expected at least 32"),
        ({"iterations": 0}, "iterations is 0; expected at least 1"),
        ({"examples": -1}, "examples is -1"),
        ({"start": "photo"}, "start is 'photo'"),
        ({"photos": []}, "no photos to measure with"),
        ({"sizes": [256, 8]}, "size is 8; expected at least 32"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(progress=seen.append, **settings)
    with pytest.raises(ImageError, match="broken.jpg"):
        evaluate(photos=[folder / "photos" / "1.png", broken], progress=seen.append)
    assert not seen


@pytest.fixture
def command(style, folder, network):
    """Return the arguments of a short evaluation."""
    save_file(vgg16(), folder / "vgg16.safetensors")
    settings = ["--style-image", folder / "painting.png", "--loss-weights", network, "-o", folder / "out"]
    settings += ["--worth", "--vgg16", folder / "vgg16.safetensors", "--size", 32, "--iterations", 2, "--sizes"]
    return ["evaluate", "style", style, "--data", folder / "photos", *settings]


@pytest.mark.slow
def test_command_writes_page_json_plot_and_pictures(run, command, folder, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(module, "_REPEATS", 1)
    status, out, _ = run(*command, 32, "--photos", 2, "--examples", 1)
    assert status == 0
    names = {"yardstick.md", "yardstick.json", "style.md", "style.json", "style.png", "example1_3.png"}
    assert {path.name for path in (folder / "out").iterdir()} == names
    pages = [(folder / "out" / name).read_text(encoding="utf-8") for name in ("yardstick.md", "style.md")]
    assert "\n".join(pages) == out
    answer = json.loads((folder / "out" / "style.json").read_text(encoding="utf-8"))
    assert [photo["photo"] for photo in answer["photos"]] == ["1.png", "3.png"]
    assert [each["size"] for each in answer["speed"]] == [32]
    plot = read_image(folder / "out" / "style.png").pixels
    assert plot.shape[-1] > 600 and float(plot.std()) > 0.1, "nothing is drawn"
    panel = read_image(folder / "out" / "example1_3.png").pixels[..., 16 : 16 + 192, 16 : 16 + 192]
    photo = square_photo(folder / "photos" / "3.png", 32).repeat_interleave(6, 2).repeat_interleave(6, 3)
    assert (panel - photo).abs().max() <= 0.5 / 255 + 1e-6
    status, out, _ = run(*command, "--photos", 1, "--examples", 0, "--json")
    answer = json.loads(out)
    assert status == 0 and answer["optimization"]["iterations"] == 2 and answer["optimization"]["speed"] == []
    assert [each["style"] for each in answer["yardstick"]["styles"]] == ["tiny"]


def test_command_without_matplotlib_says_what_to_install(refused, command, folder, monkeypatch):
    hide_optional_packages(monkeypatch)
    line = refused(*command)
    assert 'needs the package matplotlib: pip install "perceptual-style[bench]"' in line
    assert not (folder / "out").exists()


def test_command_errors_are_one_line(refused, command, folder):
    pytest.importorskip("matplotlib")
    save_network(folder / "bare.safetensors", build_network(ARCH), {"task": "style"})
    assert "bare.safetensors does not state the recipe" in refused(
        *command[:2], folder / "bare.safetensors", *command[3:]
    )
    assert "9 photos were requested; expected 1 to 5" in refused(*command, "--photos", 9)
    assert "--worth is for one style, and there are 2" in refused(*command[:3], command[2], *command[3:])
    without_output = [each for each in command if each not in ("-o", folder / "out")]
    assert "give the folder for them: -o OUTDIR" in refused(*without_output)
    assert "unknown recipe" in refused(*command, "--recipe", "fast")
    assert "no such file" in refused(*command, "--style-image", folder / "nothing.png")
    assert "does not exist" in refused(*command, "--loss-weights", folder / "nothing")
    assert "is a file; expected a folder" in refused(*command, "-o", folder / "painting.png")
    assert not (folder / "out").exists()
