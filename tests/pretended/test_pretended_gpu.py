"""Tests on pretended devices, each file in a process of its own: a device that is registered with torch stays."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = """
import sys, pytest
sys.exit(pytest.main(["-n0", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("name", ["on_the_device", "on_fake_cuda", "triton_on_the_cpu"])
def test_on_a_pretended_device(name: str, run_python, root: Path) -> None:
    process = run_python(SCRIPT, Path(__file__).with_name(f"{name}.py"), cwd=root, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    assert " passed" in process.stdout
