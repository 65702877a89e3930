"""A real ComfyUI with the pack in its custom_nodes, started once for all tests in this folder.

COMFYUI_PATH names ComfyUI's folder. Without it these tests are skipped. COMFYUI_PYTHON names the interpreter with its
requirements, by default the one that runs the tests.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from foreign_files import make
from hub_standin import HubStandIn
from PIL import Image
from workflows import HOSTS_PHOTO

ROOT = Path(__file__).resolve().parents[2]
PACK_FOLDER = "some-Renamed.folder"  # not the pack's name; the host replaces the dot in the module's name
_PACK = ("__init__.py", "pyproject.toml", "weights_manifest.json", "core", "nodes", "weights")
_PACK += ("web", "locales", "example_workflows", "subgraphs")
_START_SECONDS, _RUN_SECONDS = 300, 300
TINY_ARCH = "c9s1-4,d8,d8,R8x1,n2,c3s1-8,n2,c3s1-4,c9s1-3 norm=instance padding=reflect output=tanh"


class ComfyUI:
    """A running ComfyUI: its folders, its log, and the part of its HTTP API that the tests need."""

    def __init__(self, base: Path) -> None:
        self.base, self.log = base, base / "comfyui.log"
        self.hub = HubStandIn()
        self.styles = base / "models" / "fast_style"
        self.upscalers = base / "models" / "perceptual_upscale"
        self.loss_networks = base / "models" / "loss_networks"
        self.process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, comfyui: Path, python: str) -> subprocess.Popen:
        """Start ComfyUI as ``process``, and return it."""
        command = [python, "main.py", "--cpu", "--disable-auto-launch", "--disable-api-nodes"]
        command += ["--base-directory", str(self.base), "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--database-url", f"sqlite:///{self.base / 'comfyui.db'}"]
        # The host must find its own modules, not the tests'.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONUTF8": "1"}
        # No cache from this machine, and no Hub but the stand-in.
        environment |= {"HF_HOME": str(self.base / "hf"), "HF_ENDPOINT": self.hub.endpoint, "HF_HUB_OFFLINE": "0"}
        environment.pop("HF_HUB_CACHE", None)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=comfyui, env=environment, stdout=log, stderr=subprocess.STDOUT)
        return self.process

    def wait_until_up(self, process: subprocess.Popen) -> None:
        """Wait until the host answers. Raise RuntimeError with its log if it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        state = "did not answer" if process.poll() is None else f"exited with status {process.returncode}"
        raise RuntimeError(f"ComfyUI {state}:\n{self.log_text()[-10_000:]}")

    def log_text(self) -> str:
        """Return the host's log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def request(self, path: str, body: Any = None) -> tuple[int, bytes]:
        """Send a request, a POST if there is a body, and return status and content."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        status, content = self.request(path)
        assert status == 200, f"GET {path}: {status} {content[:500]!r}"
        return json.loads(content)

    def submit(self, graph: dict[str, Any], **more: Any) -> str:
        """Queue a graph that must be valid, and return its prompt id."""
        status, content = self.request("/prompt", {"prompt": graph, **more})
        assert status == 200, content.decode()
        return json.loads(content)["prompt_id"]

    def refused(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Queue a graph that must be invalid, and return the answer."""
        status, content = self.request("/prompt", {"prompt": graph})
        assert status == 400, f"expected a rejection, got {status}: {content.decode()}"
        return json.loads(content)

    def wait(self, prompt_id: str, seconds: float = _RUN_SECONDS) -> dict[str, Any]:
        """Wait for a prompt, and return its history entry with the status messages by name."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                entry = history[prompt_id]
                entry["messages"] = dict(entry["status"]["messages"])
                return entry
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} was not done after {seconds} s")

    def run(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Run a graph that must succeed, and return its history entry."""
        entry = self.wait(self.submit(graph))
        assert entry["status"]["status_str"] == "success", entry["messages"].get("execution_error", entry["status"])
        return entry

    def images(self, entry: dict[str, Any], node: str) -> list[Image.Image]:
        """Return the images that a SaveImage node wrote, as a client gets them."""
        found = []
        for image in entry["outputs"][node]["images"]:
            status, content = self.request("/view?" + urllib.parse.urlencode(image))
            assert status == 200
            found.append(Image.open(BytesIO(content)))
        return found

    def options(self, node: str = "LoadStyleModel", name: str = "style") -> list[str]:
        """Return the current options of an input."""
        kind, config = self.get(f"/object_info/{node}")[node]["input"]["required"][name]
        return config["options"] if kind == "COMBO" else kind

    def put_photo(self, name: str, width: int, height: int, *, alpha: bool = False, seed: int = 0) -> Path:
        """Write a photo-like image, smooth with some grain, to ComfyUI's input folder. No pixel is quite transparent."""
        random = np.random.default_rng(seed)
        channels = 4 if alpha else 3
        small = Image.fromarray(random.integers(0, 256, (6, 6, channels), dtype=np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = (smooth + random.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)
        pixels[..., 3:] = pixels[..., 3:].clip(32)
        path = self.base / "input" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path


@pytest.fixture(scope="session")
def start_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AbstractContextManager[ComfyUI]]:
    """Context manager that runs a ComfyUI with the pack in a folder of a given name."""

    @contextmanager
    def start(pack_folder: str) -> Iterator[ComfyUI]:
        folder = os.environ.get("COMFYUI_PATH")
        if not folder:
            pytest.skip("COMFYUI_PATH is not set; it names the folder of the ComfyUI to test with")
        base = tmp_path_factory.mktemp("comfyui")
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (base / name).mkdir()
        shutil.copy(Path(folder) / "input" / HOSTS_PHOTO, base / "input")
        pack = base / "custom_nodes" / pack_folder
        pack.mkdir()
        for name in _PACK:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, pack / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, pack / name)
        host = ComfyUI(base)
        _add_hub_entry(host, pack / "weights_manifest.json")
        host.process = process = host.start(Path(folder).resolve(), os.environ.get("COMFYUI_PYTHON") or sys.executable)
        try:
            host.wait_until_up(process)
            yield host
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            host.hub.close()

    return start


@pytest.fixture(scope="session")
def comfyui(start_comfyui) -> Iterator[ComfyUI]:
    with start_comfyui(PACK_FOLDER) as host:
        yield host


def _add_hub_entry(host: ComfyUI, manifest: Path) -> None:
    """Publish a small style on the stand-in for the Hub, and add it to the manifest as hub_wave."""
    import torch

    file = BytesIO()
    torch.save(make("rrmina", seed=5), file)
    data, revision = file.getvalue(), "6" * 40
    host.hub.put("some/styles", revision, "Wave.pth", data)
    entry = {
        "id": "hub_wave",
        "title": "Wave",
        "task": "style",
        "bytes": len(data),
        "family": "rrmina",
        "license": "MIT",
    }
    entry |= {"sha256": hashlib.sha256(data).hexdigest(), "credit": {"artist": "nobody"}}
    entry["hub"] = {"repo": "some/styles", "revision": revision, "filename": "Wave.pth"}
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["entries"].append(entry)
    manifest.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def core() -> ModuleType:
    """perceptual_style.core from the installed package, or from this folder."""
    if importlib.util.find_spec("perceptual_style") is None:
        file = ROOT / "__init__.py"
        spec = importlib.util.spec_from_file_location("perceptual_style", file, submodule_search_locations=[str(ROOT)])
        sys.modules["perceptual_style"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["perceptual_style"])
    for name in ("checkpoints.own_format", "cli", "images.bicubic", "images.masks", "images.reading"):
        importlib.import_module(f"perceptual_style.core.{name}")
    return sys.modules["perceptual_style.core"]


@pytest.fixture
def style(comfyui: ComfyUI) -> str:
    """The first bundled style."""
    entries = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))["entries"]
    styles = [entry["id"] for entry in entries if entry["task"] == "style" and "file" in entry]
    assert styles, "weights_manifest.json lists no bundled style"
    return styles[0]


@pytest.fixture
def put_style(comfyui: ComfyUI, core: ModuleType):
    """Write a small untrained style to models/fast_style, replacing an existing one."""

    def put(name: str, seed: int = 0) -> Path:
        import torch

        torch.manual_seed(seed)
        path = comfyui.styles / name
        core.checkpoints.own_format.save_network(
            path, core.build_network(TINY_ARCH), {"task": "style", "name": path.stem}
        )
        return path

    return put


@pytest.fixture
def put_upscaler(comfyui: ComfyUI, core: ModuleType):
    """Write a small untrained upscaler to models/perceptual_upscale, and return its name."""

    def put(name: str, scale: int = 4, *, seed: int = 0, width: int = 4, **facts: Any) -> str:
        import torch

        torch.manual_seed(seed)
        arch = f"c3s1-{width},R{width}x4,p{scale}-3 norm=none padding=replicate output=linear base=bicubic"
        network = core.build_network(arch)
        core.checkpoints.own_format.save_network(comfyui.upscalers / name, network, {"task": "upscale", **facts})
        return name

    return put


@pytest.fixture
def graph():
    """Build graphs in API form: LoadImage (1) and LoadStyleModel (2), FastStylize (3), SaveImage (4)."""

    def build(image: str, style: str, *, repeat: int = 1, join_alpha: bool = False) -> dict[str, Any]:
        nodes = {
            "1": {"class_type": "LoadImage", "inputs": {"image": image}},
            "2": {"class_type": "LoadStyleModel", "inputs": {"style": style}},
            "3": {"class_type": "FastStylize", "inputs": {"image": ["1", 0], "style_model": ["2", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "result"}},
        }
        if join_alpha:
            nodes["5"] = {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["1", 0], "alpha": ["1", 1]}}
            nodes["3"]["inputs"]["image"] = ["5", 0]
        if repeat > 1:
            image_input = nodes["3"]["inputs"]["image"]
            nodes["6"] = {"class_type": "RepeatImageBatch", "inputs": {"image": image_input, "amount": repeat}}
            nodes["3"]["inputs"]["image"] = ["6", 0]
        return nodes

    return build


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Add ComfyUI's log to the report of a failed test."""
    report = yield
    host = getattr(item, "funcargs", {}).get("comfyui")
    if report.failed and isinstance(host, ComfyUI):
        report.sections.append(("ComfyUI's log", host.log_text()[-6_000:]))
    return report
