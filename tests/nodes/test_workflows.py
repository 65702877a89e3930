"""The shipped workflow files: complete, the same graph in both forms, and up to date with the nodes."""

from __future__ import annotations

import pytest
from PIL import Image
from workflows import (
    EXAMPLES,
    LOADERS,
    NAMES,
    NOTES,
    SEEDS,
    TEMPLATES,
    api_form,
    as_api_form,
    bare,
    ui_form,
    widget_values,
)


def test_every_workflow_has_both_forms_and_a_picture():
    assert len(NAMES) >= 6
    assert sorted(path.stem for path in TEMPLATES.glob("*.json")) == NAMES
    assert sorted(path.stem for path in TEMPLATES.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_picture_fits_template_browser(name):
    path = TEMPLATES / f"{name}.jpg"
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (512, 512))  # twice the card's 256 px
    assert path.stat().st_size < 120_000


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_the_same_graph(name):
    assert as_api_form(ui_form(name)) == bare(api_form(name))


@pytest.mark.parametrize("name", NAMES)
def test_ui_form_is_consistent(name):
    ui = ui_form(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    assert len(nodes) == len(ui["nodes"]) and max(nodes) == ui["last_node_id"]
    assert max(link[0] for link in ui["links"]) == ui["last_link_id"]
    given = {link[0]: (nodes[link[1]]["outputs"][link[2]], link[5]) for link in ui["links"]}
    for number, (output, kind) in given.items():
        assert output["type"] == kind and number in output["links"]
    taken = [each["link"] for node in ui["nodes"] for each in node["inputs"] if each["link"] is not None]
    assert sorted(taken) == sorted(given)
    (note,) = [node for node in ui["nodes"] if node["type"] in NOTES]
    assert note["widgets_values"][0].startswith("## ")


def test_workflow_ids_are_unique():
    assert len({ui_form(name)["id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_input_files_are_examples(name):
    files = [
        each["inputs"][LOADERS[kind]] for each in api_form(name).values() if (kind := each["class_type"]) in LOADERS
    ]
    assert files and [file for file in files if not (EXAMPLES / file).exists()] == []
    note = next(node for node in ui_form(name)["nodes"] if node["type"] in NOTES)["widgets_values"][0]
    assert "`examples`" in note, "the note does not say where the file comes from"


@pytest.mark.parametrize("name", NAMES)
def test_nodes_have_all_inputs_in_order(pack, name):
    """Values are stored by position. A missing input would get the next one's value."""
    for node in ui_form(name)["nodes"]:
        if node["type"] not in pack.nodes:
            continue
        inputs = pack.schema(node["type"]).inputs
        there = [each["name"] for each in node["inputs"]]
        assert [each.id for each in inputs if each.id not in there] == [], node["type"]
        widgets = list(widget_values(node))
        expected = [each.id for each in inputs if each.id in widgets]
        assert [name for name in widgets if name in expected] == expected, node["type"]
        # The frontend adds its own widget after a seed, unless control_after_generate is False.
        seeds = [each for each in inputs if each.id in SEEDS and each.control_after_generate is not False]
        assert len(node["widgets_values"]) == len(widgets) + len(seeds), node["type"]


def test_every_node_is_in_a_workflow(pack):
    used = {each["class_type"] for name in NAMES for each in api_form(name).values()}
    assert set(pack.nodes) - used == set()


def test_script_makes_every_picture():
    """docs/make_pictures.py names each picture."""
    script = (EXAMPLES.parent / "docs" / "make_pictures.py").read_text(encoding="utf-8")
    pictures = [*NAMES, *(path.stem for path in (EXAMPLES.parent / "web" / "docs").glob("*.jpg"))]
    assert [name for name in pictures if f'"{name}"' not in script] == []
