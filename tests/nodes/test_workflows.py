"""The shipped workflow files: complete, the same graph in both forms, and up to date with the nodes."""

from __future__ import annotations

from itertools import combinations

import pytest
from PIL import Image
from workflows import (
    EXAMPLES,
    HOSTS_PHOTO,
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

GAP, TITLE = 40, 30  # px; a node's title is above its position


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


@pytest.mark.parametrize("name", NAMES)
def test_text_is_shown_at_first_zoom(name):
    """Below a scale of 0.6, older frontends draw no text."""
    ui = ui_form(name)
    scale = ui["extra"]["ds"]["scale"]
    assert scale > 0.6
    assert max(node["pos"][0] + node["size"][0] for node in ui["nodes"]) * scale < 1500


def test_workflow_ids_are_unique():
    assert len({ui_form(name)["id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_only_the_photo_of_a_new_host(name):
    files = {
        each["inputs"][LOADERS[kind]] for each in api_form(name).values() if (kind := each["class_type"]) in LOADERS
    }
    assert files == {HOSTS_PHOTO}


@pytest.mark.parametrize("name", ["any_painting_without_training", "train_a_style"])
def test_note_says_what_to_choose_before_first_run(pack, name):
    """A painting, photos and a loss network do not come with the host."""
    (note,) = [node for node in ui_form(name)["nodes"] if node["type"] in NOTES]
    text = note["widgets_values"][0]
    assert "painting.jpg" in text and (EXAMPLES / "painting.jpg").exists()
    assert "custom_nodes/perceptual-style/examples" in text
    options = next(each.options for each in pack.schema("OptimizeStyle").inputs if each.id == "loss_network")
    assert "vgg16 (download)" in text and "vgg16 (download)" in options


def test_note_says_which_painting_to_choose():
    (note,) = [node for node in ui_form("any_painting_at_once")["nodes"] if node["type"] in NOTES]
    text = note["widgets_values"][0]
    assert "painting.jpg" in text and "custom_nodes/perceptual-style/examples" in text


@pytest.mark.parametrize("name", NAMES)
def test_note_is_readable_on_every_background(name):
    """In Nodes 2.0, inline code on a colored note is unreadable."""
    (note,) = [node for node in ui_form(name)["nodes"] if node["type"] in NOTES]
    assert "color" not in note and "bgcolor" not in note
    assert "`" not in note["widgets_values"][0]


@pytest.mark.parametrize("name", NAMES)
def test_layout_runs_left_to_right_with_room_between_nodes(name):
    ui = ui_form(name)
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in ui["nodes"]}
    for _, source, _, target, _, _ in ui["links"]:
        x, _, width, _ = boxes[source]
        assert boxes[target][0] >= x + width + GAP, f"the link from node {source} to node {target} runs back"
    for (first, (x1, y1, w1, h1)), (second, (x2, y2, w2, h2)) in combinations(boxes.items(), 2):
        columns = x1 + w1 + GAP <= x2 or x2 + w2 + GAP <= x1
        rows = y1 + h1 + GAP + TITLE <= y2 or y2 + h2 + GAP + TITLE <= y1
        assert columns or rows, f"nodes {first} and {second} nearly touch"


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
