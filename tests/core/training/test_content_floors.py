"""Test that photos of little but sky or shadow do not count most in the content loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from perceptual_style.core.losses.functional import feature_loss
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.objective import Objective, ObjectiveWeights
from perceptual_style.core.training.content_floors import content_floors
from perceptual_style.core.training.photos import PhotoFolder
from perceptual_style.core.training.predictor_recipes import PREDICTOR_RECIPE
from perceptual_style.core.training.state import as_json
from perceptual_style.core.training.style_recipes import RECIPES
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file

CPU = torch.device("cpu")


def test_floor_lowers_the_loss_of_targets_below_it_only():
    target = torch.tensor([1.0, 10.0])[:, None, None, None].expand(2, 4, 8, 8)
    features = target + 1
    assert float(feature_loss(features, target, "relative")) == pytest.approx((1 + 1 / 100) / 2)
    assert float(feature_loss(features, target, "relative", floor=50.0)) == pytest.approx((1 / 50 + 1 / 100) / 2)


def test_floor_is_the_mean_norm_of_the_first_photos(loss_weights, training_photos):
    folder = PhotoFolder(training_photos, 32, 3, seed=5)
    loss_network = LossNetwork("vgg16", loss_weights, ["relu2_2"])
    objective = Objective(loss_network, ObjectiveWeights(content={"relu2_2": 1.0}, content_form="relative"))
    crops = torch.cat([folder.batch(i) for i in range(11)])
    expected = float(loss_network(crops)["relu2_2"].square().mean())
    assert content_floors(0.5, folder, objective, CPU, None) == {"relu2_2": pytest.approx(0.5 * expected, rel=1e-4)}
    assert content_floors(0.0, folder, objective, CPU, None) == {}


def test_run_with_a_floor_differs_and_resumes_bit_for_bit(new_run, same, resumes):
    weights = replace(new_run("any").recipe.weights, content_form="relative")
    without, floored = (run_training(new_run(str(f), weights=weights, content_floor=f)) for f in (0.0, 3.0))
    assert not same(floored, load_file(without))
    assert resumes(4, weights=weights, content_floor=3.0)


def test_only_our_recipes_have_a_floor():
    assert RECIPES["quick"].content_floor == RECIPES["standard"].content_floor == PREDICTOR_RECIPE.content_floor == 1
    for name in ("paper", "authors"):
        assert RECIPES[name].content_floor == 0 and "content_floor" not in as_json(RECIPES[name])
