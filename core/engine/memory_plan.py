"""The way to run an image: the fastest one that fits into memory, and what is left to try when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..images.wrapping import wrapped_axes
from ..memory import free_memory
from ..network.transform_net import TransformNet
from . import torch_kernels
from .formats import NumberFormats
from .kernels import kernels_for
from .lowered import lowered
from .passes import BandedNetwork
from .whole_plan import whole_bytes

#: Share of the free memory that may be used if no budget is given
SHARE = 0.6

_CACHE_BAND = 3 << 20  # bytes of a band on a CPU: what stays in the cache beside its neighbors
_GPU_BAND = 256 << 20  # bytes of a band on a GPU: enough to fill it
_LEAST_GPU_BAND = 1 << 20  # bytes, however small the budget
_BANDS = 4  # bands that a pass holds at a time
# On a GPU, where copies in other number formats and of other devices count, too (measured):
_BANDS_OF_COMPUTED_MAPS, _BANDS_OF_HOST_MAPS = 12, 16
# Storing the largest maps saves a tenth of the time. It may take this many bytes, or more for large images.
_COMFORT = 1 << 30
_COMFORT_RATIO = 3  # times what the image and the result take
_HALVINGS = 5  # how often bands are halved


@dataclass(frozen=True)
class MemoryPlan:
    """How an image is run.

    Attributes:
        bytes: memory of maps and bands, not counting the input and the result
        budget: bytes available for them
        band_bytes: intended size of a band
        store_ends: whether the largest maps are stored, or else computed twice
        host_maps: whether maps stay in the host's memory, from where bands move to the device
        slab: input rows per run of the network, for networks without statistics; 0 means the whole image
        whole: whether all maps are held whole (whole.py), as only GPUs do
    """

    bytes: int
    budget: int
    band_bytes: int
    store_ends: bool
    host_maps: bool
    slab: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Planner:
    """Makes the plans for images of one size.

    Attributes:
        network: the network
        height: H of the images
        width: W of the images
        device: where the network runs
        formats: number formats
        memory: bytes for maps and bands, not counting input and result; if None, a share of the free memory
        band_rows: height of the bands, overriding the size that suits the device
        beside: bytes of the budget that are needed for something else
        wrap: edges that meet, see `Engine`
    """

    network: TransformNet
    height: int
    width: int
    device: torch.device
    formats: NumberFormats
    memory: int | None = None
    band_rows: int | None = None
    beside: int = 0
    wrap: str = "none"

    def best(self) -> MemoryPlan:
        """Return the fastest plan that fits into the budget.

        Raises:
            InputError: if a given budget does not even hold one band
        """
        budget = self._budget()
        comfort = budget
        if self.memory is None and self.device.type == "cpu":
            spec = self.network.spec
            both = 4 * self.height * self.width * (spec.in_channels + spec.out_channels * spec.scale**2)
            comfort = min(budget, max(_COMFORT, _COMFORT_RATIO * both))
        tried: list[MemoryPlan] = []
        for candidate in self._candidates(budget):
            if candidate.bytes <= (comfort if candidate.store_ends else budget):
                return candidate
            tried.append(candidate)
        if self.memory is None:
            # the free memory is an estimate: try the fastest way that does not store the largest maps
            return next(one for one in tried if not one.store_ends)
        raise InputError(
            f"an image of {self.width}x{self.height} px needs {_readable(tried[-1].bytes + self.beside)} of memory beside "
            f"itself and the result, but the budget is {_readable(self.memory)}; allow more (--memory), or make the image "
            "smaller"
        )

    def after(self, failed: MemoryPlan) -> MemoryPlan | None:
        """Return the next plan to try when memory ran out with one: smaller bands, slabs, maps in the host's memory."""
        # Bands that suit the budget may be larger than the maps of a small image.
        plans = self._candidates(min(failed.budget, failed.bytes) if failed.whole else failed.budget)
        for plan in plans:
            if plan == failed or failed.whole:
                break
        for plan in plans:
            if (plan.band_bytes < failed.band_bytes or _way(plan) != _way(failed)) and plan.bytes <= failed.bytes:
                return plan
        return None

    def _budget(self) -> int:
        all_of_it = self.memory if self.memory is not None else int(free_memory(self.device) * SHARE)
        return all_of_it - self.beside

    def _candidates(self, budget: int) -> Iterator[MemoryPlan]:
        """Yield plans, fastest first: each needs less memory or more time than the one before."""
        on_cpu = self.device.type == "cpu"
        band = _CACHE_BAND if on_cpu else min(_GPU_BAND, max(budget // 16, _LEAST_GPU_BAND))
        if (whole := self._whole_plan(budget, band)) is not None:
            yield whole
        yield self._plan(budget, band, store_ends=True)
        for halvings in range(_HALVINGS):
            yield self._plan(budget, band >> halvings)
        if self.network.spec.norm != "instance":
            for rows in self._slabs():
                yield self._plan(budget, band >> _HALVINGS, slab=rows)
        if not on_cpu:
            for halvings in range(_HALVINGS):
                yield self._plan(budget, band >> halvings, host_maps=True)

    def _whole_plan(self, budget: int, band: int) -> MemoryPlan | None:
        """Return the plan to hold all maps whole, or None on a CPU, where bands in the cache are faster.

        Whole maps do not wrap.
        """
        if self.device.type == "cpu" or self.band_rows is not None or self.wrap != "none":
            return None
        fused = kernels_for(self.device) is not torch_kernels
        operations = lowered(self.network).operations
        channels = self.network.spec.in_channels
        size = whole_bytes(operations, channels, self.height, self.width, self.formats, fused=fused)
        return None if size is None else MemoryPlan(size, budget, band, store_ends=True, host_maps=False, whole=True)

    def _plan(
        self, budget: int, band_bytes: int, store_ends: bool = False, host_maps: bool = False, slab: int = 0
    ) -> MemoryPlan:
        banded = BandedNetwork(
            self.network, self.formats, band_bytes=band_bytes, band_rows=self.band_rows, store_ends=store_ends,
            wrap=run_axes(self.wrap, slab),
        )  # fmt: skip
        passes = banded.plan(slab or self.height, self.width)
        bands = _BANDS
        if self.device.type != "cpu" and not store_ends:
            bands = _BANDS_OF_HOST_MAPS if host_maps else _BANDS_OF_COMPUTED_MAPS
        size = bands * passes.band + (0 if host_maps else passes.maps)
        return MemoryPlan(size, budget, band_bytes, store_ends, host_maps, slab)

    def _slabs(self) -> Iterator[int]:
        """Yield heights of runs over parts of an image, of which ``halo`` rows at each end are discarded."""
        unit = self.network.spec.multiple_of
        least = 4 * self.network.spec.halo + unit
        rows = self.height
        while rows > least:
            rows = max(rows // 2, least) // unit * unit
            yield rows


def plan_memory(
    network: TransformNet, height: int, width: int, device: torch.device, *,
    formats: NumberFormats | None = None, memory: int | None = None, band_rows: int | None = None, beside: int = 0,
    wrap: str = "none",
) -> MemoryPlan:  # fmt: skip
    """Return the plan for one image: the fastest way that fits into the budget. See `Planner` for the arguments.

    Raises:
        InputError: if a given budget does not even hold one band
    """
    formats = formats or NumberFormats.uniform(torch.float32)
    return Planner(network, height, width, device, formats, memory, band_rows, beside, wrap).best()


def run_axes(wrap: str, slab: int) -> tuple[bool, bool]:
    """Return whether the rows and the columns of a run wrap. Those of a slab do not: its halo holds the opposite edge."""
    rows, columns = wrapped_axes(wrap)
    return rows and not slab, columns


def _way(plan: MemoryPlan) -> tuple[int, bool, bool]:
    return plan.slab, plan.host_maps, plan.whole


def _readable(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
