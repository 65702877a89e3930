"""A network as passes over bands of rows.

Instance normalization needs statistics of the whole image, so every convolution is a pass of its own. Bands of the
input are normalized, activated, padded and convolved while they are in the cache, and the sums behind the output's
statistics are added up. A pass stores the convolution's raw result (feature_maps.py). The convolution's bias is free
to bring its mean to about zero, which keeps sums of squares and half precision exact. The largest maps, at the two
ends of the network, can be computed twice instead of being stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.transform_net import TransformNet
from .convolution import convolve
from .feature_maps import Map, Pool
from .lowering import Add, Normalize, Pad, Remember, Upsample, Window, lower
from .map_operations import add, normalize, upsample
from .output import write_output
from .plan import Plan, plan_passes


class BandedNetwork:
    """One network, run over bands, image by image.

    Args:
        network: the network
        dtype: number format of stored values and convolutions; statistics are float32 or better
        block_dtype: number format in residual blocks from the fourth one on; if None, ``dtype``
        band_bytes: intended size of a band, which should stay in the cache
        band_rows: height of the bands, overriding ``band_bytes``
        store_ends: whether the largest maps are stored, or else computed twice
        host_maps: whether maps stay in the host's memory, from where bands move to the device
    """

    def __init__(
        self, network: TransformNet, dtype: torch.dtype = torch.float32, block_dtype: torch.dtype | None = None, *,
        band_bytes: int = 2 << 20, band_rows: int | None = None, store_ends: bool = True, host_maps: bool = False,
    ) -> None:  # fmt: skip
        self.spec, self.dtype, self.block_dtype = network.spec, dtype, block_dtype or dtype
        self.band_bytes, self.band_rows, self.store_ends = band_bytes, band_rows, store_ends
        self.host_maps = host_maps
        self.operations = lower(network)

    def plan(self, height: int, width: int) -> Plan:
        """Plan a run over an image of H x W."""
        return plan_passes(
            self.operations, self.spec.in_channels, height, width, self.dtype, self.block_dtype,
            band_bytes=self.band_bytes, band_rows=self.band_rows, store_ends=self.store_ends,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, image: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
        """Run the network.

        Args:
            image: (1, 3, H, W) float32
            tick: called before every band of the plan; whatever it raises stops the work

        Returns:
            The network's output, (1, C, H', W') float32, on the image's device.
        """
        plan = self.plan(*image.shape[-2:])
        pool = Pool(plan.slab) if self.host_maps or image.device.type == "cpu" else None
        current = Map.of_image(image)
        skip: Map | None = None
        for operation, step in zip(self.operations, plan.passes, strict=False):  # the output's pass comes last
            match operation:
                case Window():
                    current = convolve(operation, current, step, pool, tick, keep=skip)
                case Remember():
                    skip = current
                case Add():
                    if skip is None:
                        raise ValueError("an addition needs a remembered map")
                    current, skip = add(operation, current, skip, step, self.dtype, pool), None
                case Pad():
                    current = Map.of_image(F.pad(image, (operation.pixels,) * 4, mode="reflect"))
                case Normalize():
                    current = normalize(operation, current, step, self.dtype, pool)
                case Upsample():
                    current = upsample(operation, current, step, self.dtype, pool, tick)
        if pool is not None:
            pool.close()  # the memory of maps goes to the result
        return write_output(self.spec, current, plan.passes[-1], tick, image)
