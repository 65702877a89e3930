"""Fixtures for tests of images."""

from __future__ import annotations

import pytest
from perceptual_style.core.images import deep_tiff


@pytest.fixture
def no_tifffile(monkeypatch):
    """The package tifffile is not installed."""
    monkeypatch.setattr(deep_tiff, "has_tifffile", lambda: False)
