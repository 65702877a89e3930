"""Shared by tests of downloads."""

from __future__ import annotations

import hashlib

import pytest
from perceptual_style.core.hub.manifest import Entry, HubFile


@pytest.fixture
def entry(request, hub_standin, use_hub) -> Entry:
    """An entry whose file, the DATA of the test's module at its REVISION, is on the stand-in."""
    data, revision = request.module.DATA, request.module.REVISION
    hub_standin.put("some/styles", revision, "Wave.pth", data)
    return Entry(
        "wave", "Wave", "style", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), family="rrmina",
        hub=HubFile("some/styles", revision, "Wave.pth"),
    )  # fmt: skip
