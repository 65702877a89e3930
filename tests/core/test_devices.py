"""Choosing a device, its free memory, and the words in which back ends say that memory ran out."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch
from helpers import autocasts_on_the_cpu, refusal
from perceptual_style.core.arithmetic import autocast, full_float32, has_float64
from perceptual_style.core.devices import is_out_of_memory, pick_device
from perceptual_style.core.errors import InputError
from perceptual_style.core.memory import free_memory

GiB = 1 << 30


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "HIP out of memory. Tried to allocate 20.00 MiB",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "XPU out of memory. Tried to allocate 2.00 GiB",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
        "Could not allocate tensor with 1073741824 bytes. There is not enough GPU video memory available!",
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_words_for_out_of_memory(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words)) and not is_out_of_memory(ValueError(words))


def test_other_errors_are_not_out_of_memory() -> None:
    for words in ("CUDA error: an illegal memory access was encountered", "cuDNN error: CUDNN_STATUS_BAD_PARAM"):
        assert not is_out_of_memory(RuntimeError(words))
    assert is_out_of_memory(MemoryError())


def test_auto_takes_any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    assert pick_device("auto").type == "cpu"
    directml = SimpleNamespace(is_available=lambda: True, device=lambda: torch.device("privateuseone:0"))
    monkeypatch.setitem(sys.modules, "torch_directml", directml)
    assert pick_device("auto") == pick_device("directml") == torch.device("privateuseone:0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    assert pick_device("auto").type == "xpu"


def test_directml_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    assert "torch-directml" in refusal(InputError, pick_device, "directml")


@pytest.mark.parametrize("name", ["cuda", "xpu"])
def test_free_memory_of_a_gpu_is_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = getattr(torch, name)
    monkeypatch.setattr(backend, "memory_reserved", lambda device: 3 * GiB, raising=False)
    monkeypatch.setattr(backend, "memory_allocated", lambda device: 1 * GiB, raising=False)
    monkeypatch.setattr(backend, "mem_get_info", lambda device: (5 * GiB, 16 * GiB), raising=False)
    assert free_memory(torch.device(name)) == 7 * GiB
    monkeypatch.delattr(backend, "mem_get_info")
    properties = SimpleNamespace(total_memory=16 * GiB)
    monkeypatch.setattr(backend, "get_device_properties", lambda device: properties)
    assert free_memory(torch.device(name)) == 15 * GiB


def test_free_memory_is_modest_where_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GiB))
    assert free_memory(torch.device("privateuseone")) <= GiB < free_memory(torch.device("cpu"))


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_off_within_the_block_only(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)

    def inner() -> object:
        conv = getattr(torch.backends.cudnn, "conv", None)
        return torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision

    with pytest.raises(ValueError, match="inside"), full_float32(torch.device("cuda")):
        with full_float32(torch.device("cuda")):
            pass
        assert inner() in (False, "ieee")
        raise ValueError("inside")
    assert torch.backends.cudnn.allow_tf32 is allowed


def test_back_ends_without_autocast_are_left_alone() -> None:
    with autocast(torch.device("privateuseone"), None), autocast(torch.device("privateuseone"), torch.bfloat16):
        assert not autocasts_on_the_cpu()
    with autocast(torch.device("cpu"), torch.bfloat16), autocast(torch.device("cpu"), None):
        assert not autocasts_on_the_cpu()


def test_float64_is_found_missing() -> None:
    assert has_float64(torch.device("cpu")) and not has_float64(torch.device("privateuseone"))
