"""Rules that linters cannot check: the modules that an import loads, and global settings that core must not change.

pyproject.toml says which module may import which ([tool.importlinter]). Ruff bans print (T201), assert (S101), pickle (S301),
environment variables and torch's global settings (TID251).
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "execution", "server", "latent_preview", "app"}


def test_root_module_imports_nothing_when_loaded():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    at_module_level = [node for node in tree.body if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    for statement in at_module_level:
        assert not [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)]
    assert any(isinstance(node, ast.AsyncFunctionDef) and node.name == "comfy_entrypoint" for node in tree.body)


def test_importing_core_loads_no_heavy_package(run_new_python):
    process = run_new_python(
        "import sys, perceptual_style\n"
        "assert not [name for name in sys.modules if name.startswith('perceptual_style.')]\n"
        "import perceptual_style.core\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        f"heavy = {HOSTS | {'torch', 'numpy', 'PIL', 'safetensors', 'huggingface_hub'}!r}\n"
        "sys.exit(repr(loaded & heavy) if loaded & heavy else 0)"
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_public_names_load_no_optional_package(run_python):
    """Packages that only some calls need are imported by those calls. No import warns."""
    later = {"tqdm", "scipy", "matplotlib", "onnx", "pyfive", "spandrel", "pyarrow", "ray", "av"} | {
        "coremltools", "ai_edge_litert", "flatbuffers",
    }  # fmt: skip
    process = run_python(
        "import sys, warnings, torch\n"
        "before = set(sys.modules)\n"
        "warnings.simplefilter('error')\n"
        "from perceptual_style.core import *\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        f"sys.exit(repr(loaded & {later!r}) if loaded & {later!r} else 0)"
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_command_help_does_not_import_torch(run_new_python):
    process = run_new_python(
        "import sys\n"
        "from perceptual_style.core.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(repr(sorted(sys.modules)) if 'torch' in sys.modules else 0)"
    )
    assert process.returncode == 0 and "train-style" in process.stdout


def test_public_names_of_core():
    from perceptual_style import core

    assert set(core.__all__) == {
        "ArchSpec", "LossNetwork", "Progress", "RECIPES", "StyleModel", "StyleRecipe", "TransformNet", "UpscaleModel",
        "UpscaleRecipe", "blend_styles", "build_network", "errors", "export", "fill_transparent", "list_styles",
        "list_upscalers", "load_style", "load_upscaler", "optimize_image", "predict_style", "process_video", "style_regions",
        "train_predictor", "train_style", "train_upscaler",
    }  # fmt: skip
    for name in core.__all__:
        assert getattr(core, name) is not None and name in dir(core)
    with pytest.raises(AttributeError, match="no attribute 'load_styles'"):
        core.load_styles  # noqa: B018


_IMPORT_CORE = """
from perceptual_style.core import *
import perceptual_style.core.cli.stylize, perceptual_style.core.cli.evaluate
"""
_IMPORT_NODES = """
import asyncio
from perceptual_style.nodes import PerceptualStyleExtension
nodes = asyncio.run(PerceptualStyleExtension().get_node_list())
assert len(nodes) == 11 and all(node.define_schema().node_id for node in nodes)
"""
_GLOBAL_STATE = """
import sys, os, pathlib, warnings, random, logging, locale, signal, numpy, torch, PIL.ImageFile
import huggingface_hub.file_download  # older versions import packages that add warning filters
sys.path.insert(0, sys.argv[1])
from fake_host import FakeHost
sys.modules.update(FakeHost(pathlib.Path(sys.argv[2])).modules())
known = list(logging.root.manager.loggerDict)

def state():
    loggers = [logging.root, *map(logging.getLogger, known)]
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": (torch.get_default_dtype(), str(torch.empty(0).device)),
        "random state": (torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state())),
        "warning filters": (list(warnings.filters), warnings.showwarning),
        "search path": list(sys.path),
        "loggers": [(each.name, each.level, list(each.handlers), each.disabled, each.propagate) for each in loggers],
        "torch": (torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.backends.cudnn.benchmark,
                  torch.get_float32_matmul_precision()),
        "process": (dict(os.environ), os.getcwd(), locale.getlocale(), signal.getsignal(signal.SIGINT), sys.excepthook),
        "pillow": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
    }

before = state()
"""


@pytest.mark.parametrize("imports", [_IMPORT_CORE, _IMPORT_NODES], ids=["core", "nodes"])
def test_importing_everything_changes_no_global_setting(imports, run_python, tmp_path):
    """Threads, default dtype, random state, warning filters, loggers, the search path and more stay as they were."""
    finish = "after = state()\nsys.exit(repr([name for name in before if before[name] != after[name]]))"
    process = run_python(_GLOBAL_STATE + imports + finish, ROOT / "tests", tmp_path / "models")
    assert (process.returncode, process.stderr.strip()) == (1, "[]")


@pytest.mark.skipif(sys.platform == "win32", reason="paths are compared as POSIX")
def test_every_room_of_core_is_packaged():
    """A new room needs its line in pyproject.toml, or an installed package lacks it."""
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = [path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "core").rglob("__init__.py")]
    assert [room for room in rooms if f'"perceptual_style.{room.replace("/", ".")}"' not in listed] == []
