"""Test the recipes: numbers of the paper, and that both forms of its style weight are equal."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.losses import functional as losses
from perceptual_style.core.losses.loss_network import ARCHITECTURES
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.training.style_recipes import RECIPES, adjusted, get_recipe
from perceptual_style.core.training.upscale_recipes import upscale_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipe_is_consistent(recipe):
    spec = ArchSpec.parse(recipe.arch)
    assert spec.scale == 1 and spec.out_channels == 3
    assert recipe.size % spec.multiple_of == 0 and recipe.size >= spec.smallest_side
    assert set(recipe.weights.layers) <= set(ARCHITECTURES[recipe.loss_network].layers)
    assert recipe.weights.content and recipe.weights.style
    assert recipe.sources and any(text.startswith(("[P", "[C", "[ours]")) for text in recipe.sources.values())
    assert (
        recipe == get_recipe(recipe.name) and json.loads(json.dumps(dataclasses.asdict(recipe)))["name"] == recipe.name
    )


def test_paper_recipe_has_numbers_of_the_paper():
    paper = get_recipe("paper")
    assert (paper.steps, paper.batch_size, paper.size, paper.learning_rate) == (40_000, 4, 256, 1e-3)
    assert (paper.schedule, paper.warmup, paper.clip) == ("constant", 0, 0)
    assert paper.loss_network == "vgg16" and paper.weights.style_form == "paper" and paper.weights.tv_form == "code"
    assert list(paper.weights.content) == ["relu3_3"]
    assert list(paper.weights.style) == ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    assert 1e-6 <= paper.weights.tv <= 1e-4
    spec = ArchSpec.parse(paper.arch)
    assert (spec.norm, spec.padding, spec.output, spec.width) == ("batch", "reflect-start", "tanh", 32)


def test_authors_networks_are_half_as_wide_with_instance_norm():
    paper, authors = (ArchSpec.parse(get_recipe(name).arch) for name in ("paper", "authors"))
    assert authors.norm == "instance"
    assert [2 * layer.channels for layer in authors.layers[:-1]] == [layer.channels for layer in paper.layers[:-1]]
    assert dataclasses.replace(authors.layers[0], channels=32) == paper.layers[0]


def test_style_weights_of_paper_and_authors_give_same_loss(rng):
    paper, authors = get_recipe("paper").weights, get_recipe("authors").weights
    for layer, channels in zip(paper.style, (64, 128, 256, 512), strict=True):
        gram, target = (losses.gram_matrix(torch.rand(1, channels, 4, 4, generator=rng)) for _ in range(2))
        ours = paper.style[layer] * losses.style_loss(gram, target, paper.style_form)
        theirs = authors.style[layer] * losses.style_loss(gram, target, authors.style_form)
        torch.testing.assert_close(ours, theirs)


def test_unknown_recipe_error_lists_the_names():
    with pytest.raises(InputError, match="'fast'.*paper, authors, standard"):
        get_recipe("fast")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"size": 31}, "size is 31"),
        ({"style_size": -1}, "style size is -1"),
        ({"warmup": -1}, "warmup is -1"),
        ({"clip": -0.5}, "clip is -0.5"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"learning_rate": 0.0}, "learning rate is 0"),
        ({"learning_rate": 1.0}, "learning rate is 1"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
        ({"schedule": "linear"}, "'linear'.*constant or cosine"),
        ({"optimizer": "sgd"}, "'sgd'.*adam, muon"),
    ],
)
def test_numbers_out_of_range_are_rejected(change, named):
    with pytest.raises(InputError, match=named):
        dataclasses.replace(get_recipe("standard"), **change)


def test_recipes_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_recipe("standard").steps = 1


def test_quick_is_standard_with_fewer_steps():
    quick, standard = get_recipe("quick"), get_recipe("standard")
    assert (quick.steps, quick.batch_size, quick.size) == (300, 1, 256) and quick.optimizer == "muon"
    other = {"name", "steps", "batch_size", "style_size", "sources"}
    for field in {field.name for field in dataclasses.fields(quick)} - other:
        assert getattr(quick, field) == getattr(standard, field), field


def test_adjusted_replaces_only_given_numbers():
    standard = get_recipe("standard")
    assert adjusted(standard, {}, width=None, steps=None) == standard
    other = adjusted(standard, {"style": 2.0, "tv": 0.0, "content": None}, width=8, steps=7)
    assert (other.steps, other.weights.tv, ArchSpec.parse(other.arch).width) == (7, 0.0, 8)
    assert other.weights.style == {layer: 2 * weight for layer, weight in standard.weights.style.items()}
    assert other.weights.content == standard.weights.content
    assert adjusted(upscale_recipe("pixel", 4), {"pixel": 3.0}, steps=9).weights.pixel == 3.0
    for wrong in ({"steps": 0}, {"width": -1}, {"size": 8}):
        with pytest.raises(InputError):
            adjusted(standard, {}, **wrong)
