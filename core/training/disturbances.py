"""Copies of a batch that differ as frames of a video do, for the term ``steadiness`` of style recipes.

A disturbance depends only on seed and step. All photos of a step share it, so that the pieces of a batch and the processes
that share its work need not know their place in it, and a resumed run is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..losses.functional import moved

LONGEST_MOVE = 3  # px along each axis
_NOISE = (0.01, 0.04)  # smallest and largest amplitude, in a range of 1
_DIAMETER = 2 * LONGEST_MOVE + 1


def disturbed(photos: Tensor, seed: int, step: int) -> tuple[Tensor, tuple[int, int]]:
    """Return photos that are moved by up to 3 px along each axis, with noise added.

    The noise is uniform, independent for each value, and the same for all photos. Its amplitude is drawn from 1 to 4 % of
    the range.

    Args:
        photos: (N, 3, H, W) RGB in [0, 1].
        seed: random seed of the run.
        step: the step.

    Returns:
        The copies (N, 3, H, W) in [0, 1], and the move (down, right) as in `functional.moved`, never (0, 0).
    """
    random = np.random.default_rng([seed, 5, step])
    place = int(random.integers(_DIAMETER**2 - 1))
    place += place >= _DIAMETER**2 // 2  # the one in the middle would be no move
    move = (place // _DIAMETER - LONGEST_MOVE, place % _DIAMETER - LONGEST_MOVE)
    amplitude = np.float32(random.uniform(*_NOISE))
    noise = torch.from_numpy(amplitude * (2 * random.random(photos.shape[1:], np.float32) - 1))
    copies = (moved(photos, move) + noise.to(photos.device)).clamp_(0, 1)
    return copies.contiguous(memory_format=torch.channels_last), move
