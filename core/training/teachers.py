"""Learning from what an upscaler makes of flipped and turned crops, instead of from the photo alone.

An upscaler gives another result for an image that is flipped or turned, and the mean of the eight is closer to the truth
than each (geometric self-ensemble: Timofte et al., CVPR 2016, section 3.5). A network that learns from one of them at a step,
picked at random, learns that mean, and gives it in one pass. It is also steadier to learn from than a photo, which holds
what no network can know from the low resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.own_format import load_network
from ..errors import InputError
from ..network.transform_net import TransformNet
from .photo_pairs import turned

_WAYS = 8  # four quarter turns, of the image and of its mirror image


class Teachers:
    """Upscalers by their files, of the same factor as the network that learns from them; one of them at each step.

    share: of the crops for which a teacher's result stands for the photo, 0 to 1. Each crop has one target: the objective
    is that of both in these shares, on average, at the price of one.
    Raises CheckpointError for a file that is none of ours, InputError for one of another factor and for a bad share.
    """

    def __init__(
        self, files: Sequence[str | Path], share: float, learner: TransformNet, seed: int, device: torch.device
    ) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"the teachers' share is {share}; expected a number from 0 to 1")
        self._networks, self._share, self._seed = [load_network(file)[0] for file in files], share, seed
        for file, network in zip(files, self._networks, strict=True):
            theirs, ours = network.spec, learner.spec
            if (theirs.scale, theirs.out_channels) != (ours.scale, ours.out_channels):
                raise InputError(f"{file} upscales x{theirs.scale}; expected a teacher for x{ours.scale}")
            network.to(device, memory_format=torch.channels_last)

    @torch.no_grad()
    def targets(self, low: Tensor, high: Tensor, step: int) -> Tensor:
        """What to learn at this step for low (N, 3, h, w): high (N, 3, factor h, factor w), where for some of the crops the
        result of the step's teacher in the step's way takes the photo's place. All RGB in [0, 1].
        """
        random = np.random.default_rng([self._seed, 3, step])
        taught = np.flatnonzero(random.random(len(low)) < self._share)
        if not self._networks or not taught.size:
            return high
        network, way = self._networks[random.integers(len(self._networks))], int(random.integers(_WAYS))
        rows, targets = torch.from_numpy(taught).to(low.device), high.clone()
        targets[rows] = in_way(network, low[rows], way).to(high).clamp(0, 1)
        return targets


def in_way(network: torch.nn.Module, low: Tensor, way: int) -> Tensor:
    """What the network makes of images that are turned ``way % 4`` times, flipped before from 4 on, turned back again."""
    flip, turns = divmod(way, 4)
    result = torch.rot90(network(turned(low, bool(flip), turns)), -turns, (-2, -1))
    return result.flip(-1) if flip else result
