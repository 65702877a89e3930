"""A last convolution that cannot draw a lattice of 2 px.

Nearest-neighbor enlargement and strides treat even and odd pixels differently, and loss networks hardly mind lines that
alternate from pixel to pixel. Trained networks draw such lines along both axes. They are faint in a picture, but become a
canvas over all of it once it is enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..network.stages import ConvStage
from ..network.transform_net import TransformNet


def without_lattice(kernel: Tensor) -> Tensor:
    """Return a kernel (out, in, k, k), k odd and above 1, with no response to lines that alternate from pixel to pixel.

    Along each axis, the alternation that the kernel contains is taken out under a window. So nothing changes for other
    kernels, and little for frequencies well below half a cycle per pixel. The operation is linear, and doing it twice
    changes nothing.
    """
    size = kernel.shape[-1]
    places = torch.arange(size, dtype=kernel.dtype, device=kernel.device)
    signs = 1 - 2 * (places % 2)
    window = torch.sin(math.pi * (places + 1) / (size + 1)).square()
    window = window / window.sum() * signs
    kernel = kernel - (kernel @ signs)[..., None] * window
    return kernel - (kernel.mT @ signs)[..., None, :] * window[:, None]


def keeper(network: TransformNet) -> Callable[[], None] | None:
    """Return what keeps a network in training from drawing a lattice, or None if its last convolution is not trained.

    Also None if that convolution enlarges, or has one pixel: it cannot tell an alternation from an area.
    """
    stage = network.stages[-1]
    if not isinstance(stage, ConvStage) or stage.transposed or stage.shuffle > 1 or stage.kernel == 1:
        return None
    weight = stage.conv.weight
    if not weight.requires_grad:
        return None

    def keep() -> None:
        with torch.no_grad():
            weight.copy_(without_lattice(weight))

    return keep
