"""The Triton kernels, compiled for CUDA devices, which needs none."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest

pytest.importorskip("triton", reason="needs the package triton, which comes with torch for CUDA on Linux")

import triton  # noqa: E402
from perceptual_style.core.engine import triton_kernels  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

TARGETS = [GPUTarget("cuda", 75, 32), GPUTarget("cuda", 90, 32)]  # Turing, Hopper
POINTERS = {"bias", "scale", "shift", "means", "squares", "counts", "norm_scale", "norm_shift"}
FLOATS = {"eps", "noise"}


def compiled(kernel: Any, target: GPUTarget, element: str, **constants: Any) -> str:
    """Compile a kernel for maps of some number format, and return its PTX."""
    signature = {}
    for name, parameter in inspect.signature(kernel.fn).parameters.items():
        if name in constants:
            signature[name] = "constexpr"
        elif name in ("raw", "skip", "result"):
            signature[name] = f"*{element}"
        elif name in POINTERS:
            signature[name] = "*fp32"
        else:
            signature[name] = "fp32" if name in FLOATS else "i32"
        assert parameter.default is inspect.Parameter.empty
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=target).asm["ptx"]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("element", ["fp16", "fp32"])
def test_kernels_are_compiled(target: GPUTarget, element: str) -> None:
    tile = {"WIDE": 32, "TALL": 64}
    for phases, has_bias in itertools.product((1, 2), (True, False)):
        options = {"S": phases, "SHIFTS": 64 * (phases - 1), "HAS_BIAS": has_bias, **tile}
        assert ".entry" in compiled(triton_kernels._gather, target, element, **options)
    assert ".entry" in compiled(triton_kernels._conclude, target, element, **tile)
    for padding, relu in ((0, True), (1, False), (2, True)):
        options = {"S": 2, "SHIFTS": 64, "PADDING": padding, "HAS_BIAS": relu, "HAS_SCALE": True, "HAS_SKIP": not relu}
        assert ".entry" in compiled(triton_kernels._normalize_and_pad, target, element, RELU=relu, **options, **tile)
