"""The host's frontend in a browser: template browser, help pages, search for nodes, languages.

Needs Chromium (named by CHROMIUM, or under its usual names) and the Python package playwright. Screenshots go to pytest's
temporary folder.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from workflows import NAMES, api_form, bare

pytestmark = [pytest.mark.host, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "perceptual-style"
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_FLAGS += ("--disable-component-update", "--disable-sync")
_MS = 60_000  # for a step on a busy machine
# In the frontend of ComfyUI 0.3, then in the frontend of newer versions.
_DIALOG = ".p-dialog-mask, [role=dialog]:visible"
_SEARCH = ".comfy-vue-node-search-box input, [role=search] input[role=combobox]"
_FOUND = ".comfy-vue-node-search-box [role=option] .option-display-name, [data-testid=result-item]"


class Frontend:
    """A page with the host's frontend."""

    def __init__(self, page: Any, url: str, screenshots: Path) -> None:
        self.page, self.url, self.screenshots = page, url, screenshots
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.wait_for_function("window.app?.graph && window.app.extensionManager?.workflow?.activeWorkflow")
        self.page.wait_for_function("'FastStylize' in LiteGraph.registered_node_types")

    def command(self, name: str) -> None:
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def set(self, name: str, value: Any) -> None:
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def close_dialogs(self) -> None:
        while self.page.locator(_DIALOG).count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)

    def templates(self) -> None:
        """Open the template browser at this pack."""
        self.close_dialogs()
        self.command("Comfy.BrowseTemplates")
        self.page.get_by_role("dialog").get_by_text(PACK_NAME, exact=True).first.click()
        self.page.get_by_test_id(f"template-workflow-{NAMES[0]}").wait_for()

    def load(self, name: str) -> None:
        """Load a workflow by clicking its card."""
        self.templates()
        before = self.page.evaluate("app.extensionManager.workflow.activeWorkflow.path")
        self.errors.clear()
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        self.page.wait_for_function(
            "path => app.extensionManager.workflow.activeWorkflow?.path !== path && app.graph.nodes.length > 1",
            arg=before,
        )

    def shot(self, name: str) -> None:
        self.page.wait_for_timeout(1000)  # there is no event for the end of drawing
        self.page.screenshot(path=self.screenshots / f"{name}.png")


@pytest.fixture(scope="module")
def comfyui(start_comfyui) -> Iterator[Any]:
    """A host with the pack in a folder without a dot: the frontend cuts the name at the dot when it loads help pages."""
    with start_comfyui(PACK_NAME) as host:
        yield host


@pytest.fixture(scope="module")
def frontend(request, tmp_path_factory) -> Iterator[Frontend]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if name and (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("Chromium was not found; set CHROMIUM to its program")
    comfyui = request.getfixturevalue("comfyui")  # not started if one of these is missing
    profile, screenshots = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("screenshots")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            profile, executable_path=browser, headless=True, args=list(_FLAGS), locale="en-US",
            viewport={"width": 1600, "height": 1000},
        )  # fmt: skip
        context.set_default_timeout(_MS)
        page = Frontend(context.new_page(), f"http://127.0.0.1:{comfyui.port}/", screenshots)
        page.open()
        yield page
        context.close()


def test_template_browser_shows_workflows_with_pictures(frontend):
    frontend.templates()
    for name in NAMES:
        card = frontend.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        frontend.page.wait_for_function(
            "image => image.complete && image.naturalWidth === 512", arg=card.locator("img").first.element_handle()
        )
    frontend.shot("templates")
    frontend.close_dialogs()


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_without_errors_and_matches_api_form(frontend, name):
    frontend.load(name)
    frontend.shot(name)
    assert frontend.page.locator(_DIALOG).count() == 0, "a dialog reports missing nodes or models"
    state = frontend.page.evaluate(
        """() => app.graph.nodes.map(node => ({
            type: node.type, known: node.type in LiteGraph.registered_node_types, errors: !!node.has_errors,
            overlaps: app.graph.nodes.filter(other => other !== node
                && other.pos[0] < node.pos[0] + node.size[0] && node.pos[0] < other.pos[0] + other.size[0]
                && other.pos[1] - 30 < node.pos[1] + node.size[1] && node.pos[1] - 30 < other.pos[1] + other.size[1]
            ).map(other => other.type)}))"""
    )
    assert [node for node in state if not node["known"] or node["errors"]] == []
    assert [node for node in state if node["overlaps"]] == []
    sent = json.loads(frontend.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))
    for node in sent.values():
        for added in ("video-preview", "bit_depth", "format.codec"):  # added by the frontend, and by newer hosts
            node["inputs"].pop(added, None)
    assert bare(sent) == bare(api_form(name))
    assert frontend.errors == []


def test_queued_workflow_shows_its_result(frontend):
    frontend.load("stylize")
    frontend.command("Comfy.QueuePrompt")
    frontend.page.wait_for_function(
        "() => app.graph.nodes.some(node => node.type === 'SaveImage' && node.imgs?.[0]?.naturalWidth === 768)"
    )
    frontend.shot("queued")


_FEW_STEPS = """() => {
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (['steps', 'iterations'].includes(widget.name)) { widget.value = 4; widget.callback?.(4) }
}"""  # training and optimization take minutes on a CPU


@pytest.mark.parametrize("renderer", ["canvas", "nodes-2"])
def test_every_workflow_runs_with_one_click(frontend, comfyui, renderer):
    frontend.set("Comfy.VueNodes.Enabled", renderer == "nodes-2")
    try:
        frontend.open()
        for name in NAMES:
            frontend.load(name)
            frontend.page.evaluate(_FEW_STEPS)
            done = comfyui.get("/history").keys()
            frontend.command("Comfy.QueuePrompt")
            entry = _finished(comfyui, done)
            frontend.shot(f"{renderer}-{name}")
            assert entry["status"]["status_str"] == "success", name
            assert frontend.errors == [], name
    finally:
        frontend.open()
        frontend.set("Comfy.VueNodes.Enabled", False)
        frontend.open()


def _finished(comfyui: Any, before: Collection[str], seconds: float = 300) -> dict[str, Any]:
    """Wait for a prompt that is not in ``before``, and return its history."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if new := {name: entry for name, entry in comfyui.get("/history").items() if name not in before}:
            return next(iter(new.values()))
        time.sleep(1)
    raise AssertionError(f"no prompt finished within {seconds:.0f} s")


@contextmanager
def _help_page(frontend: Frontend, node: str, heading: str) -> Iterator[Any]:
    """The help page of a node that is added to the graph, once its heading and picture are there."""
    page = frontend.page.locator(".node-help-content [class*=markdown-content]")
    frontend.page.evaluate(
        """type => { const node = LiteGraph.createNode(type); node.pos = [0, 700]; app.graph.add(node);
            app.canvas.deselectAll(); app.canvas.centerOnNode(node); }""",
        node,
    )
    frontend.page.wait_for_timeout(500)  # until the canvas is drawn: clicks need it
    x, y = frontend.page.evaluate(
        """() => { const node = app.graph.nodes.at(-1);
            return app.canvasPosToClientPos([node.pos[0] + 60, node.pos[1] - 15]); }"""
    )
    frontend.page.mouse.click(x, y)
    frontend.page.wait_for_timeout(500)  # the toolbox appears once the canvas stands still
    frontend.page.get_by_test_id("info-button").click()
    title = page.get_by_role("heading", name=heading, exact=True)
    frontend.page.wait_for_timeout(5000)
    if not title.is_visible():  # older frontends close a page that was open
        frontend.page.get_by_test_id("info-button").click()
        title.wait_for()
    frontend.page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0", arg=page.locator("img").first.element_handle()
    )
    yield page
    frontend.page.evaluate(
        "app.graph.nodes.filter(node => node.pos[1] === 700).forEach(node => app.graph.remove(node))"
    )


def test_help_pages_open(frontend, comfyui):
    frontend.load("stylize")
    info = comfyui.get("/object_info")
    ours = [node for node, each in info.items() if each["python_module"] == f"custom_nodes.{PACK_NAME}"]
    assert len(ours) >= 4
    for node in ours:
        with _help_page(frontend, node, info[node]["display_name"]) as page:
            assert page.get_by_role("heading", name="Troubleshooting").count() == 1
            frontend.shot(f"help-{node}")


def test_help_pages_open_in_frontend_language(frontend):
    frontend.load("stylize")
    try:
        for language in ("ko", "zh", "ja"):
            texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[
                "FastStylize"
            ]
            frontend.set("Comfy.Locale", language)
            frontend.page.wait_for_timeout(3000)  # until the language is loaded and the page is drawn anew
            with _help_page(frontend, "FastStylize", texts["display_name"]) as page:
                assert texts["inputs"]["stroke_size"]["name"] in page.locator("li code").all_inner_texts()
                assert "*" not in page.inner_text()  # marks of emphasis that Markdown did not take
                frontend.shot(f"help-{language}")
    finally:
        frontend.set("Comfy.Locale", "en")


def _found(frontend: Frontend, words: str) -> list[str]:
    frontend.close_dialogs()
    frontend.command("Workspace.SearchBox.Toggle")
    frontend.page.locator(_SEARCH).fill(words)
    frontend.page.wait_for_timeout(1500)  # the search runs while typing
    names = [text.split("\n")[0].strip() for text in frontend.page.locator(_FOUND).all_inner_texts()]
    frontend.shot(f"search-{words}")
    frontend.close_dialogs()
    return names


def test_search_finds_nodes_by_name_and_alias(frontend, comfyui):
    frontend.close_dialogs()
    shown = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for node, each in comfyui.get("/object_info").items():
        if each["python_module"] == f"custom_nodes.{PACK_NAME}":
            assert shown[node]["display_name"] in _found(frontend, each["display_name"]), node
    assert _found(frontend, "style transfer")[0] == shown["FastStylize"]["display_name"]


def test_nodes_are_shown_in_frontend_language(frontend):
    texts = json.loads((ROOT / "locales" / "fr" / "nodeDefs.json").read_text(encoding="utf-8"))["FastStylize"]
    frontend.set("Comfy.Locale", "fr")
    frontend.page.reload()
    try:
        frontend.open()
        frontend.load("stylize")
        node = "app.graph.nodes.find(node => node.type === 'FastStylize')"
        assert frontend.page.evaluate(f"{node}.constructor.title") == texts["display_name"]
        labels = frontend.page.evaluate(f"{node}.inputs.map(each => [each.name, each.localized_name])")
        assert {name: label for name, label in labels} == {name: texts["inputs"][name]["name"] for name, _ in labels}
        frontend.shot("fr")
    finally:
        frontend.set("Comfy.Locale", "en")
