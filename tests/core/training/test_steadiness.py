"""Test the training term for pictures that do not flicker: its copies, exact resuming, and that training reduces it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_network
from perceptual_style.core.errors import InputError
from perceptual_style.core.losses.functional import moved, steadiness_loss
from perceptual_style.core.training import gradients, train_style
from perceptual_style.core.training.disturbances import LONGEST_MOVE, disturbed
from perceptual_style.core.training.state import as_json
from perceptual_style.core.training.style_recipes import RECIPES
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file


def test_copies_are_moved_and_noisy_within_their_limits():
    photos = torch.rand(2, 3, 16, 20) * 0.8 + 0.1  # far enough from black and white that nothing is cut off
    moves, amplitudes = set(), []
    for step in range(400):
        copies, move = disturbed(photos, 3, step)
        noise = copies - moved(photos, move)
        assert torch.allclose(noise[0], noise[1], atol=1e-6)
        moves.add(move)
        amplitudes.append(float(noise.abs().max()))
    way = range(-LONGEST_MOVE, LONGEST_MOVE + 1)
    assert moves == {(down, right) for down in way for right in way} - {(0, 0)}
    assert 0.009 < min(amplitudes) < 0.012 and 0.037 < max(amplitudes) <= 0.04 + 1e-6
    assert abs(np.mean(amplitudes) - 0.025) < 0.002


def test_copies_depend_only_on_seed_and_step_and_stay_in_range():
    photos = torch.rand(4, 3, 16, 16).round()
    copies, move = disturbed(photos, 3, 7)
    assert copies.min() >= 0 and copies.max() <= 1
    again, same_move = disturbed(photos[2:], 3, 7)
    assert same_move == move and torch.equal(again, copies[2:])
    assert not torch.equal(disturbed(photos, 3, 8)[0], copies) and not torch.equal(disturbed(photos, 4, 7)[0], copies)


def test_recipe_without_the_term_is_stated_as_before():
    for recipe in RECIPES.values():
        assert recipe.steadiness == 0 and "steadiness" not in as_json(recipe)
    assert as_json(dataclasses.replace(RECIPES["quick"], steadiness=2.0))["steadiness"] == 2.0
    with pytest.raises(InputError, match="steadiness is -1"):
        dataclasses.replace(RECIPES["quick"], steadiness=-1)


def test_weight_of_zero_changes_nothing(new_run, uninterrupted, same, monkeypatch):
    monkeypatch.setattr(train_style, "disturbed", None)
    assert same(run_training(new_run("zero", steadiness=0.0)), uninterrupted)


@pytest.mark.parametrize("step", [1, 5])
def test_run_with_the_term_resumes_bit_for_bit(step, resumes):
    assert resumes(step, steadiness=5.0)


def test_term_reaches_the_weights_and_makes_pictures_steadier(new_run, uninterrupted, same):
    seen = []
    run = new_run("steady", steadiness=50.0, steps=20)
    path = run_training(run, seen.append)
    assert list(seen[0].losses)[-1] == "steadiness" and all(progress.losses["steadiness"] > 0 for progress in seen)
    plain = run_training(new_run("plain", steps=20))
    assert not same(path, load_file(plain))
    photos = torch.rand(1, 3, 8, 8).repeat_interleave(6, 2).repeat_interleave(6, 3)
    unsteady, steady = (
        sum(
            float(steadiness_loss(network(photos), network(copies), move, 4))
            for copies, move in (disturbed(photos, 9, step) for step in range(10))
        )
        for network in (load_network(file)[0] for file in (plain, path))
    )
    assert steady < 0.8 * unsteady


def test_batches_in_pieces_have_the_same_term(new_run, monkeypatch):
    whole, pieces = [], []
    run_training(new_run("whole", steadiness=5.0, steps=2, learning_rate=1e-5), whole.append)
    original = gradients.Gradients.__init__

    def one_at_a_time(self, *arguments):
        original(self, *arguments)
        self.at_once = 1

    monkeypatch.setattr(gradients.Gradients, "__init__", one_at_a_time)
    run_training(new_run("pieces", steadiness=5.0, steps=2, learning_rate=1e-5), pieces.append)
    for one, other in zip(whole, pieces, strict=True):
        assert one.losses["steadiness"] == pytest.approx(other.losses["steadiness"], rel=1e-4)


def test_command_passes_the_weight_on(run, training_photos, tmp_path, monkeypatch):
    from perceptual_style.core.cli import train_style as command
    from perceptual_style.core.images.writing import save_image

    save_image(tmp_path / "painting.png", torch.rand(3, 64, 64))
    seen = {}

    def train(*arguments, recipe, **settings):
        seen["recipe"] = recipe
        return tmp_path / "out.safetensors"

    monkeypatch.setattr(command, "train_style", train)
    arguments = (
        "train-style",
        tmp_path / "painting.png",
        "--content",
        training_photos,
        "-o",
        tmp_path / "a.safetensors",
    )
    assert run(*arguments, "--steadiness", "2.5")[0] == 0 and seen["recipe"].steadiness == 2.5
    assert run(*arguments)[0] == 0 and seen["recipe"].steadiness == 0
