"""Files of tensors that are safe to open: safetensors, and torch files read with ``weights_only``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import CheckpointError


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises CheckpointError in one line."""
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {_one_line(error)}") from None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a torch file that holds a plain dict of tensors."""
    path = _existing(path)
    with path.open("rb") as file:
        start = file.read(9)
    # Safetensors: eight bytes of length, which may be anything, and a JSON object. Torch: a zip archive or a pickle.
    if start[8:] == b"{" or not start.startswith((b"PK\x03\x04", b"\x80")):
        return read_safetensors(path)[0]
    try:
        with path.open("rb") as file:  # given a name, torch.load goes by its suffix
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged data unpickling raises nearly anything
        raise CheckpointError(f"{path} cannot be opened safely: {_one_line(error)}") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(
            f"{path} does not hold a plain dict of tensors; convert it to safetensors where it came from"
        )
    return loaded


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); copy or download it again")
    return path


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
