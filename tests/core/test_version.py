"""The version: stated in pyproject.toml, read everywhere else."""

from __future__ import annotations

import shutil
from importlib import metadata

import perceptual_style
import pytest
from perceptual_style import core
from perceptual_style.core import version as version_module


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Take pyproject.toml away, as in an installed package, and return a function that sets the installed version."""
    monkeypatch.setattr(version_module, "PYPROJECT", tmp_path / "pyproject.toml")

    def installed(found: str | None) -> None:
        def version(name: str) -> str:
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return installed


def test_version_is_the_one_in_pyproject(root):
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    stated = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version_module.version() == perceptual_style.__version__ == core.__version__ == stated


def test_unknown_attributes_are_errors():
    with pytest.raises(AttributeError, match="no attribute 'NODE_CLASS_MAPPINGS'"):
        perceptual_style.NODE_CLASS_MAPPINGS  # noqa: B018
    assert not hasattr(perceptual_style, "__versions__")


def test_installed_package_reads_its_metadata(installed):
    installed("9.8.7")
    assert version_module.version() == "9.8.7"


def test_copy_without_metadata_has_no_version(installed):
    installed(None)
    assert version_module.version() == "unknown"


@pytest.mark.parametrize("text", ["", '[project]\nname = "other"\nversion = "3.0"\n'])
def test_another_projects_pyproject_is_ignored(installed, tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    installed("9.8.7")
    assert version_module.version() == "9.8.7"


def test_custom_node_folder_reads_its_own_pyproject(run_new_python, root, tmp_path):
    """A clone knows its version even when pip has installed another one."""
    pack = tmp_path / "perceptual-style"
    (pack / "core").mkdir(parents=True)
    shutil.copy(root / "__init__.py", pack)
    for name in ("__init__.py", "version.py"):
        shutil.copy(root / "core" / name, pack / "core")
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (pack / "pyproject.toml").write_text(text.replace(core.__version__, "7.7.7", 1), encoding="utf-8")
    process = run_new_python(
        "import importlib.util, sys\n"
        f"path = {str(pack)!r}\n"
        "spec = importlib.util.spec_from_file_location(path, path + '/__init__.py', submodule_search_locations=[path])\n"
        "sys.modules[path] = module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.__version__)"
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "7.7.7\n", "")


def test_command_prints_its_version_without_torch(run_new_python):
    process = run_new_python(
        "import sys\n"
        "from perceptual_style.core import __version__\n"
        "from perceptual_style.core.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(repr(sorted(sys.modules)) if 'torch' in sys.modules else 0)"
    )
    assert (process.returncode, process.stdout) == (0, f"perceptual-style {core.__version__}\n"), process.stderr
