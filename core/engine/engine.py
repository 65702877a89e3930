"""The streaming engine: any network over images of any size, in planned memory, with the same result as in one piece.

It decides what passes.py carries out: number formats (formats.py), the way that fits into memory (memory_plan.py), and
what happens if memory runs out after all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from ..arithmetic import full_float32
from ..devices import is_out_of_memory, release_memory
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback
from .formats import number_formats
from .memory_plan import Planner
from .passes import BandedNetwork


class Engine:
    """A network that runs on images of one size, one after the other, in planned memory.

    Args:
        network: the network
        height: H of the images, at least ``network.spec.smallest_side``
        width: W of the images, likewise
        device: where the network runs
        precision: "auto" | "fp32" | "bf16" | "fp16", see `number_formats`
        memory: bytes, see `Planner`
        band_rows: height of the bands, overriding the size that suits the device
        beside: bytes, see `Planner`

    Attributes:
        plan: the memory that a run will use
    """

    def __init__(
        self, network: TransformNet, height: int, width: int, *, device: torch.device, precision: str = "auto",
        memory: int | None = None, band_rows: int | None = None, beside: int = 0,
    ) -> None:  # fmt: skip
        self.network, self.height, self.width, self.device = network, height, width, device
        self.formats = number_formats(device, precision)
        self.band_rows = band_rows
        self._planner = Planner(network, height, width, device, self.formats, memory, band_rows, beside)
        self.plan = self._planner.best()
        self._banded = self._build()

    def _build(self) -> BandedNetwork:
        return BandedNetwork(
            self.network, self.formats, band_bytes=self.plan.band_bytes, band_rows=self.band_rows,
            store_ends=self.plan.store_ends, host_maps=self.plan.host_maps,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, image: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Run the network on one image.

        If memory runs out after all, a plan that needs less is used, for this image and all that follow.

        Args:
            image: (1, 3, H, W) float in the network's pixel convention, never changed
            progress: called for every band; whatever it raises stops the work

        Returns:
            What ``network(image)`` returns, within 1e-4 in fp32: (1, C, H', W') float32 on the same device.
        """
        with full_float32(self.device):  # the caller's autocast would round all convolutions
            return self._with_retries(image.float(), progress)

    def _with_retries(self, image: Tensor, progress: ProgressCallback | None) -> Tensor:
        """Run one image, with less memory each time that it runs out."""
        while True:
            try:
                return self._run(image, progress)
            except (RuntimeError, MemoryError) as error:
                following = self._planner.after(self.plan) if is_out_of_memory(error) else None
                if following is None:
                    raise
            # outside of "except", whose error holds on to the tensors
            self.plan = following
            self._banded = self._build()
            gc.collect()
            release_memory(self.device)

    def _run(self, image: Tensor, progress: ProgressCallback | None) -> Tensor:
        """Run one image, as a whole or in slabs of rows with a halo."""
        spec, scale = self.network.spec, self.network.spec.scale
        if not self.plan.slab:
            return self._banded(image, self._ticker([self.height], progress))
        inner = self.plan.slab - 2 * spec.halo  # both are multiples of multiple_of
        firsts = range(0, self.height, inner)
        parts = [(max(first - spec.halo, 0), min(first + inner + spec.halo, self.height)) for first in firsts]
        tick = self._ticker([high - low for low, high in parts], progress)
        pieces = []
        for first, (low, high) in zip(firsts, parts, strict=True):
            result = self._banded(image[:, :, low:high], tick)
            stop = (first + inner - low) * scale if first + inner < self.height else None
            pieces.append(result[:, :, (first - low) * scale : stop].clone())
        return torch.cat(pieces, dim=2)

    def _ticker(self, heights: list[int], progress: ProgressCallback | None) -> Callable[[], None] | None:
        """Return a callback that counts the bands of all runs."""
        if progress is None:
            return None
        total = sum(step.bands for height in heights for step in self._banded.plan(height, self.width).passes)
        bands = count(1)
        return lambda: progress(Progress(next(bands), total))
