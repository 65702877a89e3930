"""Test training of a predictor: its paintings, exact resuming, what it starts from, and styles that start from it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import SMALL, TINY, save_style
from perceptual_style.core.errors import Cancelled, ImageError, InputError, TrainingError
from perceptual_style.core.images.color import luma
from perceptual_style.core.models.predict import open_predictor, predict_style
from perceptual_style.core.models.predictor_file import load_predictor
from perceptual_style.core.network.styles import rows_of
from perceptual_style.core.training import gradients
from perceptual_style.core.training.base_styles import base_file
from perceptual_style.core.training.lattice import without_lattice
from perceptual_style.core.training.paintings import PaintedPhotos, PaintingFolder, turned
from perceptual_style.core.training.photos import PhotoFolder
from perceptual_style.core.training.predictor_recipes import BASE, PREDICTOR_RECIPE
from perceptual_style.core.training.style_start import begin
from perceptual_style.core.training.train_predictor import train_predictor
from perceptual_style.core.training.train_style import run_training
from PIL import Image
from safetensors.torch import load_file
from small_networks import small_vgg16

WIDE = dataclasses.replace(
    PREDICTOR_RECIPE, arch=SMALL, steps=6, size=32, style_size=32, batch_size=2, warmup=1, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    """Five paintings of stripes and a broken one."""
    folder, random = tmp_path_factory.mktemp("paintings"), np.random.default_rng(2)
    for n in range(5):
        stripes = random.integers(0, 256, (1, 8, 3), np.uint8).repeat(64 + n, axis=0).repeat(8 + n, axis=1)
        Image.fromarray(stripes).save(folder / f"{n}.png")
    (folder / "2_broken.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """File of a small loss network."""
    return small_vgg16(tmp_path_factory.mktemp("loss") / "vgg16_small.safetensors")


@pytest.fixture
def trained(tmp_path, paintings, training_photos, eyes, monkeypatch):
    """Function that trains a tiny predictor and returns its file."""
    monkeypatch.setattr("perceptual_style.core.training.train_predictor.loss_weights_file", lambda *_: eyes)

    def make(name: str = "any", recipe=WIDE, progress=None, **settings):
        settings = {"device": "cpu", "precision": "fp32", "checkpoint_seconds": 1e9, "seed": 3} | settings
        source = settings.pop("paintings", paintings)
        return train_predictor(
            source, training_photos, tmp_path / f"{name}.safetensors", recipe=recipe, progress=progress, **settings
        )

    return make


def test_turning_colors_keeps_greys_and_exchanges_channels():
    image = torch.rand(3, 5, 6) * 0.2 + 0.4
    assert torch.allclose(turned(image, 0), image, atol=1e-6)
    assert torch.allclose(turned(image, 2 * math.pi / 3), image.roll(1, dims=0), atol=1e-6)
    assert torch.allclose(turned(image, 1.0).sum(dim=0), image.sum(dim=0), atol=1e-5)
    grey = torch.rand(1, 5, 6).expand(3, 5, 6)
    assert torch.allclose(turned(grey, 2.5), grey, atol=1e-6)
    assert not torch.allclose(luma(turned(image, 1.0)[None]), luma(image[None]), atol=1e-3)


def test_paintings_depend_only_on_seed_and_index(paintings):
    one, again = (PaintingFolder(paintings, 32, 4, seed=5) for _ in range(2))
    forward = [one.batch(index) for index in range(8)]
    backward = [again.batch(index) for index in reversed(range(8))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert [path.name for path in one.skipped] == ["2_broken.png"]
    seen = torch.cat(forward)
    assert seen.shape == (32, 3, 32, 32) and seen.min() >= 0 and seen.max() <= 1
    assert len({crop.numpy().tobytes() for crop in seen}) == 32
    assert not torch.equal(PaintingFolder(paintings, 32, 4, seed=6).batch(0), forward[0])
    assert torch.equal(torch.cat([one.batch(3, (part, 2)) for part in range(2)]), forward[3][[0, 2, 1, 3]])


def test_paintings_come_in_another_order_than_as_many_photos(paintings):
    photos, folder = PhotoFolder(paintings, 32, 6, seed=5), PaintingFolder(paintings, 32, 6, seed=5)
    assert photos.seed == 5 != folder.seed
    both = PaintedPhotos(photos, folder)
    content, style = both.batch(0)
    assert torch.equal(content, photos.batch(0)) and torch.equal(style, folder.batch(0))
    assert set(both.skipped) == {paintings / "2_broken.png"} and both.batch_size == 6


def test_folder_without_a_readable_painting_is_rejected(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match="none of the 1 paintings can be read"):
        PaintingFolder(tmp_path, 32, 1).batch(0)


def test_recorded_steps_give_the_same_predictor(trained, replays, monkeypatch):
    recipe = dataclasses.replace(WIDE, steps=6)
    recorded = load_file(trained("recorded", recipe))
    assert replays == [3]
    monkeypatch.setattr(gradients, "can_record", lambda device: False)
    expected = load_file(trained("plain", recipe))
    assert all(torch.equal(recorded[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_training_learns_and_gives_a_predictor(trained, paintings):
    seen = []
    path = trained(recipe=dataclasses.replace(WIDE, steps=24), progress=seen.append, facts={"license": "MIT"})
    assert {"weave", "stride grid"} <= seen[0].losses.keys()
    totals = [sum(progress.losses.values()) for progress in seen]
    assert np.mean(totals[-8:]) < 0.95 * np.mean(totals[:8])
    predictor = open_predictor(path)
    assert predictor.name == "any" and predictor.facts["license"] == "MIT" and predictor.facts["recipe"]["size"] == 32
    assert predictor.network.encoder.spec == WIDE.encoder
    one, other = (
        predict_style(PaintingFolder(paintings, 64, 1).plain(paintings / f"{n}.png")[None], predictor=predictor)
        for n in (0, 3)
    )
    photo = torch.rand(1, 3, 24, 32)
    assert (one.stylize(photo) - other.stylize(photo)).abs().max() > 1e-3


@pytest.mark.parametrize("step", [1, 5])
def test_run_resumes_bit_for_bit(step, trained, stop_at):
    expected = load_file(trained("expected"))
    with pytest.raises(Cancelled):
        trained(progress=stop_at(step))
    resumed = load_file(trained())
    assert resumed.keys() == expected.keys() and all(torch.equal(resumed[key], expected[key]) for key in expected)
    assert trained() == trained("any")  # finished: nothing is done


def test_run_with_other_paintings_is_another_run(trained, stop_at, tmp_path, paintings):
    with pytest.raises(Cancelled):
        trained(progress=stop_at(2))
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "0.png").write_bytes((paintings / "0.png").read_bytes())
    with pytest.raises(TrainingError, match="another paintings"):
        trained(paintings=fewer)
    assert trained(), "the checkpoint is kept"


def test_run_starts_from_a_style_or_a_predictor(trained, tmp_path):
    base = save_style(tmp_path / "base.safetensors", TINY)
    short = dataclasses.replace(WIDE, steps=1, learning_rate=1e-9, average=0.0)
    from_style = load_predictor(trained("from_style", short, init_from=base))[0]
    assert from_style.trunk.spec.last == "norm", "it has the colors of paintings from the start"
    style = load_file(base)
    kernel = f"stages.{len(from_style.trunk.stages) - 1}.conv.weight"
    style[kernel] = without_lattice(style[kernel])
    assert all(torch.allclose(from_style.trunk.state_dict()[key], style[key], atol=1e-6) for key in style)
    first = trained("first")
    further = load_file(trained("further", short, init_from=first))
    assert all(torch.allclose(further[key], value, atol=1e-5) for key, value in load_file(first).items())
    new = load_predictor(trained("new", short))[0]
    assert not new.head.weight.abs().max() > 1e-6


@pytest.mark.slow
def test_style_training_starts_from_what_a_predictor_predicts(trained, new_run):
    predictor = trained()
    run = new_run(init_from=predictor)
    model = predict_style(run.style_image, predictor=predictor)
    start = begin(SMALL, ["x"], 0, init_from=predictor, add_to=None, paintings=[run.style_image])
    assert all(torch.equal(start.network.state_dict()[key], value) for key, value in model.network.state_dict().items())
    assert all(parameter.requires_grad for parameter in start.network.parameters())
    two = begin(SMALL, ["x", "y"], 0, init_from=predictor, add_to=None, paintings=[run.style_image] * 2)
    (row,) = rows_of(start.network)
    assert all(torch.equal(each[key], row[key]) for each in rows_of(two.network) for key in row)
    assert run_training(run) == run.out
    assert base_file(predictor, "quick", 4) == predictor
    with pytest.raises(InputError, match="is 4 channels wide, not 8"):
        base_file(predictor, "quick", 8)


def test_recipe_is_checked():
    with pytest.raises(InputError, match="average is 1; expected a decay from 0 to below 1"):
        dataclasses.replace(PREDICTOR_RECIPE, average=1)
    assert base_file(BASE, "predictor").is_file()
