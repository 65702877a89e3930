"""Metadata that ComfyUI's registry and manager read, checked by their rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
URLS = {"Homepage", "Documentation", "Repository", "Issues"}  # the keys that the registry reads
ACCELERATORS = {
    "GPU :: NVIDIA CUDA",
    "GPU :: AMD ROCm",
    "GPU :: Intel Arc",
    "GPU :: Apple Metal",
    "NPU :: Huawei Ascend",
}


@pytest.fixture(scope="module")
def pyproject() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_project_metadata(pyproject):
    project, comfy = pyproject["project"], pyproject["tool"]["comfy"]
    assert re.fullmatch(r"[a-z0-9-]{1,99}", project["name"]) and "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == "MIT" and project["description"]
    assert set(project["urls"]) == URLS and all(url.startswith("https://") for url in project["urls"].values())
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])


def test_classifiers_are_known_to_registry(pyproject):
    classifiers = pyproject["project"]["classifiers"]
    assert "Operating System :: OS Independent" in classifiers
    environments = {each.removeprefix("Environment :: ") for each in classifiers if each.startswith("Environment ::")}
    assert environments and environments <= ACCELERATORS


@pytest.mark.parametrize(
    ("key", "form", "size", "below"), [("Icon", "PNG", (400, 400), 100_000), ("Banner", "JPEG", (2100, 900), 400_000)]
)
def test_icon_and_banner_are_in_repository(pyproject, key, form, size, below):
    """The registry allows icons of up to 800 x 400, and banners of 21:9."""
    url = pyproject["tool"]["comfy"][key]
    repository = pyproject["project"]["urls"]["Repository"].removeprefix("https://github.com")
    base = f"https://raw.githubusercontent.com{repository}/main/"
    assert url.startswith(base)
    path = ROOT / url.removeprefix(base)
    assert path.stat().st_size < below
    with Image.open(path) as image:
        assert image.format == form and image.size == size


def test_changelog_starts_with_current_version(pyproject):
    heads = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == pyproject["project"]["version"]


def test_requirements_are_not_pinned():
    """The host chooses the versions. Pinned ones would break other packs. Only lower bounds are allowed, none on torch."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[a-z-]+(>=\d+(\.\d+)+)?", line) for line in lines)
    assert {"torch", "torchvision"} <= set(lines)


def test_pack_excludes_tests_and_docs():
    """As in a .gitignore, only a leading slash binds a name to the root: docs/ would leave out web/docs/, too."""
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert set(ignored) == {".*", "/benchmarks/", "/docs/", "/tests/"}
