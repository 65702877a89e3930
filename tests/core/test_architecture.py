"""docs/architecture.md keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(path.parent.name for path in (ROOT / "core").glob("*/__init__.py") if path.parent.name != "cli")


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_room_is_described(room):
    """The command is left out: it has one module for each command."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(\w+)`", text))
    modules = {path.stem for path in (ROOT / "core" / room).glob("*.py")} - {"__init__"}
    assert modules - described == set()


def test_rooms_are_those_of_the_import_contract():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.split("```")[1]
    layers = re.search(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S)
    assert layers is not None
    expected = [line.replace("|", " ").split() for line in re.findall(r'"(.*?)"', layers[1])]
    # a drawn line names its rooms first, as many as it has, then says what they are
    drawn = [line.split() for line in drawing.strip().splitlines()]
    assert len(drawn) == len(expected)
    for words, rooms in zip(drawn, expected, strict=True):
        assert sorted(words[: len(rooms)]) == sorted(rooms)
