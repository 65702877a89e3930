"""Test what all bundled styles, and those that the bundled predictor finds, have in common."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core import load_style, predict_style
from perceptual_style.core.hub.manifest import entries
from perceptual_style.core.training.lattice import without_lattice

STYLES = [entry.id for entry in entries("style") if entry.is_bundled]


def share_of_lattice(kernel: torch.Tensor) -> float:
    """Return how much of a kernel is an alternation from pixel to pixel, by its largest values."""
    kernel = kernel.float()
    return float((kernel - without_lattice(kernel)).abs().max() / kernel.abs().max())


@pytest.mark.parametrize("name", STYLES)
def test_bundled_style_draws_no_lattice(name):
    assert share_of_lattice(load_style(name).network.stages[-1].conv.weight) < 1e-3


def test_predicted_style_draws_no_lattice(rng):
    network = predict_style(torch.rand(1, 3, 96, 96, generator=rng)).network
    assert share_of_lattice(network.stages[-1].conv.weight) < 1e-3
