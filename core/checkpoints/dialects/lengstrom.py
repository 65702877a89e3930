"""lengstrom, fast-style-transfer, as deeplearn.js and ml5 ship it: a folder of raw variables and a manifest.json.

The manifest names the file (little-endian float32) and the shape of each variable. Variable, Variable_1, ... follow the
order in which the program creates them: kernel (height, width, in, out), shift and scale of each layer. Padding is
TensorFlow's SAME, eps is 1e-3, and the last layer is normalized too. The output is 150 tanh + 127.5.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, quoted, shortened
from ...network.arch import ArchSpec
from ...network.pixels import PixelConvention
from .family import Foreign
from .layout import Names, build, conv, doubles, fit, residual, transposed

NAME, SOURCE = "lengstrom", "https://github.com/lengstrom/fast-style-transfer"
_OPTIONS: dict[str, Any] = {"norm": "instance", "padding": "same", "output": "tanh150", "last": "norm", "eps": 1e-3}
_PIXELS = "rgb in=255 out=255-127.5"
_MAX_MANIFEST, _MAX_VARIABLES = 2**20, 300


def read(path: Path) -> Foreign:
    """Read the folder of ``path``, a manifest.json.

    Raises:
        CheckpointError: in one line, if it holds anything but a network of this family
    """
    return _convert(path, _read_variables(path))


def are_variables(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have the names that the program gives its variables, as in a converted checkpoint."""
    return all(name in tensors for name in ("Variable", "Variable_1", "Variable_47"))


def convert(path: Path, tensors: Mapping[str, Tensor]) -> Foreign:
    """Build the network of a checkpoint that was converted to safetensors, with its variables by name.

    Raises:
        CheckpointError: in one line, if it holds anything but a network of this family
    """
    count = sum(re.fullmatch(r"Variable(_\d+)?", name) is not None for name in tensors)
    names = ["Variable", *(f"Variable_{n}" for n in range(1, count))]
    if not all(name in tensors for name in names):
        raise CheckpointError(f"{path} has {count} variables of a {NAME} network, but not {names[-1]}")
    return _convert(path, [tensors[name] for name in names])


def _convert(path: Path, variables: list[Tensor]) -> Foreign:
    blocks = (len(variables) - 18) // 6
    if blocks < 1 or len(variables) != 18 + 6 * blocks:
        raise CheckpointError(f"{path} lists {len(variables)} variables; a network of this family has 48")
    layers = [variables[i : i + 3] for i in range(0, len(variables), 3)]
    tensors: dict[str, Tensor] = {}
    for i, (kernel, shift, scale) in enumerate(layers):
        # (height, width, in, out) -> (out, in, height, width); in a transposed one, in and out are swapped in both
        tensors[f"{i}.weight"] = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel
        tensors[f"{i}.norm.shift"], tensors[f"{i}.norm.scale"] = shift, scale
    slots = [
        conv("0", "0.norm", 9),
        conv("1", "1.norm", stride=2),
        conv("2", "2.norm", stride=2),
        *[residual(f"{i}", f"{i}.norm", f"{i + 1}", f"{i + 1}.norm") for i in range(3, 3 + 2 * blocks, 2)],
        transposed(f"{3 + 2 * blocks}", f"{3 + 2 * blocks}.norm"),
        transposed(f"{4 + 2 * blocks}", f"{4 + 2 * blocks}.norm"),
        conv(f"{5 + 2 * blocks}", f"{5 + 2 * blocks}.norm", 9),
    ]
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    found = fit(slots, shapes, Names(scale="scale", shift="shift"))
    if found is None or not doubles(found.layers):
        raise CheckpointError(f"{path} lists variables whose shapes do not fit a {NAME} network")
    spec = ArchSpec(found.layers, **_OPTIONS)
    return Foreign(build(spec, found, tensors), PixelConvention.parse(_PIXELS), {"family": NAME, "source": SOURCE})


def _read_variables(path: Path) -> list[Tensor]:
    """Read the variables in order: Variable, Variable_1, ... without a gap."""
    try:
        if path.stat().st_size > _MAX_MANIFEST:
            raise CheckpointError(f"{path} is too large for a manifest ({path.stat().st_size} bytes)")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a readable manifest: {shortened(str(error))}") from None
    if not isinstance(manifest, dict) or not 0 < len(manifest) <= _MAX_VARIABLES:
        raise CheckpointError(f"{path} is not a manifest of variables")
    names = ["Variable", *(f"Variable_{n}" for n in range(1, len(manifest)))]
    if set(manifest) != set(names):
        some = ", ".join(sorted(set(manifest) ^ set(names))[:3])[:120]
        raise CheckpointError(f"{path} is not a manifest of a {NAME} network: {some} is missing or not expected")
    files = [entry.get("filename") for entry in manifest.values() if isinstance(entry, dict)]
    if len({name for name in files if isinstance(name, str)}) < len(files):
        raise CheckpointError(f"{path} names the same file for several variables")
    return [_read_variable(path, name, manifest[name]) for name in names]


def _read_variable(manifest: Path, name: str, entry: object) -> Tensor:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    filename = entry.get("filename") if isinstance(entry, dict) else None
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 4
        or not all(type(n) is int and 0 < n < 2**16 for n in shape)
    ):
        raise CheckpointError(f"{manifest} has no usable shape for {name}")
    if not isinstance(filename, str) or filename in ("", ".", "..") or set(filename) & set("/\\\0:"):
        raise CheckpointError(f"{manifest} names {quoted(filename, 80)} for {name}; expected a file beside it")
    file, size = manifest.with_name(filename), 4 * math.prod(shape)
    try:
        held = file.stat().st_size
        if held != size:
            raise CheckpointError(f"{file} has {held} bytes, but the manifest claims {size}")
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) != size:
        raise CheckpointError(f"{file} has {len(data)} bytes, but the manifest claims {size}")
    return torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape)
