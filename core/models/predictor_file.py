"""Files of style predictors: this project's own format with the task ``style-predictor``.

``arch``, ``pixels`` and ``facts`` are as in the file of a style and describe the shared network. ``encoder`` holds the fields
of `EncoderSpec`. The tensors include the network that looks at paintings, so that a predictor does not change with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.dialects.magenta import part_of
from ..checkpoints.own_format import load_tensors, network_from, save_module, task_of
from ..checkpoints.tensor_files import check_finite
from ..errors import ArchError, CheckpointError, InputError, quoted, shortened
from ..losses.loss_network import LossNetwork
from ..network.pixels import OURS, PixelConvention
from ..network.style_predictor import EncoderSpec, StyleEncoder, StylePredictor
from ..network.transform_net import TransformNet

TASK = "style-predictor"
_TRUNK, _FEATURES = "trunk.", "encoder.features.weights."
_LARGEST = {"size": 1024, "reduced": 64, "hidden": 4096, "vector": 4096}  # of the encoder's sizes


def is_predictor(path: str | Path) -> bool:
    """Return whether a file holds a predictor of styles: one of ours, or part of Magenta's pair. Raises nothing."""
    return part_of(path) is not None or task_of(path) == TASK


def new_predictor(trunk: TransformNet, spec: EncoderSpec, weights: str | Path | Mapping[str, Tensor]) -> StylePredictor:
    """Return a predictor with new layers between a shared network and a network that looks at paintings.

    Args:
        trunk: the shared network.
        spec: sizes of the encoder.
        weights: the weights of ``spec.features``, as `LossNetwork` takes them.

    Raises:
        ArchError: the shared network has no rows to predict.
        CheckpointError: the weights do not fit.
        InputError: the encoder's network or a layer of it is unknown.
    """
    features = LossNetwork(spec.features, weights, spec.layers)
    side = 2 * features.architecture.smallest
    shown = features(torch.zeros(1, 3, side, side, dtype=torch.float32, device="cpu"))
    return StylePredictor(trunk, StyleEncoder(spec, features, {layer: each.shape[1] for layer, each in shown.items()}))


def save_predictor(
    path: str | Path,
    predictor: StylePredictor,
    facts: Mapping[str, Any],
    *,
    half: bool = False,
    pixels: PixelConvention = OURS,
) -> None:
    """Write a predictor. Arguments and errors are those of `save_network`."""
    stated = {**facts, "task": TASK, "encoder": asdict(predictor.encoder.spec)}
    save_module(path, predictor, predictor.trunk.spec, stated, half=half, pixels=pixels)


def load_predictor(path: str | Path) -> tuple[StylePredictor, PixelConvention, dict[str, Any]]:
    """Read a file that `save_predictor` wrote.

    Returns:
        The predictor (float32, frozen, in eval mode), the shared network's pixel convention, and the facts.

    Raises:
        CheckpointError: if the file is something else, is damaged, or does not fit its own description
    """
    tensors, header = load_tensors(path)
    if header.get("task") != TASK:
        raise CheckpointError(
            f"{path} holds {quoted(header.get('task'))}, not a predictor of styles; `perceptual-style train-predictor` makes one"
        )
    try:
        predictor = _built(tensors, header, str(path))
        pixels = PixelConvention.parse(str(header.pop("pixels", OURS)))
    except (ArchError, InputError) as error:
        known = isinstance(error, CheckpointError)
        raise error if known else CheckpointError(f"{path}: {shortened(str(error), 300)}") from None
    check_finite(predictor.state_dict(), path)
    return predictor.eval().requires_grad_(False), pixels, {key: v for key, v in header.items() if key != "format"}


def _built(tensors: Mapping[str, Tensor], header: Mapping[str, Any], source: str) -> StylePredictor:
    trunk = network_from(_below(_TRUNK, tensors), str(header.get("arch")), source)
    spec = _encoder_spec(header.get("encoder"), source)
    seen = {key.replace("/", "."): t for key, t in _below(_FEATURES, tensors).items()}
    with torch.device("meta"):  # of the new layers only the shapes are needed
        predictor = new_predictor(trunk, spec, seen)
    values = {key: tensor.float() for key, tensor in tensors.items()}
    expected = {key: tuple(tensor.shape) for key, tensor in predictor.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in values.items()}
    if expected != found:
        key = sorted(expected.items() ^ found.items())[0][0]
        raise CheckpointError(
            f"{source} does not fit its own description: {shortened(key)} is {found.get(key, 'missing')}, "
            f"expected {expected.get(key, 'no such tensor')}"
        )
    predictor.load_state_dict(values, assign=True)
    return predictor


def _encoder_spec(stated: Any, source: str) -> EncoderSpec:
    """Return the sizes that a header states. Raise CheckpointError if they are none."""
    given = stated if isinstance(stated, dict) else {}
    sizes = {
        name: size
        for name, largest in _LARGEST.items()
        if type(size := given.get(name)) is int and 1 <= size <= largest
    }
    layers = given.get("layers")
    if (
        not isinstance(layers, list)
        or not all(isinstance(each, str) for each in layers)
        or sizes.keys() != _LARGEST.keys()
    ):
        raise CheckpointError(f"{source} describes its encoder as {quoted(stated, 80)}; expected {', '.join(_LARGEST)}")
    return EncoderSpec(str(given.get("features")), tuple(layers), **sizes)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
