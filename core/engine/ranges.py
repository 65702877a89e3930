"""Whether the values of a network stay in the range of float16, which ends at 65,504."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.transform_net import TransformNet, extend
from . import torch_kernels
from .lowered import lowered
from .whole import WholeNetwork

_SIDE = 96  # px of the images that are tried
_MARGIN = 8  # times the values that were seen, for images that were not


def fits_float16(network: TransformNet, image: Tensor) -> bool:
    """Return whether all maps of a network can be stored as float16. It is found out once for its weights.

    The network runs in float32 on a small copy of the image, and on a checkerboard of the image's extreme values.

    Args:
        network: the network
        image: (1, 3, H, W) in its own pixel convention
    """
    known = lowered(network)
    if known.in_float16 is None:
        largest: list[Tensor] = []
        run = WholeNetwork(
            network, torch.float32, torch_kernels, watch=lambda values: largest.append(values.abs().amax())
        )
        for small in (_reduced(image), _checkerboard(image)):
            run(extend(small, max(network.spec.smallest_side, 1)))
        largest += [weight.detach().float().abs().amax() for weight in network.parameters()]
        # Nan is in no range.
        known.in_float16 = bool((torch.stack(largest) <= torch.finfo(torch.float16).max / _MARGIN).all())
    return known.in_float16


def _reduced(image: Tensor) -> Tensor:
    height, width = (min(side, _SIDE) for side in image.shape[-2:])
    return F.interpolate(image, (height, width), mode="bilinear")


def _checkerboard(image: Tensor) -> Tensor:
    low, high = image.amin(dim=(2, 3), keepdim=True), image.amax(dim=(2, 3), keepdim=True)
    place = torch.arange(_SIDE, device=image.device) // 4
    return torch.where((place[:, None] + place) % 2 == 0, low, high)
