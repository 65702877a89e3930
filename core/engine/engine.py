"""The streaming engine: any network over images of any size, in planned memory, with the same result as in one piece.

It decides what passes.py carries out: number formats (formats.py), the way that fits into memory (memory_plan.py), and
what happens if memory runs out after all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from ..arithmetic import full_float32
from ..devices import is_out_of_memory, release_memory
from ..images.wrapping import wrapped_axes
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback
from .formats import NumberFormats, number_formats, without_float16
from .graph import Graph
from .kernels import kernels_for
from .memory_plan import MemoryPlan, Planner, run_axes
from .passes import BandedNetwork
from .ranges import fits_float16
from .whole import WholeNetwork


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
        wrap: edges that meet, one of `wrapping.WRAPS`: every padding at them continues with the opposite edge. Sides that
            wrap must be multiples of ``network.spec.multiple_of``, and may be as small

    Attributes:
        plan: the memory that a run will use
    """

    def __init__(
        self, network: TransformNet, height: int, width: int, *, device: torch.device, precision: str = "auto",
        memory: int | None = None, band_rows: int | None = None, beside: int = 0, wrap: str = "none",
    ) -> None:  # fmt: skip
        self.wrap = wrap
        self.network, self.height, self.width, self.device = network, height, width, device
        self._is_range_open = precision == "auto" and device.type != "cpu"  # of float16, until the first image is seen
        self._planner = Planner(
            network, height, width, device, number_formats(device, precision), memory, band_rows, beside, wrap
        )
        self._use(self._planner.best())

    @property
    def formats(self) -> NumberFormats:
        """Number formats of the runs."""
        return self._planner.formats

    def _use(self, plan: MemoryPlan) -> None:
        """Make ready for runs by this plan."""
        self.plan, self._runs = plan, 0
        self._graph: Graph | None = None
        if plan.whole:
            self._whole = WholeNetwork(self.network, self.formats, kernels_for(self.device))
            return
        self._banded = BandedNetwork(
            self.network, self.formats, band_bytes=plan.band_bytes, band_rows=self._planner.band_rows,
            store_ends=plan.store_ends, host_maps=plan.host_maps, wrap=run_axes(self.wrap, plan.slab),
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
            image = image.float()
            self._check_range(image)
            return self._with_retries(image, progress)

    def _check_range(self, image: Tensor) -> None:
        """Give up float16 where "auto" chose it for a network that leaves its range."""
        if self._is_range_open and not fits_float16(self.network, image):
            self._planner = replace(self._planner, formats=without_float16(self.device))
            self._use(self._planner.best())
        self._is_range_open = False

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
            self._use(following)
            gc.collect()
            release_memory(self.device)

    def _run(self, image: Tensor, progress: ProgressCallback | None) -> Tensor:
        """Run one image: with whole maps, in bands, or in slabs of rows with a halo."""
        if self.plan.whole:
            return self._run_whole(image, progress)
        spec, scale = self.network.spec, self.network.spec.scale
        if not self.plan.slab:
            return self._banded(image, self._ticker([self.height], progress))
        inner = self.plan.slab - 2 * spec.halo  # both are multiples of multiple_of
        firsts = range(0, self.height, inner)
        stops = [min(first + inner, self.height) for first in firsts]
        parts = [(first - spec.halo, stop + spec.halo) for first, stop in zip(firsts, stops, strict=True)]
        around = wrapped_axes(self.wrap)[0]
        if not around:
            parts = [(max(low, 0), min(high, self.height)) for low, high in parts]
        tick = self._ticker([high - low for low, high in parts], progress)
        pieces = []
        for first, stop, (low, high) in zip(firsts, stops, parts, strict=True):
            rows = image[:, :, low:high]
            if around:
                rows = image.index_select(2, torch.arange(low, high, device=image.device) % self.height)
            end = None if stop == high else (stop - low) * scale  # at the image's end, the result may be larger
            pieces.append(self._banded(rows, tick)[:, :, (first - low) * scale : end].clone())
        return torch.cat(pieces, dim=2)

    def _run_whole(self, image: Tensor, progress: ProgressCallback | None) -> Tensor:
        """Run one image with whole maps. From the second image on, a CUDA device replays a graph."""
        self._runs += 1
        if self._runs == 2 and self.device.type == "cuda":
            try:
                self._graph = Graph(self._whole, image)
            except RuntimeError:  # no memory for it, or something that a graph cannot hold
                self._graph = None
        if self._graph is None:
            steps = count(1)
            total = self._whole.steps
            return self._whole(image, None if progress is None else lambda: progress(Progress(next(steps), total)))
        if progress is not None:
            progress(Progress(1, 1))
        return self._graph(image)

    def _ticker(self, heights: list[int], progress: ProgressCallback | None) -> Callable[[], None] | None:
        """Return a callback that counts the bands of all runs."""
        if progress is None:
            return None
        total = sum(step.bands for height in heights for step in self._banded.plan(height, self.width).passes)
        bands = count(1)
        return lambda: progress(Progress(next(bands), total))
