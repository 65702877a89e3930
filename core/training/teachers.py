"""Training targets from upscalers' results for flipped and rotated crops, instead of from the photo alone.

An upscaler gives different results for the eight flipped and rotated copies of an image. Their mean is closer to the truth
than any one of them (geometric self-ensemble: Timofte et al., CVPR 2016, section 3.5). A network that learns from one
random copy at each step learns this mean, and computes it in a single pass. These targets also vary less than photos,
whose detail cannot be known from low resolution.
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

_WAYS = 8  # four rotations, of the image and of its mirror image


class Teachers:
    """Upscalers that a network of the same factor learns from, a random one at each step.

    Args:
        files: the upscalers' files.
        share: share of the crops whose target is a teacher's result, 0 to 1. The target of the others is the photo. On
            average, the objective is the weighted mean of both, for the price of one.
        learner: the network that learns.
        seed: random seed of crops, teachers and flips.
        device: device of the teachers.

    Attributes:
        networks: the upscalers.

    Raises:
        CheckpointError: A file is not a network of this package.
        InputError: A teacher has another factor, or the share is out of range.
    """

    def __init__(
        self, files: Sequence[str | Path], share: float, learner: TransformNet, seed: int, device: torch.device
    ) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"the teachers' share is {share}; expected a number from 0 to 1")
        self.networks, self._share, self._seed = [load_network(file)[0] for file in files], share, seed
        for file, network in zip(files, self.networks, strict=True):
            theirs, ours = network.spec, learner.spec
            if (theirs.scale, theirs.out_channels) != (ours.scale, ours.out_channels):
                raise InputError(f"{file} upscales x{theirs.scale}; expected a teacher for x{ours.scale}")
            network.to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def targets(self, low: Tensor, high: Tensor, step: int) -> Tensor:
        """Return the targets of a step: the photos, some of them replaced by the result of the step's teacher.

        Args:
            low: (N, 3, h, w) RGB in [0, 1].
            high: (N, 3, factor h, factor w) RGB in [0, 1], the photos.
            step: determines the teacher, the crops, and how they are flipped and rotated.

        Returns:
            (N, 3, factor h, factor w) RGB in [0, 1].
        """
        random = np.random.default_rng([self._seed, 3, step])
        taught = np.flatnonzero(random.random(len(low)) < self._share)
        if not self.networks or not taught.size:
            return high
        network, way = self.networks[random.integers(len(self.networks))], int(random.integers(_WAYS))
        rows, targets = torch.from_numpy(taught).to(low.device), high.clone()
        targets[rows] = in_way(network, low[rows], way).to(high).clamp(0, 1)
        return targets


def in_way(network: torch.nn.Module, low: Tensor, way: int) -> Tensor:
    """Return the network's result for images that are flipped and rotated before, and back again afterwards.

    Args:
        network: maps (N, 3, h, w) to (N, 3, factor h, factor w).
        low: (N, 3, h, w).
        way: 0 to 7. Images are rotated by ``way % 4`` times 90 degrees, and from 4 on mirrored first.
    """
    flip, turns = divmod(way, 4)
    result = torch.rot90(network(turned(low, bool(flip), turns)), -turns, (-2, -1))
    return result.flip(-1) if flip else result
