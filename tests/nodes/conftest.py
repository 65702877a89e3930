"""The pack in a fake ComfyUI. It is loaded from its folder, under a name made from a path, as the host does.

The pack is imported once for all tests, and the fake host is reset for each. Tests of the import itself load it anew.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from fake_host import HOST_MODULES, FakeHost
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "/anywhere/perceptual_x_y"
SMALL_RUN = {"steps": 3, "size": 32, "batch": 2, "style_size": 64, "loss_network": "vgg16.safetensors"}
TINY_ARCH = "c9s1-4,d8,d8,R8x1,n2,c3s1-8,n2,c3s1-4,c9s1-3 norm=instance padding=reflect output=tanh"


@dataclass
class Pack:
    """The loaded pack.

    Attributes:
        root: Its root module.
        nodes: Its nodes by id.
    """

    root: ModuleType
    nodes: dict[str, type]

    def module(self, name: str) -> Any:
        """Return a module of the pack, such as core.models."""
        return importlib.import_module(f"{PACK_NAME}.{name}")

    def schema(self, node: str) -> Any:
        """Return the schema of a node as it is now."""
        return self.nodes[node].define_schema()

    def run(self, node: str, **inputs: Any) -> Any:
        """Execute a node as the host does, and return its output or outputs."""
        with torch.inference_mode():
            outputs = self.nodes[node].execute(**inputs).args
        return outputs if len(outputs) > 1 else outputs[0]

    def style(self, path: Path, *, arch: str = TINY_ARCH, seed: int = 0, task: str = "style", **facts: Any) -> Path:
        """Write an untrained style."""
        torch.manual_seed(seed)
        network = self.module("core.network.transform_net").build_network(arch)
        self.module("core.checkpoints.own_format").save_network(
            path, network, {"task": task, "name": path.stem, **facts}
        )
        return path

    def upscaler(self, path: Path, scale: int = 2, *, seed: int = 0, **facts: Any) -> Path:
        """Write an untrained upscaler."""
        arch = f"c3s1-4,R4,p{scale}-3 norm=none padding=replicate output=linear base=bicubic"
        return self.style(path, arch=arch, seed=seed, task="upscale", **facts)


def _load_root() -> ModuleType:
    """Execute the pack's __init__.py as the host does."""
    spec = importlib.util.spec_from_file_location(
        PACK_NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = module
    spec.loader.exec_module(module)
    return module


def _load_pack(host: FakeHost) -> Pack:
    """Import the pack into a fake host."""
    sys.modules.update(host.modules())
    root = _load_root()
    nodes = asyncio.run(asyncio.run(root.comfy_entrypoint()).get_node_list())
    return Pack(root, {node.define_schema().node_id: node for node in nodes})


def _take_modules() -> dict[str, ModuleType]:
    """Remove the modules of the pack and the host from sys.modules, and return them."""

    def ours(name: str) -> bool:
        return name in (PACK_NAME, *HOST_MODULES) or name.startswith((f"{PACK_NAME}.", "comfy.", "comfy_api."))

    return {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}


@pytest.fixture
def clean_modules() -> Iterator[None]:
    """sys.modules without the pack and the host, restored after the test."""
    before = _take_modules()
    yield
    _take_modules()
    sys.modules.update(before)


@pytest.fixture(scope="session")
def session_host(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """The fake host of all tests."""
    return FakeHost(tmp_path_factory.mktemp("host") / "models")


@pytest.fixture(scope="session")
def session_pack(session_host: FakeHost) -> tuple[Pack, dict[str, ModuleType]]:
    """The pack, imported once, with its modules and the host's."""
    before = _take_modules()
    pack = _load_pack(session_host)
    modules = _take_modules()
    sys.modules.update(before)
    return pack, modules


@pytest.fixture
def host(session_host: FakeHost, tmp_path: Path) -> FakeHost:
    """The fake host, without anything from another test."""
    session_host.reset(tmp_path / "models")
    return session_host


@pytest.fixture
def pack(session_pack: tuple[Pack, dict[str, ModuleType]], host: FakeHost, clean_modules: None) -> Iterator[Pack]:
    """The pack, with its folders in this test's host."""
    loaded, modules = session_pack
    modules["folder_paths"].models_dir = str(host.models)
    sys.modules.update(modules)
    loaded.module("nodes.host").register_folders()
    yield loaded
    modules.update(_take_modules())  # with those that were imported on demand


@pytest.fixture
def load_root(clean_modules: None) -> Callable[[], ModuleType]:
    """Load the pack's root alone, without a host."""
    return _load_root


@pytest.fixture
def load_pack(host: FakeHost, clean_modules: None) -> Callable[[], Pack]:
    """Import the pack anew, into a host that was set up before."""

    def load() -> Pack:
        _take_modules()
        return _load_pack(host)

    return load


@pytest.fixture
def tiny(pack: Pack, host: FakeHost) -> Any:
    """The output of LoadStyleModel for a small untrained network."""
    pack.style(host.styles / "tiny.safetensors")
    return pack.run("LoadStyleModel", style="tiny.safetensors")


@pytest.fixture
def photos(host):
    """A folder with four photos in the input folder."""
    random = np.random.default_rng(1)
    (host.input / "photos").mkdir()
    for n in range(4):
        pixels = random.integers(0, 256, (9, 11, 3), np.uint8).repeat(5, axis=0).repeat(5, axis=1)
        Image.fromarray(pixels).save(host.input / "photos" / f"{n}.png")
    return host.input / "photos"


@pytest.fixture
def ready(pack, host, photos, deep_loss_weights):
    """The pack with a loss network, photos and a tiny style as base."""
    (host.loss_networks / "vgg16.safetensors").write_bytes(deep_loss_weights.read_bytes())
    pack.style(host.styles / "base.safetensors")
    return pack


@pytest.fixture
def painting() -> torch.Tensor:
    """A random style image, as an IMAGE."""
    return torch.rand(1, 70, 80, 3, generator=torch.Generator().manual_seed(0)).square()


@pytest.fixture
def train(ready, painting):
    """Run the node with small settings. The host passes every input as a list."""

    def train(**inputs):
        settings = {"style_image": painting, "content": "photos", "name": "mine", "preset": "quick"}
        settings |= {**SMALL_RUN, "start_from": "base.safetensors", **inputs}
        settings = {name: value if isinstance(value, list) else [value] for name, value in settings.items()}
        return ready.run("TrainStyle", **settings)

    return train


@pytest.fixture
def asked(ready, monkeypatch):
    """Run the node without training, and return the arguments that core gets."""
    seen = {}

    class Enough(Exception):
        pass

    def train_style(style_image, content, out, **settings):
        seen.update(settings, style_image=style_image, content=content, out=out, files=sorted(content.iterdir()))
        raise Enough

    monkeypatch.setattr(ready.module("core"), "train_style", train_style)

    def asked(train, **inputs):
        with pytest.raises(Enough):
            train(**inputs)
        return seen

    return asked
