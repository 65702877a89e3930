"""Networks from other people's programs: families of checkpoints, recognized by keys and shapes alone.

Each family is a file of this folder. Most are dicts of tensors, described by a `Family` and listed here. Others have
their own container and reader. The order does not matter, because no two families accept the same file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import ArchError, CheckpointError, shortened
from ...network.pixels import PixelConvention
from ...network.transform_net import TransformNet
from ..safe_pickle import TensorView
from ..tensor_files import check_finite, kind_of, read_safetensors
from ..torch_files import TorchFile
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

FAMILIES: list[Family] = [
    module.FAMILY
    for module in (
        pytorch_examples, joshbrew, kleinicke, yakhyo, rrmina, eriklindernoren, gordicaleksa, igreat, dxyang, abhiskk,
        a_jacobson,
    )
]  # fmt: skip
#: names of all families, for messages
NAMES = [family.name for family in FAMILIES] + [module.NAME for module in (jcjohnson, lengstrom, rajatdv, onnx_graph)]
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "generator",
    "transformer",
    "params",
)
_MAX_WRAPPING, _FEWEST_TENSORS, _MOST_TENSORS = 4, 6, 5000


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
        raise CheckpointError(f"{path} holds a network that cannot be run here: {error}") from None
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
        return _recognize(path, [tensors], lambda tensor: tensor)
    file = TorchFile(path)
    return _recognize(path, _states(file.value), file.tensor)


def _recognize(path: Path, states: list[dict[str, Any]], load: Callable[[Any], Tensor]) -> Foreign:
    """Convert the first state that a family accepts; ``load`` returns the tensor of a state's value."""
    size = path.stat().st_size
    for state in states:
        if len(state) > _MOST_TENSORS:
            continue
        for keys in _namings(list(state)):
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
    if not states:
        return "holds no state dict of a network; expected a dict of tensors by name, as model.state_dict() returns"
    state = max(states, key=len)
    some = ", ".join(f"{shortened(key, 60)} {tuple(state[key].shape)}" for key in list(state)[:3])
    return (
        f"holds a network of an unknown architecture ({len(state)} tensors such as {some}); recognized by names and "
        f"shapes are {', '.join(NAMES)}"
    )


def _states(value: Any) -> list[dict[str, Any]]:
    """Return the dicts of tensors in what was saved, likely ones first, without those of optimizers."""
    found: list[tuple[int, dict[str, Any]]] = []
    waiting = deque([(value, 0, 0)])
    seen: set[int] = set()
    while waiting:
        item, depth, rank = waiting.popleft()
        if not isinstance(item, dict) or id(item) in seen or depth > _MAX_WRAPPING:
            continue
        seen.add(id(item))
        tensors = {key: view for key, view in item.items() if isinstance(key, str) and isinstance(view, TensorView)}
        if len(tensors) >= _FEWEST_TENSORS:
            found.append((rank, tensors))
        for key, inner in item.items():
            if isinstance(inner, dict) and not str(key).lower().startswith("optim"):
                waiting.append((inner, depth + 1, _WRAPPERS.index(key) if key in _WRAPPERS else len(_WRAPPERS)))
    return [tensors for _, tensors in sorted(found, key=lambda pair: pair[0])][:20]


def _namings(keys: list[str]) -> Iterator[dict[str, str]]:
    """Yield the keys as they are, then without prefixes that wrappers such as DataParallel add to all of them."""
    names = {key: key for key in keys}
    yield names
    for _ in range(3):
        heads = {name.split(".")[0] for name in names}
        if len(heads) != 1 or not all("." in name for name in names):
            return
        names = {name.partition(".")[2]: key for name, key in names.items()}
        yield names
