"""Texts that the host shows about the nodes: help pages, translations and search aliases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "de", "es")
# Languages of the help pages beside English, and the titles of their sections.
TITLES = {
    "ko": ["입력", "출력", "팁", "문제 해결"],
    "ja": ["入力", "出力", "ヒント", "トラブルシューティング"],
    "zh": ["输入", "输出", "提示", "疑难解答"],
}


def _nodes(language: str) -> dict[str, dict]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def _inputs(schema) -> dict[str, str]:
    return {each.id: each.tooltip for each in schema.inputs}


def _outputs(schema) -> dict[str, str]:
    return {each.display_name: each.tooltip for each in schema.outputs}


def _listed(page: str, title: str) -> list[str]:
    """Return the names in the list below a title."""
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^- `(\w+)`: ", section, re.MULTILINE)


def test_help_pages_are_where_host_looks(load_root):
    assert (ROOT / load_root().WEB_DIRECTORY / "docs").resolve() == PAGES
    # The host's frontend would run scripts in this folder.
    assert {path.suffix for path in PAGES.parent.rglob("*") if path.is_file()} == {".md", ".jpg"}


def test_pages_list_all_inputs_and_outputs(pack):
    missing = []
    for node in pack.nodes:
        path, schema = PAGES / f"{node}.md", pack.schema(node)
        if not path.exists():
            missing.append(path.name)
            continue
        page = path.read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n")
        for title, names in (("Inputs", _inputs(schema)), ("Outputs", _outputs(schema))):
            missing += [f"{path.name}, {title}: {name}" for name in names if name not in _listed(page, title)]
    assert missing == []


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_page_has_sections_and_picture(path):
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Inputs", "Outputs", "Tips", "Troubleshooting"]
    assert page.split("## Troubleshooting\n")[1].count("\n**") >= 2
    # The frontend looks for pictures in the folder of the pages.
    (picture,) = re.findall(r"^!\[.+\]\((.+)\)$", page, re.MULTILINE)
    assert picture == f"{path.stem}.jpg"
    with Image.open(PAGES / picture) as image:
        assert image.format == "JPEG" and 400 <= image.width <= 1000
    assert (PAGES / picture).stat().st_size < 200_000


def _translated(node: str, language: str) -> str:
    """Return the page where the host looks first; without it, the host shows the English one."""
    return (PAGES / node / f"{language}.md").read_text(encoding="utf-8")


def test_help_pages_are_in_four_languages(pack):
    expected = {PAGES / f"{node}.md" for node in pack.nodes}
    expected |= {PAGES / node / f"{language}.md" for node in pack.nodes for language in TITLES}
    assert set(PAGES.rglob("*.md")) == expected


@pytest.mark.parametrize("language", TITLES)
def test_translated_page_names_inputs_as_node_shows_them(pack, language):
    shown = _nodes(language)
    for node in pack.nodes:
        page, texts = _translated(node, language), shown[node]
        assert page.startswith(f"# {texts['display_name']}\n"), node
        sections = page.split("\n## ")[1:]
        assert [section.partition("\n")[0] for section in sections] == TITLES[language], node
        inputs, outputs = (
            re.findall(r"^- `([^`]+)`[(（]`(\w+)`[)）][:：]", section, re.MULTILINE) for section in sections[:2]
        )
        schema = pack.schema(node)
        assert inputs == [(texts["inputs"][ident]["name"], ident) for ident in _inputs(schema)], node
        names = [each["name"] for each in texts["outputs"].values()]
        assert outputs == list(zip(names, _outputs(schema), strict=True)), node


@pytest.mark.parametrize("language", TITLES)
@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_translated_page_has_what_english_has(path, language):
    english, page = path.read_text(encoding="utf-8"), _translated(path.stem, language)
    same = {
        "headings": r"^#+ ",
        "list items": r"^- ",
        "questions": r"^\*\*",
        # The host looks for pictures beside the English page, whatever the language.
        "pictures and links": r"\]\(([^)]+)\)",
        "messages": r'^\*\*("[^"]+")',
        "files and folders": r"`(\w+/[\w./]+)`",
    }
    for what, pattern in same.items():
        found, expected = (sorted(re.findall(pattern, text, re.MULTILINE)) for text in (page, english))
        assert found == expected, what
    assert not set(re.findall(r"\d+", english)) - set(re.findall(r"\d+", page)), "a number is missing"
    # In these languages, Markdown ends bold text only before a space or punctuation.
    assert not re.search(r"^\*\*[^*]+\*\*\w", page, re.MULTILINE)


def test_english_matches_schemas(pack):
    """The frontend shows these texts instead of the schemas', and other languages are translated from them.

    Names of nodes may have extra words, by which hosts without search aliases find them.
    """
    english, wrong = _nodes("en"), []
    for node in pack.nodes:
        schema, shown = pack.schema(node), english.get(node, {})
        inputs = {name: each["tooltip"] for name, each in shown.get("inputs", {}).items()}
        outputs = {each["name"]: each["tooltip"] for each in shown.get("outputs", {}).values()}
        wrong += [f"{node}: description"] * (shown.get("description") != schema.description)
        wrong += [f"{node}: display_name"] * (not shown.get("display_name", "").startswith(schema.display_name))
        for said, wanted in ((inputs, _inputs(schema)), (outputs, _outputs(schema))):
            wrong += [f"{node}: {name}" for name, tooltip in wanted.items() if said.get(name) != tooltip]
    assert wrong == [], "update locales/en/nodeDefs.json, and the other languages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_has_all_keys(language):
    def paths(tree: dict, *above: str) -> set[tuple[str, ...]]:
        return {
            path
            for key, each in tree.items()
            for path in (paths(each, *above, key) if isinstance(each, dict) else {(*above, key)})
        }

    english, translated = _nodes("en"), _nodes(language)
    assert paths(translated) == paths(english)
    for path in paths(translated):
        text = translated
        for key in path:
            text = text[key]
        assert text.strip() == text != "", path
        # The frontend's translations give these characters a meaning: {name}, @:link, one | many.
        assert not re.search(r"[{}@|]", text), path


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_language_is_translated(language):
    english, translated = _nodes("en"), _nodes(language)
    for node, texts in english.items():
        theirs = translated[node]
        same = [texts["description"] == theirs["description"]]
        same += [each["tooltip"] == theirs["inputs"][name]["tooltip"] for name, each in texts["inputs"].items()]
        same += [each["tooltip"] == theirs["outputs"][name]["tooltip"] for name, each in texts["outputs"].items()]
        assert not any(same), node


def test_node_names_are_unique_in_each_language():
    for language in LANGUAGES:
        names = [each["display_name"] for each in _nodes(language).values()]
        assert len(set(names)) == len(names)


def test_fast_stylize_name_contains_style_transfer():
    assert "Style Transfer" in _nodes("en")["FastStylize"]["display_name"]


STYLE_NODES = {"LoadStyleModel", "FastStylize", "BlendStyles", "StyleRegions", "TrainStyle", "OptimizeStyle"}
STYLE_NODES |= {"StylizeVideo", "StyleSheet", "StyleFromPainting"}
UPSCALERS = {"PerceptualUpscale", "LoadPerceptualUpscaler"}


def test_newer_hosts_find_nodes_by_id_name_or_alias(host, load_pack):
    host.newer = True
    pack = load_pack()
    texts = {node: [node, _nodes("en")[node]["display_name"], *pack.schema(node).search_aliases] for node in pack.nodes}

    def found(query: str) -> set[str]:
        return {node for node, each in texts.items() if any(query in text.lower() for text in each)}

    assert found("perceptual") == found("perceptual style") == found("style") == set(pack.nodes)
    assert found("style transfer") >= STYLE_NODES and not found("style transfer") & UPSCALERS
    assert found("video style") == found("flicker") == {"FastStylize", "StylizeVideo"}
    assert found("upscale") == found("super-resolution") == UPSCALERS
    assert [node for node, each in texts.items() if "style" in each] == [
        "FastStylize"
    ]  # first where aliases are ranked


def test_older_hosts_get_no_search_aliases(pack):
    for node in pack.nodes:
        assert not hasattr(pack.schema(node), "search_aliases")
