"""The state of a training run: its identity, and checkpoints to resume it from.

A checkpoint holds network, optimizer, step and the losses so far, and the discriminator if there is one. Batches depend only
on seed and step (photos.py), so nothing else has a state.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints.own_format import load_tensors, save_tensors
from ..errors import CheckpointError, ImageError, InputError, TrainingError, shortened
from ..files import sha256_of
from ..images.reading import open_file
from ..losses.objective import ObjectiveWeights
from . import saved_state
from .saved_state import AVERAGE, DISCRIMINATOR, HISTORY, NETWORK, OPTIMIZER, named_parameters

CHECKPOINT_SUFFIX = ".training.safetensors"
_PIECES, _PIECE = 4, 2**14  # parts of a large photo that identify it, and bytes of each
_DIGITS = 16  # of a digest in the facts of a run
#: a run without these must equal that of an earlier version
_ADDED_TERMS = (
    "steadiness",
    "weave",
    "stride_grid",
    "no_lattice",
    "low_pass",
    "adversarial",
    "sharpen",
    "content_floor",
)
#: The style image of one style, (1, 3, H, W), or several, whose mean statistics make the style
StyleImages = torch.Tensor | Sequence[torch.Tensor]
History = list[list[float]]  # the parts of the objective at each step


def checkpoint_path(out: str | Path) -> Path:
    """Return the path of the checkpoint while ``out`` is being trained."""
    out = Path(out)
    return out.with_name(out.name.removesuffix(".safetensors") + CHECKPOINT_SUFFIX)


def as_json(recipe: Any) -> dict[str, Any]:
    """Return a recipe as the value that JSON would read back, without terms that are off and that earlier versions lack."""
    values = json.loads(json.dumps(asdict(recipe)))
    if values["weights"]["content_form"] == ObjectiveWeights.content_form:
        del values["weights"]["content_form"]
    return {name: value for name, value in values.items() if value or name not in _ADDED_TERMS}


def identity(
    recipe: Any,
    photos: list[Path],
    amp: torch.dtype | None,
    seed: int,
    loss_weights: str | Path | None,
    init_from: str | Path | None,
    style_image: StyleImages | Mapping[str, StyleImages] | None = None,
) -> dict[str, Any]:
    """Return the facts that identify a training run. A checkpoint belongs to it if its facts are equal.

    Args:
        recipe: the recipe.
        photos: files of the training photos, identified by their content and order.
        amp: dtype of mixed precision, or None for float32.
        seed: random seed.
        loss_weights: file of the loss network, or None.
        init_from: file of the base, or None.
        style_image: (1, 3, H, W), or a sequence of them for one style, or either by the names of several styles, or None.
    """
    same = {
        "recipe": as_json(recipe),
        "photos": files_digest(photos),
        "loss network": "" if loss_weights is None else file_digest(loss_weights),
        "start": "" if init_from is None else file_digest(init_from),
        "seed": seed,
        "precision": str(amp or torch.float32).removeprefix("torch."),
    }
    if isinstance(style_image, Mapping):  # a list, because their order is the order of the rows
        same["style images"] = [[name, _images_digest(images)] for name, images in style_image.items()]
    elif style_image is not None:
        same["style image"] = _images_digest(style_image)
    return same


def files_digest(files: Sequence[Path]) -> str:
    """Return the digest of the content and order of photos or paintings."""
    return _digest("\n".join(map(_photo_digest, files)).encode())


def _as_of_format_1(run: Mapping[str, Any], photos: Sequence[Path]) -> dict[str, Any]:
    """Return a run's identity as earlier versions wrote it: with photos identified by name and size."""
    listing = "\n".join(f"{path.name} {path.stat().st_size}" for path in photos)
    return {**run, "photos": _digest(listing.encode())}


def _photo_digest(path: Path) -> str:
    """Return a digest of a photo's size and content: of all of a small one, and of evenly spaced parts of a large one.

    Reading the whole of a hundred thousand photos would take minutes.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _PIECES * _PIECE:
                return f"{size} {_digest(file.read())}"
            parts = []
            for n in range(_PIECES):
                file.seek((size - _PIECE) * n // (_PIECES - 1))
                parts.append(file.read(_PIECE))
            return f"{size} {_digest(b''.join(parts))}"
    except (OSError, ImageError):  # skipped, like any other photo that cannot be read
        return "unreadable"


def images_of(images: StyleImages) -> Sequence[torch.Tensor]:
    """Return the style images of one style as a sequence. Raise InputError if it is empty."""
    found = [images] if isinstance(images, torch.Tensor) else images
    if not found:
        raise InputError("a style has no style image; expected at least one painting")
    return found


def _images_digest(images: StyleImages) -> str | list[str]:
    """Return the digest of the only image of a style, or those of several."""
    digests = [image_digest(image) for image in images_of(images)]
    return digests[0] if len(digests) == 1 else digests


def image_digest(image: torch.Tensor) -> str:
    """Return the digest of a style image's pixels, before it is scaled."""
    return _digest(image.detach().float().cpu().numpy().tobytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def file_digest(path: str | Path) -> str:
    """Return the digest of a file, or of the folder of a network; "" if it is missing (opening it reports the error)."""
    path = Path(path)
    if (path / "manifest.json").is_file():
        files = [each for each in sorted(path.iterdir()) if each.is_file()]
        return _digest("\n".join(f"{each.name} {file_digest(each)}" for each in files).encode())
    return sha256_of(path)[:_DIGITS] if path.is_file() else ""


def is_finished(out: Path, run: Mapping[str, Any], photos: Sequence[Path] = ()) -> bool:
    """Return whether ``out`` exists and is this run's result.

    Args:
        out: the file.
        run: the run's `identity`.
        photos: the training photos, by which earlier versions' results are recognized.

    Raises:
        InputError: It is something else.
    """
    if not out.exists():
        return False
    try:
        finished = load_tensors(out)[1].get("run")
    except CheckpointError:
        finished = None
    if finished != run and finished != _as_of_format_1(run, photos):  # noqa: PLR1714 - the second looks at all photos
        raise InputError(
            f"{out} exists already and is not the result of this training run; move it away or choose another name"
        )
    return True


def save_checkpoint(
    path: Path, run: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, step: int,
    history: History, average: Mapping[str, torch.Tensor] | None = None,
    discriminator: torch.nn.Module | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint with everything that is needed to resume a run.

    Args:
        path: the file to write.
        run: the run's `identity`.
        network: the network.
        optimizer: its optimizer.
        step: steps done.
        history: losses of these steps.
        average: average of the weights by name, if the run has one.
        discriminator: the discriminator, if the run has one.

    Raises:
        CheckpointError: The file cannot be written, for example because the disk is full.
    """
    tensors = {NETWORK + key: t for key, t in network.state_dict().items()}
    tensors |= {AVERAGE + key: t for key, t in (average or {}).items()}
    if discriminator is not None:
        tensors |= {DISCRIMINATOR + key: t for key, t in discriminator.state_dict().items()}
    names = [name for name, _ in named_parameters(network, discriminator)]
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{names[index]}.{key}": t for key, t in values.items()}
    tensors[HISTORY] = torch.tensor(history, dtype=torch.float64, device="cpu")
    tensors = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}  # once, for the digest and the file
    header = {"format": saved_state.FORMAT, "task": "training", "step": step, "run": run}
    save_tensors(path, tensors, {**header, "digest": saved_state.digest(tensors, header)})


def resume(
    path: Path, run: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int,
    averaged: bool = False, photos: Sequence[Path] = (), discriminator: nn.Module | None = None,
) -> tuple[int, History, dict[str, torch.Tensor] | None]:  # fmt: skip
    """Load the checkpoint, if there is one, into network, optimizer and discriminator.

    Args:
        path: file of the checkpoint.
        run: the run's `identity`.
        network: the network, on its device.
        optimizer: its optimizer.
        steps: steps of the run.
        averaged: whether the run keeps an average of the weights.
        photos: the training photos, by which earlier versions' checkpoints are recognized.
        discriminator: the discriminator, if the run has one.

    Returns:
        The steps done, their losses, and the average of the weights on the network's device, or None if there is none.

    Raises:
        TrainingError: The checkpoint belongs to another run.
        CheckpointError: The file cannot be read, is damaged, or is something else.
    """
    if not path.exists():
        return 0, [], None
    tensors, header = load_tensors(path)
    try:
        _check_run(path, header, run if header["format"] == saved_state.FORMAT else _as_of_format_1(run, photos))
        tensors = saved_state.with_current_names(tensors)
        saved_state.check(tensors, header, network, discriminator, steps=steps, averaged=averaged)
        network.load_state_dict(_below(NETWORK, tensors))
        if discriminator is not None:
            discriminator.load_state_dict(_below(DISCRIMINATOR, tensors))
        state = optimizer.state_dict()
        for index, (name, _) in enumerate(named_parameters(network, discriminator)):
            if values := _below(f"{OPTIMIZER}{name}.", tensors):
                state["state"][index] = values
        optimizer.load_state_dict(state)
    except TrainingError:
        raise
    except Exception as error:  # whatever else a damaged file leads to
        reason = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__} {error}"
        raise CheckpointError(f"{path} is damaged: {shortened(reason)}; remove it to start over") from None
    device = next(network.parameters()).device
    average = {key: t.to(device) for key, t in _below(AVERAGE, tensors).items()}
    return header["step"], tensors[HISTORY].tolist(), average or None


def _check_run(path: Path, header: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise TrainingError unless a checkpoint belongs to this run."""
    if header.get("task") != "training":
        raise TrainingError(f"{path} is not the checkpoint of a training run; move it away or choose another name")
    theirs = header.get("run")
    if not isinstance(theirs, dict):
        raise CheckpointError("it does not say which run it belongs to")
    if theirs != run:
        differing = ", ".join(key for key in {**run, **theirs} if theirs.get(key) != run.get(key))
        raise TrainingError(
            f"{path} belongs to a training run with another {shortened(differing)}; "
            f"use the same settings to resume it, or remove it to start over"
        )


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies: tensors that were read are views into the file, whose room on the disk they would keep."""
    return {key.removeprefix(prefix): t.clone() for key, t in tensors.items() if key.startswith(prefix)}


def thinned(history: History, points: int = 50) -> list[list[float]]:
    """Return [step, objective] at about ``points`` steps, each objective the mean since the previous one."""
    size = max(1, math.ceil(len(history) / points))
    chunks = (history[i : i + size] for i in range(0, len(history), size))
    totals = [[sum(row) for row in chunk] for chunk in chunks]
    return [[min((i + 1) * size, len(history)), float(f"{sum(t) / len(t):.5g}")] for i, t in enumerate(totals)]
