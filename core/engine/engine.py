"""The streaming engine: any network over images of any size, in planned memory, with the same result as in one piece.

It decides what passes.py carries out: number formats, how much is stored, the height of bands, and what happens if
memory runs out after all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from ..devices import PRECISIONS, has_fast_bf16, is_out_of_memory
from ..errors import InputError
from ..memory import available_memory
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback
from .passes import BandedNetwork

_CACHE_BAND = 3 << 20  # bytes of a band on a CPU: what stays in the cache beside its neighbors
_GPU_BAND = 256 << 20  # bytes of a band on a GPU: enough to fill it
_LEAST_GPU_BAND = 1 << 20  # bytes, however small the budget
# Storing the largest maps saves a tenth of the time. It may take this many bytes, or more for large images.
_COMFORT = 1 << 30
_COMFORT_RATIO = 3  # times what the image and the result take
_FRACTION = 0.6  # share of the free memory that may be used if no budget is given
_RETRIES = 5  # how often bands are halved


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
    """

    bytes: int
    budget: int
    band_bytes: int
    store_ends: bool
    host_maps: bool
    slab: int = 0


def number_formats(device: torch.device, precision: str) -> tuple[torch.dtype, torch.dtype]:
    """Return the number formats outside residual blocks and inside them.

    With "auto", residual blocks from the fourth one on use bfloat16 if the hardware has it. On the example photos with
    the bundled styles, the mean difference from fp32 is 0.02 to 0.04 of 255, and up to 1.1 at the worst pixel. With
    bf16 throughout, it is up to 30. The aim is 2, for other styles too (benchmarks/README.md compares choices of
    blocks). fp32 is exact.

    Args:
        device: where the network runs
        precision: auto | fp32 | bf16 | fp16

    Raises:
        InputError: for another precision
    """
    if precision == "auto":
        return torch.float32, torch.bfloat16 if has_fast_bf16(device) else torch.float32
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision], PRECISIONS[precision]


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free where ``device`` computes."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    return available_memory()


def plan_memory(
    network: TransformNet, height: int, width: int, device: torch.device, *,
    dtype: torch.dtype = torch.float32, memory: int | None = None, band_rows: int | None = None, beside: int = 0,
) -> MemoryPlan:  # fmt: skip
    """Plan a run over one image: the fastest way that fits into the budget.

    Args:
        network: the network
        height: H of the image
        width: W of the image
        device: where the network runs
        dtype: number format outside residual blocks
        memory: bytes for maps and bands, not counting input and result; if None, a share of the free memory
        band_rows: height of the bands, overriding the size that suits the device
        beside: bytes of the budget that are needed for something else

    Raises:
        InputError: if a given budget does not even hold one band
    """
    budget = (memory if memory is not None else int(free_memory(device) * _FRACTION)) - beside
    band = _CACHE_BAND if device.type == "cpu" else min(_GPU_BAND, max(budget // 16, _LEAST_GPU_BAND))

    def plan(band_bytes: int, store_ends: bool = False, host_maps: bool = False, slab: int = 0) -> MemoryPlan:
        banded = BandedNetwork(network, dtype, band_bytes=band_bytes, band_rows=band_rows, store_ends=store_ends)
        passes = banded.plan(slab or height, width)
        size = 4 * passes.band + (0 if host_maps else passes.maps)
        return MemoryPlan(size, budget, band_bytes, store_ends, host_maps, slab)

    comfort = budget
    if memory is None and device.type == "cpu":
        both = 4 * height * width * (network.spec.in_channels + network.spec.out_channels * network.spec.scale**2)
        comfort = min(budget, max(_COMFORT, _COMFORT_RATIO * both))
    tried: list[MemoryPlan] = []
    for candidate in _candidates(plan, network, height, device, band):
        if candidate.bytes <= (comfort if candidate.store_ends else budget):
            return candidate
        tried.append(candidate)
    if memory is None:  # the free memory is an estimate: try the fastest way that does not store the largest maps
        return next(one for one in tried if not one.store_ends)
    raise InputError(
        f"an image of {width}x{height} px needs {_readable(tried[-1].bytes + beside)} of memory beside itself and the "
        f"result, but the budget is {_readable(memory)}; allow more (--memory), or make the image smaller"
    )


def _candidates(
    plan: Callable[..., MemoryPlan], network: TransformNet, height: int, device: torch.device, band: int
) -> Iterator[MemoryPlan]:
    """Yield plans, fastest first: each needs less memory or more time than the one before."""
    yield plan(band, store_ends=True)
    for halvings in range(_RETRIES):
        yield plan(band >> halvings)
    if network.spec.norm != "instance":
        for rows in _slabs(network, height):
            yield plan(band >> _RETRIES, slab=rows)
    if device.type != "cpu":
        for halvings in range(_RETRIES):
            yield plan(band >> halvings, host_maps=True)


def _slabs(network: TransformNet, height: int) -> Iterator[int]:
    """Yield heights of runs over parts of an image, of which ``halo`` rows at each end are discarded."""
    unit = network.spec.multiple_of
    least = 4 * network.spec.halo + unit
    rows = height
    while rows > least:
        rows = max(rows // 2, least) // unit * unit
        yield rows


def _readable(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


class Engine:
    """A network that runs on images of one size, one after the other, in planned memory.

    Args:
        network: the network
        height: H of the images, at least ``network.spec.smallest_side``
        width: W of the images, likewise
        device: where the network runs
        precision: "auto" | "fp32" | "bf16" | "fp16", see `number_formats`
        memory: bytes, see `plan_memory`
        band_rows: height of the bands, overriding the size that suits the device
        beside: bytes, see `plan_memory`

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
        self.plan = plan_memory(
            network, height, width, device, dtype=self.formats[0], memory=memory, band_rows=band_rows, beside=beside
        )  # fmt: skip
        self._banded = self._build()

    def _build(self) -> BandedNetwork:
        return BandedNetwork(
            self.network, *self.formats, band_bytes=self.plan.band_bytes, band_rows=self.band_rows,
            store_ends=self.plan.store_ends, host_maps=self.plan.host_maps,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, image: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Run the network on one image.

        If memory runs out after all, less is stored and bands are halved, for this image and all that follow.

        Args:
            image: (1, 3, H, W) float in the network's pixel convention, never changed
            progress: called for every band; whatever it raises stops the work

        Returns:
            What ``network(image)`` returns, within 1e-4 in fp32: (1, C, H', W') float32 on the same device.
        """
        with torch.autocast(self.device.type, enabled=False):  # the caller's would round all convolutions
            return self._with_retries(image.float(), progress)

    def _with_retries(self, image: Tensor, progress: ProgressCallback | None) -> Tensor:
        """Run one image, with less memory each time that it runs out."""
        for _ in range(_RETRIES):
            try:
                return self._run(image, progress)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of "except", whose error holds on to the tensors
            self.plan = replace(self.plan, band_bytes=self.plan.band_bytes // 2, store_ends=False)
            self._banded = self._build()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._run(image, progress)

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
