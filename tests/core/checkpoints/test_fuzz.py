"""A short run of tests/fuzz_checkpoints.py: damaged files of every kind are opened or rejected."""

from __future__ import annotations

import pytest
from fuzz_checkpoints import attempt, mutants, write_seeds


def test_seeds_are_opened(tmp_path):
    for path in write_seeds(tmp_path):
        assert attempt(path) == "opened", path


@pytest.mark.slow
def test_damaged_files_are_opened_or_rejected(tmp_path):
    outcomes = [(path.name, attempt(path)) for path in mutants(tmp_path, 120, seed=1)]
    assert {outcome for _, outcome in outcomes} == {"opened", "rejected"}, outcomes
