"""Checks of what a checkpoint of a training run holds, before any of it is used.

A checkpoint that was damaged or edited must never be believed: a run that resumes from it would end with other weights,
and nobody would know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.own_format import digest_of
from ..errors import CheckpointError, quoted, shortened

FORMAT = 2  # 1 had no digest, and identified photos by name and size
NETWORK, AVERAGE, OPTIMIZER, HISTORY = "network.", "average.", "optimizer.", "history"
DISCRIMINATOR = "discriminator."
_EARLIER_OPTIMIZER = "adam."  # prefix of the optimizer's tensors in early checkpoints, whatever the optimizer
_OF_OPTIMIZER = ({"step", "exp_avg"}, {"step", "exp_avg", "exp_avg_sq"})  # Muon's and Adam's state of a parameter


def digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Return the digest of a checkpoint: of its tensors, its step and its run."""
    text = json.dumps([header.get("step"), header.get("run")], sort_keys=True)
    return hashlib.sha256(f"{digest_of(tensors)} {text}".encode()).hexdigest()


def named_parameters(network: nn.Module, discriminator: nn.Module | None) -> list[tuple[str, nn.Parameter]]:
    """Return the trained parameters by the names that they have in a checkpoint, in the optimizer's order."""
    others = () if discriminator is None else discriminator.named_parameters(DISCRIMINATOR.removesuffix("."))
    return [*network.named_parameters(), *others]


def with_current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of any version, under the names that this version gives them."""
    return {
        OPTIMIZER + key.removeprefix(_EARLIER_OPTIMIZER) if key.startswith(_EARLIER_OPTIMIZER) else key: tensor
        for key, tensor in tensors.items()
    }


def check(
    tensors: Mapping[str, Tensor], header: Mapping[str, Any], network: nn.Module,
    discriminator: nn.Module | None = None, *, steps: int, averaged: bool,
) -> None:  # fmt: skip
    """Check that a checkpoint is undamaged and fits a training run.

    Args:
        tensors: its tensors, from `with_current_names`.
        header: its header.
        network: the network that is trained.
        discriminator: the discriminator that is trained with it, if any.
        steps: steps of the run.
        averaged: whether the run keeps an average of the weights.

    Raises:
        CheckpointError: it does not; the caller adds the file's name.
    """
    step = header.get("step")
    if type(step) is not int or not 0 <= step <= steps:
        raise CheckpointError(f"it claims step {quoted(step)} of {steps}")
    if header.get("format") != 1 and header.get("digest") != digest(tensors, header):
        raise CheckpointError("its content differs from its digest")
    weights = {NETWORK: network.state_dict()}
    if averaged:
        weights[AVERAGE] = weights[NETWORK]
    if discriminator is not None:
        weights[DISCRIMINATOR] = discriminator.state_dict()
    left = set(tensors) - {HISTORY}
    for prefix, of_module in weights.items():
        for key, expected in of_module.items():
            _check_tensor(prefix + key, tensors.get(prefix + key), tuple(expected.shape), expected.dtype)
            left.discard(prefix + key)
    for key, parameter in named_parameters(network, discriminator):
        parts = {name.removeprefix(f"{OPTIMIZER}{key}.") for name in left if name.startswith(f"{OPTIMIZER}{key}.")}
        if parts and parts not in _OF_OPTIMIZER:
            raise CheckpointError(f"the optimizer's state of {key} is {quoted(sorted(parts))}")
        if step and parameter.requires_grad and not parts:
            raise CheckpointError(f"the optimizer's state of {key} is missing")
        for part in parts:
            name = f"{OPTIMIZER}{key}.{part}"
            shape = () if part == "step" else tuple(parameter.shape)
            _check_tensor(name, tensors[name], shape, torch.float32 if part == "step" else parameter.dtype)
            left.discard(name)
    if left:
        raise CheckpointError(f"it holds {shortened(', '.join(sorted(left)[:3]))}, which do not belong there")
    _check_history(tensors.get(HISTORY), step)


def _check_tensor(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor is None:
        raise CheckpointError(f"{name} is missing")
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise CheckpointError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype}; expected {shape} of {dtype}".replace("torch.", "")
        )
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise CheckpointError(f"{name} holds values that are nan or infinite")
    if name.endswith((".exp_avg_sq", ".step")) and bool((tensor < 0).any()):
        raise CheckpointError(f"{name} holds values below 0")


def _check_history(history: Tensor | None, step: int) -> None:
    """Check the losses so far. Those of skipped steps may be nan or infinite."""
    if history is None or history.dtype != torch.float64 or len(history) != step or history.ndim != (2 if step else 1):
        held = "missing" if history is None else f"{tuple(history.shape)} of {history.dtype}".replace("torch.", "")
        raise CheckpointError(f"the losses of its {step} steps are {held}")
