"""Which device and which number format to compute with."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

from .errors import InputError, first_line

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device named, or the best one there is. Raises InputError when it is not available."""
    if str(name) != "auto":
        try:
            device = torch.device(name)
        except RuntimeError:
            raise InputError(f"there is no device {str(name)!r}; use auto, cpu or cuda") from None
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            why = first_line(error)
            raise InputError(f"the device {str(name)!r} is not available ({why}); use auto or cpu") from None
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    return False


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """The dtype of mixed precision training, None for plain float32.

    auto: bfloat16 where the hardware has it. float16, whose range gradients leave, is not offered.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision is {precision!r}; expected auto, fp32 or bf16")
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return None


def release_memory(device: torch.device) -> None:
    """Give what torch, or on a CPU the C library, keeps for later back to a device, where it can be had in other sizes."""
    backend = getattr(torch, device.type, None)
    if hasattr(backend, "empty_cache"):
        backend.empty_cache()
    if device.type == "cpu":
        with suppress(AttributeError, OSError, TypeError):  # glibc has this function, other systems do not need it
            ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whatever the backend (CUDA, MPS, XPU, CPU) calls it."""
    if isinstance(error, (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text
        for words in ("out of memory", "not enough memory", "can't allocate memory", "defaultcpuallocator")
    )
