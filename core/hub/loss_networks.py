"""Loss networks from the Hub: only the tensors down to the layer that is asked for, 30 MB of VGG-16's 553.

What was downloaded is kept as NAME.LAYER.safetensors, whose metadata says where it is from and what was checked: the
sha256 by which the Hub names the whole file (which is not read as a whole, so that it cannot be computed), names and
shapes, and the digest of the tensors where the manifest has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.own_format import save_tensors
from ..checkpoints.tensor_files import read_metadata
from ..errors import CheckpointError, HubError, InputError
from ..losses.loss_network import ARCHITECTURES, LossNetwork
from ..progress import Progress, ProgressCallback
from .manifest import Entry, entries
from .messages import page_of
from .ranges import RangesRefused, RemoteFile, RemoteTensors
from .whole_files import (
    Folder,
    by_hand,
    check_room,
    explained,
    fetch_whole,
    find_whole,
    folders_of,
    locked,
    own_folder,
    place_of,
    published,
    states_sha256,
)

DEFAULT_LAYER = "relu4_3"  # the deepest of the published recipes


def loss_weights_file(
    name: str,
    layers: Iterable[str],
    folder: Folder = None,
    *,
    download: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """The downloaded weights of a loss network, as deep as these layers.

    download: whether they may be downloaded now, with ``progress`` in bytes. Raises CheckpointError with the command that
    does so, when they are not there, HubError (one, too) when they could not be downloaded.
    """
    entry = next((entry for entry in entries("loss-network") if entry.family == name), None)
    if entry is None:
        raise CheckpointError(
            f"weights of {name} cannot be downloaded by name; give a file of them (--loss-weights FILE)"
        )
    deepest = deepest_of(entry, layers)
    if download:
        return fetch_tensors(entry, deepest, folder=folder, progress=progress)
    found = find_tensors(entry, deepest, folder=folder)
    if found is None:
        more = "" if _depth(entry, deepest) <= _depth(entry, DEFAULT_LAYER) else f" --layer {deepest}"
        raise HubError(
            f"the weights of {name} down to {deepest} are not here; run `perceptual-style download {entry.id}{more}`, "
            f"or give a file of them (--loss-weights FILE)"
        )
    return found


def find_tensors(entry: Entry, layer: str | None = None, *, folder: Folder = None) -> Path | None:
    """A file of the entry's tensors at least as deep as ``layer``, if there is one on this machine."""
    least = _depth(entry, layer or ARCHITECTURES[str(entry.family)].layers[0])
    for place in [*folders_of(folder), own_folder()]:
        for deep in ARCHITECTURES[str(entry.family)].layers[least:]:
            path = place / f"{entry.id}.{deep}.safetensors"
            if path.is_file() and _source(path) == entry.sha256:
                return path
    return find_whole(entry, folder)


def fetch_tensors(
    entry: Entry, layer: str = DEFAULT_LAYER, *, folder: Folder = None, progress: ProgressCallback | None = None
) -> Path:
    """A file with the entry's tensors down to a layer, downloaded unless it is there already.

    Where the server does not give ranges, the whole file is downloaded. Raises HubError, InputError for no such layer.
    """
    _depth(entry, layer)
    target = (folders_of(folder) or [own_folder()])[0] / f"{entry.id}.{layer}.safetensors"
    hand = place_of(entry, folder)
    found = find_tensors(entry, layer, folder=folder)
    if found is not None:
        return found
    try:
        with explained(entry, hand), locked(target):
            found = find_tensors(entry, layer, folder=folder)
            if found is not None:  # another process was at it
                return found
            tensors, checked = _read(entry, layer, hand, progress)
            digest = digest_of(tensors)
            if layer in entry.digests:
                if digest != entry.digests[layer]:
                    raise HubError(
                        f"{entry.id} was not downloaded: wrong tensors came; try again, {by_hand(entry, hand)}"
                    )
                checked.append("digest of the tensors")
            source = {"repo": entry.hub.repo, "revision": entry.hub.revision, "filename": entry.hub.filename}
            header = {"format": 1, "task": "loss-network", "name": entry.id, "layer": layer, "license": entry.license}
            header |= {"source": {**source, "sha256": entry.sha256}, "digest": digest, "checked": checked}
            check_room(target.parent, sum(t.nbytes for t in tensors.values()))
            save_tensors(target, tensors, header)
            return target
    except RangesRefused:
        return fetch_whole(entry, folder=folder, progress=progress)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over all tensors by name: name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(
    entry: Entry, layer: str, hand: Path, progress: ProgressCallback | None
) -> tuple[dict[str, Tensor], list[str]]:
    url, total = page_of(entry), 0
    facts = published(entry, hand)
    checked = ["names and shapes"]
    if states_sha256(facts):
        checked.append("sha256 of the whole file as the Hub states it")

    def report(done: int) -> None:
        if progress is not None and total:
            progress(Progress(min(done, total), total))

    file = RemoteFile(url, report)
    remote = RemoteTensors(file, facts.size)
    names = _names(entry, layer)
    lacking = [name for name in names if name not in remote.places]
    if lacking:
        raise HubError(f"{entry.id} was not downloaded: {url} has no tensor {lacking[0]}; update this package")
    total = file.bytes_read + remote.bytes_of(names)
    tensors = remote.read(names)
    try:
        LossNetwork(str(entry.family), tensors, [layer])
    except CheckpointError as error:
        raise HubError(f"{entry.id} was not downloaded: {error}") from None
    return tensors, checked


def _names(entry: Entry, layer: str) -> list[str]:
    """The tensors of a network of plain convolutions down to a layer."""
    steps = ARCHITECTURES[str(entry.family)].steps
    last = next(i for i, step in enumerate(steps) if step.name == layer)
    return [f"{step.key}.{part}" for step in steps[: last + 1] if step.key for part in ("weight", "bias")]


def _depth(entry: Entry, layer: str) -> int:
    layers = ARCHITECTURES[str(entry.family)].layers
    if layer not in layers:
        raise InputError(f"{entry.id} has no layer {layer!r}; it has {', '.join(layers)}")
    return layers.index(layer)


def deepest_of(entry: Entry, layers: Iterable[str]) -> str:
    """The layer down to which the network must go. Raises InputError for a layer that it has not."""
    return max(layers, key=lambda layer: _depth(entry, layer))


def _source(path: Path) -> str | None:
    """The sha256 of the file of which a file of ours holds a part."""
    try:
        return json.loads(read_metadata(path)["perceptual_style"])["source"]["sha256"]
    except (KeyError, ValueError, TypeError):
        return None
