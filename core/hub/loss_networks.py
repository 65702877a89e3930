"""Loss networks by name: bundled, or from the Hub.

Of the Hub's, only the tensors down to the requested layer are downloaded, 30 MB of VGG-16's 553 MB. They are saved as
NAME.LAYER.safetensors. Its facts record the source and what was checked: names and shapes, the SHA-256 that the Hub states
for the whole file (which is never read as a whole), and the digest of the tensors, if the manifest has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoints.own_format import digest_of, read_header, save_tensors
from ..errors import CheckpointError, HubError, InputError
from ..losses.loss_network import ARCHITECTURES, Architecture, LossNetwork
from ..progress import Progress, ProgressCallback
from .manifest import Entry, bundled_file, entries
from .messages import by_hand, explained, page_of
from .patience import Patience, guarded
from .places import Folder, check_room, folders_of, locked, own_folder, place_of
from .ranges import RangesRefused, RemoteFile, RemoteTensors
from .whole_files import fetch_whole, find_whole, remote_metadata, states_sha256

DEFAULT_LAYER = "relu4_3"  # the deepest layer of the published recipes


def loss_weights_file(
    name: str,
    layers: Iterable[str],
    folder: Folder = None,
    *,
    download: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Return the downloaded weights of a loss network that contain these layers.

    Args:
        name: Name of the loss network, such as vgg16.
        layers: The layers that are needed.
        folder: Folder of models, or several. If it is None, the Hub's cache is used.
        download: Whether the weights may be downloaded now.
        progress: Called with the bytes so far during a download.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: If the weights cannot be downloaded by name.
        HubError: If they are not downloaded, with the command that downloads them, or if the download failed.
        InputError: If the network has no such layer.
    """
    entry = next((entry for entry in entries("loss-network") if entry.family == name), None)
    if entry is None:
        raise CheckpointError(
            f"weights of {name} cannot be downloaded by name; give a file that contains them (--loss-weights FILE)"
        )
    deepest = deepest_of(entry, layers)
    if download:
        return fetch_tensors(entry, deepest, folder=folder, progress=progress)
    found = find_tensors(entry, deepest, folder=folder)
    if found is None:
        option = "" if _depth(entry, deepest) <= _depth(entry, DEFAULT_LAYER) else f" --layer {deepest}"
        raise HubError(
            f"the weights of {name} down to {deepest} are not downloaded yet; run `perceptual-style download "
            f"{entry.id}{option}`, or give a file that contains them (--loss-weights FILE)"
        )
    return found


def find_tensors(entry: Entry, layer: str | None = None, *, folder: Folder = None) -> Path | None:
    """Return a file on this machine with the entry's tensors down to ``layer`` or deeper, or None.

    If ``layer`` is None, any file of the entry will do.
    """
    if entry.is_bundled:
        return bundled_file(entry.id)
    layers = _architecture(entry).layers
    deep_enough = layers[_depth(entry, layer or layers[0]) :]
    for place in [*folders_of(folder), own_folder()]:
        for deep in deep_enough:
            path = place / f"{entry.id}.{deep}.safetensors"
            if path.is_file() and _source_sha256(path) == entry.sha256:
                return path
    return find_whole(entry, folder)


def fetch_tensors(
    entry: Entry, layer: str = DEFAULT_LAYER, *, folder: Folder = None, progress: ProgressCallback | None = None
) -> Path:
    """Return a file with the entry's tensors down to a layer, downloaded if necessary.

    If the server does not support ranges, the whole file is downloaded.

    Args:
        entry: A loss network of the manifest.
        layer: The deepest layer that is needed.
        folder: Folder of models, or several. If it is None, the Hub's cache is used.
        progress: Called with the bytes so far. An exception from it stops the download and reaches the caller.

    Returns:
        The path of the file.

    Raises:
        HubError: If the download failed, with what to do.
        InputError: If the network has no such layer.
    """
    _depth(entry, layer)
    found = find_tensors(entry, layer, folder=folder)
    if found is not None:
        return found
    target = (folders_of(folder) or [own_folder()])[0] / f"{entry.id}.{layer}.safetensors"
    hand = place_of(entry, folder)
    try:
        with explained(entry, hand), locked(target):
            found = find_tensors(entry, layer, folder=folder)
            if found is not None:  # another process has just downloaded it
                return found
            tensors, checked = _download(entry, layer, hand, guarded(progress))
            check_room(target.parent, sum(t.nbytes for t in tensors.values()))
            save_tensors(target, tensors, _facts(entry, layer, tensors, checked))
            return target
    except RangesRefused:
        return fetch_whole(entry, folder=folder, progress=progress)


def deepest_of(entry: Entry, layers: Iterable[str]) -> str:
    """Return the deepest of these layers, by its activation. Raises InputError for a layer that the network lacks."""
    return max(map(_architecture(entry).activation, layers), key=lambda layer: _depth(entry, layer))


def _download(
    entry: Entry, layer: str, hand: Path, progress: ProgressCallback | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors down to a layer, and what was checked."""
    url, total = page_of(entry), 0
    patience = Patience(progress)
    metadata = remote_metadata(entry, hand, patience)
    checked = ["names and shapes"]
    if states_sha256(metadata):
        checked.append("sha256 of the whole file as the Hub states it")

    def report(done: int) -> None:
        if total:
            patience.done, patience.total = done, total
        if progress is not None and total:
            progress(Progress(min(done, total), total))

    file = RemoteFile(url, report, patience)
    remote = RemoteTensors(file, metadata.size)
    names = _tensor_names(entry, layer)
    lacking = [name for name in names if name not in remote.places]
    if lacking:
        raise HubError(f"{entry.id} was not downloaded: {url} has no tensor {lacking[0]}; update this package")
    total = file.bytes_read + remote.bytes_of(names)
    tensors = remote.read(names)
    try:
        LossNetwork(str(entry.family), tensors, [layer])
    except CheckpointError as error:
        raise HubError(f"{entry.id} was not downloaded: {error}") from None
    if layer in entry.digests:
        if digest_of(tensors) != entry.digests[layer]:
            raise HubError(f"{entry.id} was not downloaded: wrong tensors came; try again, {by_hand(entry, hand)}")
        checked.append("digest of the tensors")
    return tensors, checked


def _facts(entry: Entry, layer: str, tensors: Mapping[str, Tensor], checked: list[str]) -> dict[str, Any]:
    return {
        "format": 1,
        "task": "loss-network",
        "name": entry.id,
        "layer": layer,
        "license": entry.license,
        "source": {**asdict(entry.remote), "sha256": entry.sha256},
        "digest": digest_of(tensors),
        "checked": checked,
    }


def _tensor_names(entry: Entry, layer: str) -> list[str]:
    """Return the names of the tensors down to a layer. The network must consist of plain convolutions."""
    steps = _architecture(entry).steps
    last = next(i for i, step in enumerate(steps) if step.name == layer)
    return [f"{step.key}.{part}" for step in steps[: last + 1] if step.key for part in ("weight", "bias")]


def _architecture(entry: Entry) -> Architecture:
    return ARCHITECTURES[str(entry.family)]


def _depth(entry: Entry, layer: str) -> int:
    """Return the position of a layer, from the input. Raises InputError if there is no such layer."""
    layers = _architecture(entry).layers
    if layer not in layers:
        raise InputError(f"{entry.id} has no layer {layer!r}; it has {', '.join(layers)}")
    return layers.index(layer)


def _source_sha256(path: Path) -> str | None:
    """Return the SHA-256 of the whole file from which this package took the tensors in ``path``."""
    source = read_header(path).get("source")
    return source.get("sha256") if isinstance(source, dict) else None
