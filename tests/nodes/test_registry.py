"""What ComfyUI's registry and manager read of the pack, by their rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
URLS = {"Homepage", "Documentation", "Repository", "Issues"}  # the keys that are read
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


def test_project(pyproject):
    project, comfy = pyproject["project"], pyproject["tool"]["comfy"]
    assert re.fullmatch(r"[a-z0-9-]{1,99}", project["name"]) and "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == "MIT" and project["description"]
    assert set(project["urls"]) == URLS and all(url.startswith("https://") for url in project["urls"].values())
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])


def test_classifiers_void_no_list(pyproject):
    classifiers = pyproject["project"]["classifiers"]
    assert "Operating System :: OS Independent" in classifiers
    environments = {each.removeprefix("Environment :: ") for each in classifiers if each.startswith("Environment ::")}
    assert environments and environments <= ACCELERATORS


def test_icon_is_a_file_of_the_repository(pyproject):
    icon = pyproject["tool"]["comfy"]["Icon"]
    name = icon.partition("/main/")[2]
    assert (ROOT / name).is_file() and Path(name).suffix in (".svg", ".png", ".jpg", ".gif")
    assert pyproject["project"]["urls"]["Repository"].removeprefix("https://github.com") in icon


def test_changelog_begins_with_this_version(pyproject):
    heads = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == pyproject["project"]["version"]


def test_what_the_manager_installs_is_not_pinned():
    """The host owns versions; a pin of ours would break other packs."""
    names = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[a-z-]+", name) for name in names)


def test_the_pack_leaves_tests_and_pictures_out():
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert {"tests/", "docs/", "benchmarks/"} <= set(ignored)
    assert not {"core/", "nodes/", "weights/", "examples/"} & set(ignored)
