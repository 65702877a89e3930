"""Test the training term against fine texture where the photo is flat."""

from __future__ import annotations

import math

import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.losses.functional import weave_loss
from perceptual_style.core.training.state import as_json
from perceptual_style.core.training.style_recipes import RECIPES, adjusted
from perceptual_style.core.training.train_style import run_training

SIDE = 96


def waves(period: float) -> torch.Tensor:
    """Return stripes in [0.4, 0.6] along a diagonal, (1, 3, SIDE, SIDE)."""
    places = torch.arange(SIDE, dtype=torch.float32)
    phase = (places[:, None] + places) / math.sqrt(2) * 2 * math.pi / period
    return (0.5 + 0.1 * torch.sin(phase)).expand(1, 3, SIDE, SIDE)


@pytest.fixture
def flat():
    return torch.full((1, 3, SIDE, SIDE), 0.5)


@pytest.fixture
def busy():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_hatch_costs_its_power_where_the_photo_is_flat(flat):
    assert weave_loss(waves(3), flat) == pytest.approx(0.1**2 / 2, rel=0.1)
    assert weave_loss(flat, flat) < 1e-12


def test_wide_strokes_and_detail_of_the_photo_cost_little(flat, busy):
    hatch = weave_loss(waves(4), flat)
    assert weave_loss(waves(24), flat) < 0.02 * hatch
    assert weave_loss(waves(4), busy) < 0.02 * hatch


def test_edges_of_the_photo_cost_less_than_a_faint_hatch_beside_them(flat):
    photo = flat.clone()
    photo[..., 48:] = 1.0
    edge = weave_loss(photo, photo)
    hatched = photo.clone()
    hatched[..., :40] = waves(4)[..., :40]
    assert weave_loss(hatched, photo) > 5 * edge


def test_loss_is_the_mean_over_photos_and_flows_to_the_picture(flat, busy):
    pictures, photos = torch.cat([waves(4), waves(3)]), torch.cat([flat, busy])
    each = [weave_loss(pictures[n : n + 1], photos[n : n + 1]) for n in range(2)]
    assert weave_loss(pictures, photos) == pytest.approx(float(sum(each)) / 2, rel=1e-5)
    picture = waves(4).clone().requires_grad_(True)
    weave_loss(picture, flat).backward()
    step = picture.detach() - 500 * picture.grad
    assert weave_loss(step, flat) < weave_loss(picture.detach(), flat)


def test_term_makes_pictures_of_flat_photos_smoother(new_run, uninterrupted, same):
    seen = []
    run_training(new_run("weave", weave=1000.0, steps=20), seen.append)
    assert "weave" in seen[0].losses
    assert seen[-1].losses["weave"] < 0.5 * seen[0].losses["weave"]
    assert same(run_training(new_run("none", weave=0.0)), uninterrupted)


def test_run_with_the_term_resumes_bit_for_bit(resumes):
    assert resumes(4, weave=50.0)


def test_weight_comes_from_the_recipe_or_the_user():
    assert RECIPES["quick"].weave == RECIPES["standard"].weave > 0
    for name in ("paper", "authors"):
        assert RECIPES[name].weave == 0 and "weave" not in as_json(RECIPES[name])
    assert adjusted(RECIPES["quick"], {}, weave=0.0).weave == 0
    with pytest.raises(InputError, match="weave is -1"):
        adjusted(RECIPES["quick"], {}, weave=-1)
