"""Test that training keeps the last convolution from drawing a lattice of 2 px."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import SMALL
from perceptual_style.core.checkpoints.own_format import load_network
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.lattice import keeper, without_lattice
from perceptual_style.core.training.predictor_recipes import PREDICTOR_RECIPE
from perceptual_style.core.training.state import as_json
from perceptual_style.core.training.style_recipes import RECIPES
from perceptual_style.core.training.train_style import run_training


def response_to_lines(kernel: torch.Tensor) -> float:
    """Return the largest result of a convolution for lines that alternate along either axis and vary along themselves."""
    channels, size = kernel.shape[1], kernel.shape[-1]
    along = torch.rand(channels, 1, 24, dtype=kernel.dtype, generator=torch.Generator().manual_seed(1))
    lines = torch.ones(24, 1, dtype=kernel.dtype)
    lines[1::2] = -1
    images = torch.stack([lines * along, (lines * along).mT])
    return float(F.conv2d(images, kernel)[..., : 24 - size, : 24 - size].abs().max())


@pytest.fixture
def kernel():
    return torch.randn(3, 5, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [3, 5, 9])
def test_kernel_without_lattice_ignores_alternating_lines(size, kernel):
    kernel = kernel[..., :size, :size]
    assert response_to_lines(kernel) > 0.5
    assert response_to_lines(without_lattice(kernel)) < 1e-12


def test_removing_a_lattice_is_linear_and_needs_to_be_done_once(kernel):
    once = without_lattice(kernel)
    assert torch.allclose(without_lattice(once), once)
    assert torch.allclose(without_lattice(2 * kernel[:1] - kernel[1:2]), 2 * once[:1] - once[1:2])
    assert torch.allclose(without_lattice(kernel.mT), once.mT)


def test_areas_and_slow_changes_pass_as_before():
    places = torch.arange(9, dtype=torch.float64)
    smooth = torch.sin(torch.pi * (places + 1) / 10) ** 4  # has nothing at half a cycle per pixel
    smooth = (smooth[:, None] * smooth)[None, None]
    assert torch.allclose(without_lattice(smooth), smooth, atol=1e-3)
    one_pixel = F.pad(torch.ones(1, 1, 1, 1, dtype=torch.float64), (4,) * 4)
    spectrum = torch.fft.rfft(without_lattice(one_pixel)[0, 0].sum(0), 90).abs()
    assert spectrum[:28].min() > 0.93 and spectrum[45] < 1e-12  # up to 0.3 cycles per pixel


def test_trained_style_draws_no_lattice(new_run):
    plain, without = (
        load_network(run_training(new_run(f"style{int(value)}", no_lattice=value)))[0].stages[-1].conv.weight
        for value in (False, True)
    )
    assert response_to_lines(plain) > 1e-2
    assert response_to_lines(without) < 1e-5


@pytest.mark.parametrize("step", [1, 5])
def test_run_without_lattice_resumes_bit_for_bit(step, resumes):
    assert resumes(step, no_lattice=True)


@pytest.mark.parametrize("arch", ["c3s1-8,p2-3 output=linear", "c3s1-8,c1s1-3", "c3s1-8,u3"])
def test_last_layers_that_enlarge_or_see_one_pixel_are_left_alone(arch):
    assert keeper(build_network(arch)) is None


def test_frozen_last_convolution_is_left_alone():
    network = build_network(SMALL)
    assert keeper(network) is not None
    assert keeper(network.requires_grad_(False)) is None


def test_our_recipes_have_no_lattice_and_the_papers_are_stated_as_before():
    assert PREDICTOR_RECIPE.no_lattice and RECIPES["standard"].no_lattice and RECIPES["quick"].no_lattice
    for name in ("paper", "authors"):
        assert not RECIPES[name].no_lattice and "no_lattice" not in as_json(RECIPES[name])
    assert as_json(dataclasses.replace(RECIPES["paper"], no_lattice=True))["no_lattice"] is True
