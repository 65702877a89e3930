"""Networks from other people's programs: families of checkpoints, recognized by keys and shapes alone.

Each family is a file of this folder. Most are dicts of tensors, described by a `Family` and listed here. Others have
their own container and reader. The order does not matter, because no two families accept the same file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import ArchError, CheckpointError, shortened
from ...network.pixels import PixelConvention
from ...network.transform_net import TransformNet
from ..tensor_files import check_finite, kind_of, read_safetensors
from ..torch_files import FEWEST_TENSORS, TorchFile, states_in
from . import (
    a_jacobson,
    abhiskk,
    dxyang,
    eriklindernoren,
    gordicaleksa,
    igreat,
    jcjohnson,
    joshbrew,
    kleinicke,
    lengstrom,
    onnx_graph,
    pytorch_examples,
    rajatdv,
    rrmina,
    yakhyo,
)
from .family import Family, Foreign
from .unknown import nearest, other_network

FAMILIES: list[Family] = [
    module.FAMILY
    for module in (
        pytorch_examples, joshbrew, kleinicke, yakhyo, rrmina, eriklindernoren, gordicaleksa, igreat, dxyang, abhiskk,
        a_jacobson,
    )
]  # fmt: skip
#: names of all families, for messages
NAMES = [family.name for family in FAMILIES] + [module.NAME for module in (jcjohnson, lengstrom, rajatdv, onnx_graph)]
_MOST_TENSORS = 5000
_NETWORK_HEADS = re.compile(r"vgg|loss|perceptual|criterion|squeezenet|lpips", re.IGNORECASE)
_VGG = {(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)}  # kernels of its first three convolutions


def load_foreign(path: str | Path) -> tuple[TransformNet, PixelConvention, dict[str, Any]]:
    """Load a network that another program saved.

    Args:
        path: a file, or the folder of a lengstrom network

    Returns:
        The network (float32, in eval mode), its pixel convention, and facts: task ("style", or "upscale" with
        ``network.spec.scale``), name (the file's), family, and source (the family's repository).

    Raises:
        CheckpointError: in one line, if the file cannot be opened safely, is not recognized, or holds weights that are nan
            or infinite
    """
    path = Path(path)
    try:
        found = _read(path)
    except ArchError as error:
        raise CheckpointError(f"{path} holds a network that cannot be run here: {shortened(str(error), 300)}") from None
    check_finite(found.network.state_dict(), path)
    name = path.parent.name if path.name == "manifest.json" else path.stem
    task = "upscale" if found.network.spec.scale > 1 else "style"
    return found.network, found.pixels, {"task": task, "name": name, **found.facts}


def _read(path: Path) -> Foreign:
    manifest = path / "manifest.json" if path.is_dir() else path
    if manifest.name == "manifest.json" and manifest.is_file():
        return lengstrom.read(manifest)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder without a manifest.json; expected a file of weights")
    kind = kind_of(path)
    if kind == "torch7":
        return jcjohnson.read(path)
    if kind == "hdf5":
        return rajatdv.read(path)
    if kind == "onnx":
        return onnx_graph.read(path, FAMILIES)
    if kind == "safetensors":
        tensors = read_safetensors(path)[0]
        if lengstrom.are_variables(tensors):
            return lengstrom.convert(path, tensors)
        return _recognize(path, [tensors], lambda tensor: tensor)
    file = TorchFile(path)
    return _recognize(path, states_in(file.value), file.tensor)


def _recognize(path: Path, states: list[dict[str, Any]], load: Callable[[Any], Tensor]) -> Foreign:
    """Convert the first state that a family accepts; ``load`` returns the tensor of a state's value."""
    size = path.stat().st_size
    for state in states:
        if len(state) > _MOST_TENSORS:
            continue
        for keys in _namings(state):
            shapes = {ours: tuple(state[theirs].shape) for ours, theirs in keys.items()}
            for family in FAMILIES:
                if recognized := family.recognize(shapes):
                    tensors = {ours: load(state[theirs]) for ours, theirs in keys.items()}
                    _check(path, tensors, size)
                    return family.convert(recognized, tensors)
    raise CheckpointError(f"{path} {_unknown(states)}")


def _check(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    """Raise CheckpointError for tensors larger than their file, or not of floating-point numbers."""
    if sum(tensor.numel() for tensor in tensors.values()) > 4 * size:  # tied weights share their bytes
        raise CheckpointError(f"{path} is damaged: its tensors claim far more than its {size} bytes")
    for key, tensor in tensors.items():
        if tensor.ndim and not tensor.is_floating_point():
            raise CheckpointError(
                f"{path} holds {tensor.dtype} in {key}; expected floating-point weights, not quantized ones"
            )


def _unknown(states: list[dict[str, Any]]) -> str:
    """Return what to say about states that no family accepts."""
    if not states:
        return "holds no state dict of a network; expected a dict of tensors by name, as model.state_dict() returns"
    state = max(states, key=len)
    if len(state) <= _MOST_TENSORS:
        namings = [{ours: tuple(state[theirs].shape) for ours, theirs in keys.items()} for keys in _namings(state)]
        if near := nearest(namings, FAMILIES):
            return f"holds a network of an unknown architecture, {near}"
        if other := other_network(namings):
            return other
    some = ", ".join(f"{shortened(key, 60)} {tuple(state[key].shape)}" for key in list(state)[:3])
    few = "no state dict of a network, or " if len(state) < FEWEST_TENSORS else ""
    return (
        f"holds {few}a network of an unknown architecture ({len(state)} tensors such as {some}); recognized by names and "
        f"shapes are {', '.join(NAMES)}"
    )


def _namings(state: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the keys that may be a network's: as they are, then without what else programs save, and without prefixes.

    Counters such as ``n_averaged`` and the loss network of a training program are left out. Prefixes are those that
    wrappers such as DataParallel add to all keys.
    """
    names = {key: key for key in state}
    yield names
    for _ in range(4):
        plain = _without_others(names, state)
        if len(plain) < len(names):
            names = plain
            yield names
        if len({name.split(".")[0] for name in names}) != 1 or not all("." in name for name in names):
            return
        names = {name.partition(".")[2]: key for name, key in names.items()}
        yield names


def _without_others(names: dict[str, str], state: Mapping[str, Any]) -> dict[str, str]:
    """Leave out scalars (but those of a batch norm), and loss networks that have a prefix of their own."""
    names = {name: key for name, key in names.items() if len(state[key].shape) or name.endswith("num_batches_tracked")}
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".")[0], []).append(name)
    losses = {
        head
        for head, inside in parts.items()
        if _NETWORK_HEADS.search(head) or {tuple(state[names[name]].shape) for name in inside} >= _VGG
    }
    if losses and len(parts) > len(losses):
        names = {name: key for name, key in names.items() if name.split(".")[0] not in losses}
    return names
