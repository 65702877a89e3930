"""Tests on pretended GPUs, each file in a process of its own: what it registers with torch or Triton stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["on_the_device", "on_fake_cuda", "triton_on_the_cpu", "triton_compiled"])
def test_on_a_pretended_gpu(name: str, python_environment: dict[str, str]) -> None:
    file = Path(__file__).with_name(f"{name}.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "slow or not slow",
        str(file),
    ]
    result = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=900)
    if result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and "skipped" in result.stdout:
        pytest.skip(result.stdout.strip().splitlines()[-2])  # without the package triton
    assert result.returncode == 0, result.stdout + result.stderr
