"""This project's own format: safetensors files that describe the network they hold.

The metadata's ``perceptual_style`` entry is JSON with these keys:

- format: 1 (2 in checkpoints of training runs)
- task: style | upscale | style-predictor (models/predictor_file.py)
- arch: an arch string
- pixels: a pixel convention, left out for RGB in [0, 1]
- facts: name, title, license, credit, recipe, figures and whatever else is known
- styles: only in a network of several styles, see network/styles.py

Loading needs nothing but the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import ArchError, CheckpointError, DiskFullError, quoted, shortened
from ..files import atomic_write, remembered
from ..network.arch import ArchSpec
from ..network.pixels import OURS, PixelConvention
from ..network.styles import check_styles, styles_in
from ..network.transform_net import TransformNet
from .tensor_files import check_finite, kind_of, metadata_of, read_metadata, read_safetensors

_KEY, _FORMAT = "perceptual_style", 1
_FORMATS = {"training": (1, 2)}  # formats that can be read, of tasks that have had several
_MAX_HEADER, _MAX_DEPTH = 2**24, 50  # characters of a header, and how deeply it nests


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to a safetensors file, completely or not at all.

    Raises:
        DiskFullError: if the disk is full
        CheckpointError: if the file cannot be written for another reason
    """
    try:
        on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        # save_file would write to a temporary file of its own, which a kill leaves behind.
        content = save(on_cpu, metadata={_KEY: json.dumps(header)})
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except (OSError, SafetensorError) as error:
        kind = DiskFullError if getattr(error, "errno", None) in (ENOSPC, EDQUOT) else CheckpointError
        raise kind(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header that `save_tensors` wrote.

    Raises:
        CheckpointError: for other files; the message says what the file holds
    """
    tensors, metadata = read_safetensors(path)
    if _KEY not in metadata:
        some = shortened(", ".join(sorted(tensors)[:3])) or "no tensors"
        raise CheckpointError(f"{path} is not a file of this project: it has no {_KEY} metadata (it holds {some})")
    try:
        header = _parsed(metadata[_KEY])
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not a file of this project: its {_KEY} metadata cannot be read ({error})"
        ) from None
    task = header.get("task")
    known = _FORMATS.get(task, (_FORMAT,)) if isinstance(task, str) else (_FORMAT,)
    if type(header.get("format")) is not int or header["format"] not in known:
        raise CheckpointError(
            f"{path} has format {quoted(header.get('format'))}; this version reads format {known[-1]}: update the package"
        )
    return tensors, header


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parsed(text: str) -> dict[str, Any]:
    """Return the header that this text holds. Raise ValueError, in one line, if it is not a valid header."""
    if len(text) > _MAX_HEADER:
        raise ValueError(f"it has {len(text)} characters")
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} times") from None
    except ValueError as error:
        raise ValueError(shortened(str(error), 100)) from None
    if not isinstance(header, dict):
        raise ValueError(f"it has format {quoted(header)}, not an object")
    level: list[Any] = [header]  # what can be parsed can still be too deep to be written out
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return header
    raise ValueError(f"it is nested more than {_MAX_DEPTH} times")


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the JSON header of a file in our format without reading its tensors, {} for any other. Raises nothing."""
    try:
        return _parsed(read_metadata(path)[_KEY])
    except (KeyError, ValueError):
        return {}


def style_names(path: str | Path) -> tuple[str, ...]:
    """Return the names of the styles in a file of several; () for any other file, readable or not.

    Only the header is read, and only again when the file changes. This is cheap enough for a list of many files.
    """
    return _seen(path)[0]


def is_readable(path: str | Path) -> bool:
    """Return whether a file looks like weights: False if its kind is unknown, or its header is damaged.

    As cheap as `style_names`. Opening the file tells what is wrong with it.
    """
    return _seen(path)[1]


def task_of(path: str | Path) -> str | None:
    """Return the task that a file of ours states; None for any other file. As cheap as `style_names`."""
    return _seen(path)[2]


@remembered
def _seen(path: str) -> tuple[tuple[str, ...], bool, str | None]:
    """Return the names of the styles in a file, whether the file looks readable, and its task. Raises nothing."""
    try:
        metadata = metadata_of(path) if kind_of(path) == "safetensors" else {}
        header = _parsed(metadata[_KEY]) if _KEY in metadata else {}
        task = header.get("task")
        known = task if isinstance(task, str) else None
        return tuple(each["name"] for each in styles_in(header)), bool(header) or _KEY not in metadata, known
    except Exception:  # files come from anywhere: none may keep the others from being listed
        return (), False, None


def is_ours(path: str | Path) -> bool:
    """Return whether this is a safetensors file with our metadata; False if it cannot be read."""
    return _KEY in read_metadata(path)


def save_network(
    path: str | Path,
    network: TransformNet,
    facts: Mapping[str, Any],
    *,
    half: bool = False,
    pixels: PixelConvention = OURS,
) -> None:
    """Write a network, its facts and its pixel convention.

    Args:
        path: the file
        network: the network
        facts: JSON values; ``format`` and ``arch`` are overwritten
        half: whether to store float16, which halves the file
        pixels: the network's pixel convention

    Raises:
        CheckpointError: if the file cannot be written, or the facts do not name the styles of a network of several
    """
    check_styles(facts, network.spec)
    save_module(path, network, network.spec, facts, half=half, pixels=pixels)


def save_module(
    path: str | Path, module: nn.Module, spec: ArchSpec, facts: Mapping[str, Any], *, half: bool, pixels: PixelConvention
) -> None:  # fmt: skip
    """Write the state of a module that is, or contains, a network with this architecture; see `save_network`."""
    tensors = module.state_dict()
    if half:
        tensors = {key: halved(t) for key, t in tensors.items()}
    header = {**facts, "format": _FORMAT, "arch": str(spec)}
    if pixels != OURS:
        header["pixels"] = str(pixels)
    save_tensors(path, tensors, header)


def halved(tensor: Tensor) -> Tensor:
    """Return a tensor in float16, or unchanged if it holds integers, or values too large for float16."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def load_network(path: str | Path) -> tuple[TransformNet, dict[str, Any]]:
    """Read a file that `save_network` wrote.

    Returns:
        The network (float32, in eval mode) and its facts. They include ``arch``, and ``pixels`` as text unless the
        network takes RGB in [0, 1].

    Raises:
        CheckpointError: if the file is something else, is damaged, does not fit its own architecture, or holds weights
            that are nan or infinite
    """
    tensors, header = load_tensors(path)
    if header.get("task") == "training":
        raise CheckpointError(f"{path} is the checkpoint of an unfinished training run; resume it to get the network")
    if header.get("task") == "style-predictor":
        raise CheckpointError(f"{path} is a predictor of styles, not a network; it needs a painting: predict_style")
    if not isinstance(header.get("arch"), str):
        raise CheckpointError(f"{path} does not say its architecture (no arch string in its metadata)")
    network = network_from(tensors, header["arch"], str(path))
    check_finite(network.state_dict(), path)
    try:
        check_styles(header, network.spec)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return network, {key: value for key, value in header.items() if key != "format"}


def network_from(tensors: Mapping[str, Tensor], arch: str, source: str) -> TransformNet:
    """Build the network that ``arch`` describes around ``tensors``.

    Args:
        tensors: the state dict, in any floating-point format
        arch: an arch string
        source: what to call the file in messages

    Raises:
        CheckpointError: if the architecture cannot be built, or a tensor is missing, superfluous or does not fit
    """
    try:
        with torch.device("meta"):
            network = TransformNet(ArchSpec.parse(arch))
    except ArchError as error:
        reason = shortened(str(error), 300)
        raise CheckpointError(f"{source} has an architecture that cannot be built: {reason}") from None
    expected = {key: tuple(t.shape) for key, t in network.state_dict().items()}
    found = {key: tuple(t.shape) for key, t in tensors.items()}
    if expected != found:
        key = sorted(expected.items() ^ found.items())[0][0]
        raise CheckpointError(
            f"{source} does not fit its own architecture {quoted(arch, 80)}: {shortened(key)} is {found.get(key, 'missing')}, "
            f"expected {expected.get(key, 'no such tensor')}"
        )
    for key, tensor in network.state_dict().items():
        if tensors[key].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{source} has {key} as {tensors[key].dtype}, expected {tensor.dtype}")
    values = {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
    network.load_state_dict(values, assign=True)
    return network.eval().requires_grad_(False)
