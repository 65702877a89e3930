"""The web page: its files, and the page itself in a browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import style_model
from perceptual_style.core import errors, load_style
from perceptual_style.core.exporting import web_runtime
from perceptual_style.core.exporting.web_page import write_page
from perceptual_style.core.exporting.web_runtime import FILES, fetch_runtime, runtime_files
from perceptual_style.core.images.reading import read_image
from PIL import Image

pytest.importorskip("onnx")


@pytest.fixture
def runtime(tmp_path) -> Path:
    """A folder with files that have the names of onnxruntime-web's."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    return folder


def styles_of(page: Path) -> list[dict]:
    return json.loads(re.search(r"^const STYLES = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)[1])


def test_folder_has_everything_that_the_page_names(tmp_path, runtime):
    models = [style_model(seed=seed, name=name) for seed, name in enumerate(("wave", "a/b?", "a_b_"))]
    page = write_page(tmp_path / "page", models, runtime=runtime)
    text, styles = page.read_text(encoding="utf-8"), styles_of(page)
    assert [style["name"] for style in styles] == ["wave", "a/b?", "a_b_"]
    files = {str(path.relative_to(page.parent)) for path in page.parent.rglob("*") if path.is_file()}
    assert files == {"index.html", *(style["file"] for style in styles), *(f"ort/{name}" for name in FILES)}
    assert all(f"./ort/{name}'" in text for name in FILES)


def test_page_is_short_and_names_no_other_computer(tmp_path, runtime):
    text = write_page(tmp_path, [style_model()], runtime=runtime).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert "//" not in re.sub(r"^\s*//.*|  // .*$", "", text, flags=re.MULTILINE)
    assert "default-src 'self'" in text and "fetch(" not in text


def test_names_from_files_cannot_end_the_script(tmp_path, runtime):
    page = write_page(tmp_path, [style_model(name="</script><b>", facts={"title": "<img>"})], runtime=runtime)
    assert page.read_text(encoding="utf-8").count("</script>") == 1
    assert styles_of(page)[0]["name"] == "</script><b>"


def test_missing_files_are_reported_before_anything_is_written(tmp_path, runtime, use_hub):
    (runtime / FILES[1]).unlink()
    with pytest.raises(errors.InputError, match=f"has no {FILES[1]}; expected the folder dist"):
        write_page(tmp_path / "page", [style_model()], runtime=runtime)
    with pytest.raises(errors.InputError, match="perceptual-style download onnxruntime-web"):
        write_page(tmp_path / "page", [style_model()])
    with pytest.raises(errors.InputError, match="no styles"):
        write_page(tmp_path / "page", [], runtime=runtime)
    assert not (tmp_path / "page").exists()


@pytest.fixture
def package(hub_standin, monkeypatch) -> str:
    """The address of a small package on a server on this machine, which this module takes for the published one."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in (*FILES, "../../evil", "ort.js"):
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    hub_standin.put("npm", "1", "package.tgz", data.getvalue())
    monkeypatch.setattr(web_runtime, "_SHA512", base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode())
    return f"{hub_standin.endpoint}/npm/resolve/1/package.tgz"


def test_download_keeps_the_needed_files_and_is_not_repeated(package, hub_standin, use_hub):
    seen: list[float] = []
    folder = fetch_runtime(url=package, progress=lambda state: seen.append(state.done / state.total))
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.read_text() for path in runtime_files()] == list(FILES)
    assert seen[-1] == 1
    fetch_runtime(url=package)
    assert len(hub_standin.gets()) == 1
    assert hub_standin.tokens == {""}  # the Hub's token is for the Hub


def test_other_bytes_and_missing_servers_are_reported(package, hub_standin, tmp_path):
    hub_standin.body = b"a page of a proxy"
    with pytest.raises(errors.HubError, match="wrong bytes came"):
        fetch_runtime(tmp_path / "runtime", url=package)
    hub_standin.status = 503
    with pytest.raises(errors.HubError, match="--runtime FOLDER"):
        fetch_runtime(tmp_path / "runtime", url=package)
    with pytest.raises(errors.HubError, match="check the connection"):
        fetch_runtime(tmp_path / "runtime", url="http://127.0.0.1:9/package.tgz")
    assert not (tmp_path / "runtime").exists()


def _browser_runtime() -> Path | None:
    """The real onnxruntime-web: the folder that ONNXRUNTIME_WEB names, or what was downloaded by this user."""
    own = Path.home() / ".cache" / "huggingface" / "perceptual-style" / f"{web_runtime.NAME}-{web_runtime.VERSION}"
    for folder in (os.environ.get("ONNXRUNTIME_WEB"), own):
        if folder and all((Path(folder) / name).is_file() for name in FILES):
            return Path(folder)
    return None


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served():
    """Function that serves a folder on 127.0.0.1 and returns its address."""
    servers = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_browser_paints_the_photo_that_stylize_paints(tmp_path, served, root):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    runtime = _browser_runtime()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if runtime is None or chromium is None:
        pytest.skip("needs Chromium and the files of onnxruntime-web (a folder in ONNXRUNTIME_WEB, or downloaded)")
    model = load_style("wave")
    Image.open(root / "examples" / "astronaut.jpg").convert("RGB").resize((120, 94)).save(tmp_path / "photo.png")
    url = served(write_page(tmp_path / "page", [model], runtime=runtime).parent)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        asked, problems = [], []
        page.on("request", lambda request: asked.append((request.method, request.url)))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{url}/?with=wasm")
        page.set_input_files("#file", tmp_path / "photo.png")
        page.wait_for_selector("body[data-painted=wave]", timeout=240_000)
        encoded = page.evaluate("document.getElementById('result').toDataURL()")
        page.screenshot(path=str(tmp_path / "page.png"))
        browser.close()
    (tmp_path / "painted.png").write_bytes(base64.b64decode(encoded.partition(",")[2]))
    painted, photo = read_image(tmp_path / "painted.png").pixels, read_image(tmp_path / "photo.png").pixels
    assert (painted - model.stylize(photo, precision="fp32")).abs().max() < 1.6 / 255
    assert problems == []
    assert {method for method, _ in asked} == {"GET"} and all(address.startswith(url) for _, address in asked)
