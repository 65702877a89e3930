"""PairedPredictor: another program's pair of networks for any painting, as a predictor of styles."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.dialects.magenta import SIDE, read_pair
from ..images.filters import resize
from ..network.styles import with_rows
from ..network.transform_net import TransformNet


class PairedPredictor(nn.Module):
    """Magenta's pair of networks, read from one of its files; see `read_pair`.

    Attributes:
        trunk: the network that paints.
        facts: family, source and license.

    Raises:
        CheckpointError: the files cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        pair = read_pair(Path(path))
        self.trunk, self.facts, self._look, self._rows = pair.trunk, pair.facts, pair.look, pair.rows

    def seen(self, painting: Tensor) -> Tensor:
        """Return the square in the middle of a painting (1, 3, H, W), scaled as these networks expect it."""
        height, width = painting.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(painting[..., top : top + side, left : left + side], SIDE, SIDE).clamp(0, 1)

    @torch.no_grad()
    def vectors(self, paintings: Tensor) -> Tensor:
        """Return the numbers (N, 100) for paintings (N, 3, 256, 256) RGB in [0, 1]."""
        return torch.cat([self._look(each.movedim(1, -1)).flatten(1) for each in paintings.split(1)])

    def network(self, vector: Tensor) -> TransformNet:
        """Return the ordinary network of one style that these numbers (100) stand for."""
        return with_rows(self.trunk, [{key: weight @ vector + bias for key, (weight, bias) in self._rows.items()}])
