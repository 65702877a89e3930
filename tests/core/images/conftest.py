"""Fixtures for tests of images."""

from __future__ import annotations

import pytest
from perceptual_style.core.images import deep_tiff, kinds


@pytest.fixture
def no_tifffile(monkeypatch):
    """The package tifffile is not installed."""
    for module in (deep_tiff, kinds):
        monkeypatch.setattr(module, "has_tifffile", lambda: False)
