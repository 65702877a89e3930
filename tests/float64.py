"""The forward of a network in float64: the oracle for what float32 rounds."""

from __future__ import annotations

import copy
from functools import partial

import torch
from perceptual_style.core.network.transform_net import InstanceNorm, Row, TransformNet
from torch import Tensor


def in_float64(network: TransformNet) -> TransformNet:
    """Return a copy that computes in float64, statistics of instance norms included."""
    double = copy.deepcopy(network).double()
    for module in double.modules():
        if isinstance(module, InstanceNorm):
            module.forward = partial(_instance_norm, module)
    return double


def _instance_norm(norm: InstanceNorm, x: Tensor, row: Row = None) -> Tensor:
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    scale, shift = (part.view(1, -1, 1, 1) for part in (norm.weight, norm.bias))
    return (x - mean) * (scale * torch.rsqrt(variance + norm.eps)) + shift
