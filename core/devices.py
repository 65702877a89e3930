"""The device and the number format to compute with, and memory that runs out."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import re
from collections.abc import Iterator

import torch

from .errors import InputError, PerceptualStyleError, first_line

_OLDEST_TORCH = (2, 2)
_OUT_OF_MEMORY = (
    "out of memory", "out_of_memory", "not enough memory", "can't allocate memory", "defaultcpuallocator",
    "cudnn_status_alloc_failed", "cublas_status_alloc_failed", "unable to find an engine",
    "not enough gpu video memory", "could not allocate tensor", "out_of_device_memory", "out_of_host_memory",
)  # fmt: skip
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_torch(version: str) -> None:
    """Raise PerceptualStyleError if this version of torch is too old. requirements.txt must not replace a CUDA build."""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        raise PerceptualStyleError(f"torch {version} is too old; perceptual-style needs {oldest} or newer")


check_torch(torch.__version__)


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Return the named device, or the best one of this machine for ``auto``: a GPU if torch finds one.

    ``directml`` names the GPU that the package torch-directml finds.

    Raises:
        InputError: the device is unknown or not available.
    """
    if str(name) == "directml":
        device = _directml()
        if device is None:
            raise InputError("the device 'directml' needs a GPU and the package torch-directml; use auto or cpu")
        return device
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
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return _directml() or torch.device("cpu")


def _directml() -> torch.device | None:
    """Return the device of the package torch-directml, or None if it is not installed or finds no GPU."""
    try:
        directml = importlib.import_module("torch_directml")
    except ImportError:
        return None
    return directml.device() if directml.is_available() else None


def pick_devices(name: str = "auto", workers: int | None = None) -> list[torch.device]:
    """Return one device for each image that is computed at the same time.

    Args:
        name: "auto" for every GPU, or the name of a device. A CPU is returned once for each core.
        workers: Number of images at the same time, instead of the number of GPUs or cores.

    Raises:
        InputError: If there is no such device, or the number is below 1.
    """
    if workers is not None and workers < 1:
        raise InputError(f"the number of workers is {workers}; expected 1 or more")
    device = pick_device(name)
    devices = [device]
    if name == "auto" and device.type == "cuda":
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if workers is None:
        workers = torch.get_num_threads() if device.type == "cpu" else len(devices)
    return [devices[i % len(devices)] for i in range(workers)]


@contextlib.contextmanager
def torch_threads(count: int, usual: int) -> Iterator[None]:
    """Let torch use ``count`` threads for the calling thread.

    OpenMP keeps the number for each thread. New threads start with the number that was set last, so it is reset to
    ``usual``, which must be read while no other thread has changed it.
    """
    torch.set_num_threads(count)  # noqa: TID251 - for one thread, and reset below
    try:
        yield
    finally:
        torch.set_num_threads(usual)  # noqa: TID251


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware has bfloat16 arithmetic."""
    if device.type == "cuda":
        try:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        except TypeError:  # torch 2.3 and older, which know no emulation
            return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    return False


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """Return the dtype of mixed precision training, or None for plain float32.

    float16 is not offered: gradients leave its range.

    Args:
        device: where to train
        precision: fp32 | bf16 | auto: bfloat16 if the hardware has it

    Raises:
        InputError: the precision is unknown.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision is {precision!r}; expected auto, fp32 or bf16")
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return None


def release_memory(device: torch.device) -> None:
    """Free the memory that torch, or the C library on a CPU, caches, so that it can be allocated in other sizes."""
    backend = getattr(torch, device.type, None)
    if backend is not None and hasattr(backend, "empty_cache"):
        backend.empty_cache()
    if device.type == "cpu":
        # glibc has this function, other systems do not need it
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, in the words of any back end.

    cuDNN and cuBLAS say so when they cannot allocate a workspace, and cuDNN also when no algorithm fits into memory.
    """
    if isinstance(error, (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
