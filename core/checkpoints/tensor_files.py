"""Files of tensors that are safe to open: safetensors, and plain tensors that torch.save wrote.

`kind_of` looks at a file's first bytes. Its name matters only for files that cannot be read here anyway. For these, the
error says in one line what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError, first_line, shortened
from .budget import Budget
from .torch_files import AGAIN, FEWEST_TENSORS, TorchFile, states_in

#: Suffixes of files that may hold a network; .tar stands for .pth.tar
NETWORK_SUFFIXES = (".safetensors", ".pth", ".pt", ".model", ".t7", ".onnx", ".h5", ".ckpt", ".tar")

_LARGEST_HEADER = 2**24
_OPERATIONS_OF_TENSOR = 20  # of a budget; a pickle takes as many to describe a tensor
_INDEX_OF_TENSORFLOW = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # at the end of a table file
_BY_NAME = {
    ".mlmodel": "is a Core ML model, which cannot be read here; use the weights that it was converted from",
    ".tflite": "is a TensorFlow Lite model, which cannot be read here; use the weights that it was converted from",
    ".pb": "is a TensorFlow graph, which cannot be read here; use the checkpoint that it was made from",
}


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: in one line, if the file cannot be read
    """
    path = existing(path)
    try:
        with _opened(path) as file:
            keys = list(file.keys())
            Budget.of(path).spend(_OPERATIONS_OF_TENSOR * len(keys))
            with torch.device("cpu"):  # older versions of safetensors follow the default device
                return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
    except Exception as error:  # damaged headers also end in KeyError, RuntimeError, ...
        if not isinstance(error, (SafetensorError, OSError, ValueError)):
            error = ValueError(f"{type(error).__name__}: {error}")
        if missing := _missing_bytes(path):
            raise CheckpointError(
                f"{path} is not a readable safetensors file: it is incomplete, {missing} bytes are missing; {AGAIN}"
            ) from None
        raise CheckpointError(f"{path} is not a readable safetensors file: {shortened(first_line(error))}") from None


def _missing_bytes(path: Path) -> int:
    """Return how many bytes a safetensors file lacks according to its header; 0 if none, or if it cannot be told."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _LARGEST_HEADER else {}
            ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
            return max(0, 8 + length + max(map(int, ends), default=0) - path.stat().st_size)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return 0


def metadata_of(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, or raise what its reader raises."""
    with _opened(path) as file:
        return file.metadata() or {}


def _opened(path: str | Path) -> Any:
    """Open a safetensors file, unless its header is larger than any network needs."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise CheckpointError(f"its header has {length} bytes, far more than any network needs")
    return safe_open(path, framework="pt")


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; {} for any other file, readable or not."""
    try:
        return metadata_of(path) if kind_of(path) == "safetensors" else {}
    except Exception:  # reading the tensors reports the error
        return {}


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file, or of a torch file that holds a dict of tensors, alone or wrapped.

    Programs wrap the weights as in ``{"epoch": 3, "model": weights}``.

    Raises:
        CheckpointError: for any other file
    """
    kind = kind_of(path)
    if kind == "safetensors":
        return read_safetensors(path)[0]
    if kind != "torch":
        raise CheckpointError(f"{path} is a file of kind {kind}; expected safetensors, or plain tensors saved by torch")
    file = TorchFile(path)
    state = next(iter(states_in(file.value)), {})
    if not state or (len(state) < FEWEST_TENSORS and not state.keys() <= file.value.keys()):
        raise CheckpointError(
            f"{path} does not hold a plain dict of tensors; convert it to safetensors where it came from"
        )
    return {key: file.tensor(view) for key, view in state.items()}


def check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise CheckpointError if some of a network's weights are nan or infinite. The message calls the file ``source``."""
    for key, tensor in tensors.items():
        if not (tensor.is_floating_point() and tensor.numel()):
            continue
        extremes = tensor.aminmax()  # both are nan if any value is
        # A variance may be infinite in an older float16 file. The channel's scale is 0 then.
        usable = not extremes[1].isnan() if key.endswith("running_var") else all(value.isfinite() for value in extremes)
        if not usable:
            raise CheckpointError(
                f"{source} is damaged: some of its weights are nan or infinite (in {key}); download or train it again"
            )


def kind_of(path: str | Path) -> str:
    """Return the kind of a file: safetensors | torch | torch7 | onnx | hdf5.

    Raises:
        CheckpointError: for any other file; the message says what it is
    """
    path = existing(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.read(1024)
            file.seek(max(size - 8, 0))
            footer = file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if start[8:9] == b"{":  # checked first: the length in front of it can look like any other kind
        header = int.from_bytes(start[:8], "little")
        if header + 8 > size:
            raise CheckpointError(
                f"{path} is incomplete: its safetensors header claims {header} bytes, the file has {size}; {AGAIN}"
            )
        return "safetensors"
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] <= b"\x05"):
        return "torch"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if start[:4] in (b"\x03\0\0\0", b"\x04\0\0\0") and 0 < int.from_bytes(start[4:8], "little") < 2**24:
        return "torch7"
    if start[:1] == b"\x08" and 0 < (start + b"\0\0")[1] < 64 and start[2:3] in b'\x12"\x1a*2:B':
        if path.suffix.lower() in _BY_NAME:  # the first bytes are the same
            raise CheckpointError(f"{path} {_BY_NAME[path.suffix.lower()]}")
        return "onnx"
    if start[:1] in b"c(]}lid" and footer[-1:] == b".":
        return "torch"  # a pickle of the oldest protocols; its error lists what it names
    if footer == _INDEX_OF_TENSORFLOW or _is_of_tensorflow(path.name, start):
        raise CheckpointError(f"{path} {_of_tensorflow(path)}")
    raise CheckpointError(f"{path} {_what_else(start, size)}")


def _is_of_tensorflow(name: str, start: bytes) -> bool:
    return re.search(r"\.ckpt(-\d+)?\.(data-\d+-of-\d+|index|meta)$", name) is not None or (
        start[:2] == b"\0\0" and start[3:4] == b"\n" and b"\x08\x01\x12" in start[:16]
    )


def _of_tensorflow(path: Path) -> str:
    name = re.sub(r"\.(data-\d+-of-\d+|index|meta)$", "", path.name)
    return (
        f"is a TensorFlow checkpoint, which cannot be read here; convert it where TensorFlow is installed: "
        f"r = tf.train.load_checkpoint({name!r}); safetensors.numpy.save_file({{n: r.get_tensor(n) for n in "
        f"r.get_variable_to_shape_map()}}, {Path(name).stem + '.safetensors'!r})"
    )


def _what_else(start: bytes, size: int) -> str:
    head = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return (
            f"is a Git LFS pointer ({size} bytes of text) instead of the weights; run `git lfs pull` where it came from"
        )
    if head.startswith((b"<!doctype html", b"<html")) or b"<html" in head:
        title = re.search(rb"(?is)<title>(.{1,60}?)</title>", start)
        named = f" ({' '.join(title[1].decode('ascii', 'replace').split())!r})" if title else ""
        return f"is a web page{named} instead of the weights; download the file itself"
    if start[:2] == b"\x1f\x8b" or start[:6] in (b"7z\xbc\xaf'\x1c", b"Rar!\x1a\x07") or start[257:262] == b"ustar":
        return "is a compressed or tar archive; unpack it first"
    if start[:4] == b"GGUF":
        return "is a GGUF file of a language model or image generator, not a network of this kind"
    if start[4:8] == b"TFL3":
        return _BY_NAME[".tflite"]
    if b'"weight_map"' in start:
        return "is the list of a model's parts (JSON) without the weights; merge the parts into one safetensors file"
    if start[:6] == b"\x93NUMPY":
        return "is a numpy array, not a network"
    if not start.strip(b"\0"):
        return f"contains only zeros; {AGAIN}"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        kind = "JSON" if head[:1] in (b"{", b"[") and _is_json(start) else "text"
        return f"is {kind} ({start[:40].decode('ascii')!r}), not a readable safetensors file or other weights"
    return f"is not a readable safetensors file or another known kind of weights (it starts with {start[:8]!r})"


def _is_json(start: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(start.decode("ascii").lstrip())
    except (ValueError, RecursionError):
        return len(start) == 1024
    return True


def existing(path: str | Path) -> Path:
    """Return the path of a file that exists and is not empty.

    Raises:
        CheckpointError: if there is no such file, or it is empty
    """
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise CheckpointError(f"{path!s:.200} cannot be read: {first_line(error)}") from None
    if size is None:
        raise CheckpointError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); {AGAIN}")
    return path
