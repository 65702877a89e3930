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
from torch import Tensor

from ..network.transform_net import TransformNet
from .convolution import convolve
from .feature_maps import Map, PinnedPool, Pool
from .formats import NumberFormats
from .lowered import lowered
from .lowering import Add, Normalize, Pad, Remember, Upsample, Window, lower
from .map_operations import add, normalize, upsample
from .output import write_output
from .plan import Plan, plan_passes


class BandedNetwork:
    """One network, run over bands, image by image.

    Args:
        network: the network
        formats: number formats, or one format for everything
        band_bytes: intended size of a band, which should stay in the cache
        band_rows: height of the bands, overriding ``band_bytes``
        store_ends: whether the largest maps are stored, or else computed twice
        host_maps: whether maps stay in the host's memory, from where bands move to the device
        wrap: whether rows, and whether columns, continue at the opposite edge; such sides must be multiples of
            ``spec.multiple_of``
    """

    def __init__(
        self, network: TransformNet, formats: NumberFormats | torch.dtype = torch.float32, *,
        band_bytes: int = 2 << 20, band_rows: int | None = None, store_ends: bool = True, host_maps: bool = False,
        wrap: tuple[bool, bool] = (False, False),
    ) -> None:  # fmt: skip
        self.spec = network.spec
        self.formats = NumberFormats.uniform(formats) if isinstance(formats, torch.dtype) else formats
        self.band_bytes, self.band_rows, self.store_ends = band_bytes, band_rows, store_ends
        self.host_maps = host_maps
        self.operations = lower(network, wrap) if any(wrap) else lowered(network).operations

    def plan(self, height: int, width: int) -> Plan:
        """Plan a run over an image of H x W."""
        return plan_passes(
            self.operations, self.spec.in_channels, height, width, self.formats,
            band_bytes=self.band_bytes, band_rows=self.band_rows, store_ends=self.store_ends,
        )  # fmt: skip

    def _pool(self, slab: int, device: torch.device) -> Pool | None:
        """Return the host's memory for maps, or None if they stay on the device, whose memory torch pools."""
        if device.type != "cpu" and not self.host_maps:
            return None
        return PinnedPool(slab, device) if device.type == "cuda" else Pool(slab)

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
        pool = self._pool(plan.slab, image.device)
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
                    current, skip = add(operation, current, skip, step, self.formats.maps, pool), None
                case Pad():
                    current = Map.of_image(operation.reflected(image))
                case Normalize():
                    current = normalize(operation, current, step, self.formats.maps, pool)
                case Upsample():
                    current = upsample(operation, current, step, self.formats.maps, pool, tick)
        if pool is not None:
            pool.close()  # the memory of maps goes to the result
        return write_output(self.spec, current, plan.passes[-1], tick, image)
