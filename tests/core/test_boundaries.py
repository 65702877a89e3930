"""What each part may import and touch, read from the source of all files."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE, NODES = sorted((ROOT / "core").rglob("*.py")), sorted((ROOT / "nodes").rglob("*.py"))
HOSTS = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "execution", "server", "latent_preview", "app"}
DECLARED = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
THIRD_PARTY = {{"pillow": "PIL"}.get(name, name.replace("-", "_")) for name in DECLARED}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, dotted name) of all imports, anywhere in the file; level 1 is the file's own folder, 0 absolute."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.level, node.module))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, alias.name) for alias in node.names]
    return found


def test_there_is_something_to_check():
    assert {"core/arch.py", "core/cli.py", "core/trainer.py"} <= {name_of(path) for path in CORE}
    assert {"nodes/host.py", "nodes/__init__.py"} <= {name_of(path) for path in NODES}


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_imports_itself_relatively_and_libraries_that_are_declared(path):
    depth = len(path.relative_to(ROOT / "core").parts)
    for level, name in imports(path):
        assert level <= depth, f"{name} is outside of core"
        if level == 0:
            top = name.split(".")[0]
            assert top not in HOSTS | {"perceptual_style", "core"}, f"core imports {name}"
            assert top in THIRD_PARTY or top in sys.stdlib_module_names, f"{name} is not a declared dependency"


@pytest.mark.parametrize("path", NODES, ids=name_of)
def test_in_nodes_only_host_imports_the_host(path):
    for level, name in imports(path):
        top = name.split(".")[0]
        if level == 0:
            assert top != "perceptual_style", "the folder's name is the user's choice: import relatively"
            allowed = {"host.py": HOSTS, "upscale_descriptor.py": {"spandrel"}}.get(path.name, set())
            assert top in THIRD_PARTY or top in sys.stdlib_module_names or top in allowed
        assert level <= 1 or top == "core", f"{name} is neither in nodes nor in core"


@pytest.mark.parametrize("path", [path for path in CORE if not path.name.startswith("cli")], ids=name_of)
def test_core_prints_nothing_and_asks_nothing(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "eval", "exec", "breakpoint"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in ("stdout", "stderr", "stdin", "exit", "argv"), f"line {node.lineno}"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_reads_no_environment_variable(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "environb", "getenv", "getenvb", "putenv"), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {"environ", "getenv"} & {alias.name for alias in node.names}


@pytest.mark.parametrize("path", CORE + NODES, ids=name_of)
def test_mistakes_of_callers_are_errors_and_never_asserts(path):
    assert not [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", CORE + NODES, ids=name_of)
def test_nothing_is_ever_unpickled_freely(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            assert called not in ("pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load"), (
                f"line {node.lineno}"
            )
            if called == "torch.load":
                safe = [keyword.value for keyword in node.keywords if keyword.arg == "weights_only"]
                assert safe and isinstance(safe[0], ast.Constant) and safe[0].value is True, f"line {node.lineno}"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_changes_no_global_setting_of_torch(path):
    forbidden = {
        "manual_seed",
        "seed",
        "set_num_threads",
        "set_default_dtype",
        "set_default_device",
        "use_deterministic_algorithms",
    }
    if name_of(path) == "core/bulk.py":  # for threads of its own, and set back
        forbidden.remove("set_num_threads")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not (ast.unparse(node.func.value) == "torch" and node.func.attr in forbidden), f"line {node.lineno}"


def test_the_packages_own_file_imports_nothing_until_the_host_calls():
    tree = tree_of(ROOT / "__init__.py")
    at_module_level = [node for node in tree.body if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    for statement in at_module_level:
        assert not [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)]
    assert any(isinstance(node, ast.AsyncFunctionDef) and node.name == "comfy_entrypoint" for node in tree.body)


def test_importing_core_imports_no_host_and_prints_nothing(run_python):
    process = run_python(
        "import sys, perceptual_style\n"
        "assert not [name for name in sys.modules if name.startswith('perceptual_style.')]\n"
        "import perceptual_style.core\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        f"sys.exit(repr(loaded & {HOSTS!r}) if loaded & {HOSTS!r} else 0)"
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_importing_core_takes_torch_and_little_else(run_python):
    """What only some calls need is imported by them; and no import warns."""
    later = {
        "torchvision",
        "huggingface_hub",
        "tqdm",
        "scipy",
        "matplotlib",
        "onnx",
        "pyfive",
        "spandrel",
        "pyarrow",
        "ray",
    }
    process = run_python(
        "import sys, warnings, torch\n"
        "before = set(sys.modules)\n"
        "warnings.simplefilter('error')\n"
        "import perceptual_style.core\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        f"sys.exit(repr(loaded & {later!r}) if loaded & {later!r} else 0)"
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_public_names_are_there():
    from perceptual_style import core

    assert set(core.__all__) <= set(dir(core))
    assert {
        "load_style",
        "list_styles",
        "load_upscaler",
        "list_upscalers",
        "train_style",
        "optimize_image",
        "build_network",
        "ArchSpec",
        "TransformNet",
        "LossNetwork",
        "errors",
    } <= set(core.__all__)
