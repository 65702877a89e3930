"""Tests on pretended GPUs, each file in a process of its own: what it registers with torch or Triton stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("on_the_device", "not slow"),
        pytest.param("on_the_device", "slow", marks=pytest.mark.slow),
        ("on_fake_cuda", "not slow"),
        ("triton_on_the_cpu", "not slow"),
        ("triton_compiled", "not slow"),
    ],
)
def test_on_a_pretended_gpu(name: str, which: str, python_environment: dict[str, str]) -> None:
    file = Path(__file__).with_name(f"{name}.py")
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "-m", which, str(file)]
    result = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=900)
    if result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and "skipped" in result.stdout:
        pytest.skip(result.stdout.strip().splitlines()[-2])  # without the package triton
    assert result.returncode == 0, result.stdout + result.stderr
