"""Test what training runs start from: a style by name, a file, the recipe's base, or nothing."""

from __future__ import annotations

import pytest
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import CheckpointError, InputError
from perceptual_style.core.hub.manifest import bundled_path, find_entry
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.base_styles import BASES, base_file
from perceptual_style.core.training.style_recipes import RECIPES


def test_quick_starts_from_the_bundled_predictor_whose_network_has_the_architecture_of_the_recipe():
    assert BASES == {"quick": "predicted"}
    assert base_file(None, "quick") == base_file("predicted", "paper") == bundled_path("any_style")
    wanted = ArchSpec.parse(RECIPES["quick"].arch).with_options(last="norm")
    assert ArchSpec.parse(find_entry("any_style").arch).with_blurs_of(wanted) == wanted


def test_base_file_is_none_unless_recipe_or_user_names_one(tmp_path):
    for recipe in RECIPES.keys() - BASES.keys():
        assert base_file(None, recipe) is None
    assert base_file("none", "quick") is None
    assert base_file("starry_night", "paper") == bundled_path("starry_night")
    assert base_file(tmp_path / "mine.safetensors", "quick") == tmp_path / "mine.safetensors"


def test_width_other_than_the_base_is_rejected(tmp_path):
    save_network(tmp_path / "mine.safetensors", build_network("c3s1-6,c3s1-3"), {"task": "style"})
    assert base_file("starry_night", "quick", 16) == bundled_path("starry_night")
    assert base_file(tmp_path / "mine.safetensors", "quick", 6)
    assert base_file(None, "standard", 32) is None
    for name in ("starry_night", None, tmp_path / "mine.safetensors"):
        with pytest.raises(InputError, match="channels wide, not 32.*start from a style as wide or from none"):
            base_file(name, "quick", 32)


def test_missing_style_error_says_how_to_download_it():
    with pytest.raises(CheckpointError, match="perceptual-style download maze_mosaic"):
        base_file("maze_mosaic", "standard")
