"""Shared by all tests: the package is the one in this repository, and everything is small, seeded and offline."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Read when huggingface_hub is imported: an empty cache of the tests' own, and no way out.
_HUB = tempfile.TemporaryDirectory(prefix="hub-")
os.environ |= {"HF_HOME": _HUB.name, "HF_HUB_CACHE": os.path.join(_HUB.name, "hub"), "HF_HUB_OFFLINE": "1"}
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def _import_this_repository() -> None:
    """Make ``perceptual_style`` the package in this repository, installed or not: its root folder is the package."""
    spec = importlib.util.spec_from_file_location(
        "perceptual_style", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["perceptual_style"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


_import_this_repository()
# In the background of a shell SIGINT is ignored, and the processes that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # equal results on any number of cores, and no slowdown beside other work


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of tests/host in one process: they share one server."""
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "host"):
            item.add_marker(pytest.mark.xdist_group("host"))


@pytest.fixture(autouse=True, scope="module")
def _modules_are_no_garbage() -> None:
    """Let the garbage collector skip what exists now: each complete collection, as nodes make it, took 0.5 s."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """New networks are initialized from torch's global generator: equal in each run of a test."""
    torch.manual_seed(0)


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator for test data."""
    return torch.Generator().manual_seed(20160327)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder, which is the package."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder beside the repository; tests that need it are marked ``shared``."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder ({folder}), which is not there")
    return folder


@pytest.fixture(scope="session")
def loss_weights(tmp_path_factory) -> Path:
    """A file of random weights of a VGG-16 up to relu2_2 with a quarter of its channels."""
    tensors, generator = {}, torch.Generator().manual_seed(16)
    for index, shape in {0: (16, 3, 3, 3), 2: (16, 16, 3, 3), 5: (32, 16, 3, 3), 7: (32, 32, 3, 3)}.items():
        spread = (2 / (9 * shape[1])) ** 0.5
        tensors[f"features.{index}.weight"] = spread * torch.randn(shape, generator=generator)
        tensors[f"features.{index}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    path = tmp_path_factory.mktemp("loss network") / "vgg16.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="session")
def deep_loss_weights(tmp_path_factory) -> Path:
    """A file of random weights as deep as any recipe needs: of a VGG-16 that has four channels everywhere."""
    tensors, generator, channels = {}, torch.Generator().manual_seed(17), 3
    for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24):
        spread = (2 / (9 * channels)) ** 0.5
        tensors[f"features.{index}.weight"] = spread * torch.randn(4, channels, 3, 3, generator=generator)
        tensors[f"features.{index}.bias"] = 0.1 * torch.randn(4, generator=generator)
        channels = 4
    path = tmp_path_factory.mktemp("deep loss network") / "vgg16.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def hub_standin(monkeypatch):
    """A Hub on 127.0.0.1, which is asked again soon after a failure."""
    from hub_standin import HubStandIn
    from perceptual_style.core.hub import ranges

    monkeypatch.setattr(ranges, "_PAUSE", 0.01)
    hub = HubStandIn()
    yield hub
    hub.close()


@pytest.fixture
def use_hub(hub_standin, tmp_path, monkeypatch):
    """huggingface_hub in this process uses the stand-in, and an empty cache in the test's folder; returns that."""
    import huggingface_hub
    from huggingface_hub import file_download, hf_api, utils  # noqa: F401 - so that their copies of constants exist

    home = tmp_path / "hf"
    changes = {"ENDPOINT": hub_standin.endpoint, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    changes |= {"HF_HUB_OFFLINE": False, "HF_HUB_ETAG_TIMEOUT": 5, "HF_HUB_DOWNLOAD_TIMEOUT": 5}
    changes["HUGGINGFACE_CO_URL_TEMPLATE"] = hub_standin.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    # Older versions copy constants into the modules that use them.
    users = [module for name, module in sys.modules.items() if name.startswith(huggingface_hub.__name__)]
    for name, value in changes.items():
        for module in users:
            if name in vars(module):
                monkeypatch.setattr(module, name, value)
    # Before version 1, huggingface_hub keeps sessions, and one that was opened in offline mode stays offline.
    reset_sessions = getattr(utils, "reset_sessions", lambda: None)
    reset_sessions()
    yield home
    reset_sessions()


@pytest.fixture(scope="session")
def python_environment(tmp_path_factory) -> dict[str, str]:
    """Environment in which another Python process finds this repository as ``perceptual_style``."""
    package = tmp_path_factory.mktemp("path") / "perceptual_style"
    package.mkdir()
    (package / "__init__.py").write_text(f"__path__ = [{str(ROOT)!r}]\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="session")
def start_python(python_environment):
    """Function that starts a script in a process of its own in which torch is already imported."""
    from python_processes import start_python

    def start(script: str, *arguments: object, env: dict[str, str] | None = None, **options):
        return start_python(script, *arguments, env=env or python_environment, **options)

    return start


@pytest.fixture(scope="session")
def run_python(start_python):
    """Function that runs a script as start_python does; returns the finished process with its output as text."""

    def run(script: str, *arguments: object, timeout: float = 120, **options) -> subprocess.CompletedProcess[str]:
        with start_python(script, *arguments, **options) as process:
            out, err = process.communicate(timeout)
        return subprocess.CompletedProcess(script, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def run_new_python(python_environment):
    """Function that runs a script in a new interpreter, which has imported nothing, and returns the finished process."""

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 120}
        return subprocess.run(command, env=python_environment, **options)

    return run
