"""Test the training term against a grid of the network's stride."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.losses.functional import stride_grid_loss
from perceptual_style.core.training.state import as_json
from perceptual_style.core.training.style_recipes import RECIPES
from perceptual_style.core.training.train_style import run_training

SIDE = 128


def lines(period: int) -> torch.Tensor:
    """Return dark columns, one px wide, every ``period`` px on a grey picture, (1, 3, SIDE, SIDE)."""
    picture = torch.full((1, 3, SIDE, SIDE), 0.5)
    picture[..., ::period] = 0.4
    return picture


@pytest.fixture
def strokes():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_lines_of_the_stride_cost_and_others_do_not():
    assert stride_grid_loss(lines(4), 4) > 1e-3
    for period in (3, 5, 7):
        assert stride_grid_loss(lines(period), 4) < 0.01 * stride_grid_loss(lines(4), 4)


def test_strokes_ramps_and_flat_pictures_cost_little(strokes):
    grid = stride_grid_loss(lines(4), 4)
    ramp = torch.linspace(0, 1, SIDE).expand(1, 3, SIDE, SIDE)
    assert stride_grid_loss(ramp, 4) < 0.01 * grid
    assert stride_grid_loss(torch.full((1, 3, SIDE, SIDE), 0.5), 4) < 1e-10
    # Noise has 60 times the lines' power; what is left of it is the chance in the mean of 256 blocks.
    assert stride_grid_loss(strokes, 4) < grid


def test_gradient_removes_the_lines_and_leaves_strokes(strokes):
    picture = (0.4 + 0.2 * strokes + lines(4) - 0.5).requires_grad_(True)
    before = stride_grid_loss(picture, 4)
    before.backward()
    step = picture.detach() - 10_000 * picture.grad
    assert stride_grid_loss(step, 4) < 0.5 * before
    assert (step - picture.detach()).abs().max() < 0.1, "the lines have 0.1"


def test_term_makes_the_grid_weaker(new_run, uninterrupted, same):
    seen = []
    run_training(new_run("grid", stride_grid=200_000.0, steps=20), seen.append)
    assert seen[-1].losses["stride grid"] < 0.5 * seen[0].losses["stride grid"]
    assert same(run_training(new_run("none", stride_grid=0.0)), uninterrupted)


def test_run_with_the_term_resumes_bit_for_bit(resumes):
    assert resumes(4, stride_grid=50.0)


def test_only_our_recipes_have_the_term():
    assert RECIPES["quick"].stride_grid == RECIPES["standard"].stride_grid > 0
    for name in ("paper", "authors"):
        assert RECIPES[name].stride_grid == 0 and "stride_grid" not in as_json(RECIPES[name])
