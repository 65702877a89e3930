"""A network over a whole image at once, for GPUs with room for all of its maps.

On a GPU, launching small operations takes longer than their work. So there are no bands, and three or four launches for
each convolution: the convolution itself, statistics of its result in one pass, and one step that normalizes, activates,
adds the residual and pads for the next convolution (`kernels.Kernels`). Maps are stored as the next convolution reads
them, channels last. What the operations mean is that of lowering.py; the passes over bands compute the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images.bicubic import enlarge
from ..network.stages import InstanceNorm, blurred
from ..network.transform_net import TransformNet, output_function
from .formats import NumberFormats
from .kernels import Kernels
from .lowered import lowered
from .lowering import Add, Norm, Normalize, Pad, Remember, Upsample, Window, batch_norm_affine
from .whole_maps import Frame, WholeMap


class WholeNetwork:
    """One network, run over whole images.

    Args:
        network: the network
        formats: number formats, or one format for everything
        kernels: the steps between convolutions, see `kernels_for`
        watch: called with every map that is stored
    """

    def __init__(
        self, network: TransformNet, formats: NumberFormats | torch.dtype, kernels: Kernels,
        watch: Callable[[Tensor], None] | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.kernels, self.watch = network.spec, kernels, watch
        self.formats = NumberFormats.uniform(formats) if isinstance(formats, torch.dtype) else formats
        self.lowered = lowered(network)
        self.first = next(
            (i for i, operation in enumerate(self.lowered.operations) if isinstance(operation, Window)), None
        )

    @property
    def steps(self) -> int:
        """How often ``tick`` is called."""
        return len(self.lowered.operations)

    @torch.no_grad()
    def __call__(self, image: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
        """Run the network.

        Args:
            image: (1, 3, H, W) float32
            tick: called before every operation; whatever it raises stops the work

        Returns:
            The network's output, (1, C, H', W') float32, on the image's device.
        """
        current = WholeMap.of(image)
        remembered: Tensor | None = None
        is_remembered = False
        for index, operation in enumerate(self.lowered.operations):
            if tick is not None:
                tick()
            dtype = self.formats.first if self.first is None or index <= self.first else self.formats.maps
            match operation:
                case Window():
                    frame = _frame(operation, current)
                    taken = self.kernels.values(current, frame, dtype)
                    if is_remembered:
                        remembered, is_remembered = _without(taken, frame), False
                    sides = current.height, current.width
                    del current  # its memory goes to the result
                    current = self._convolved(index, operation, taken, sides, dtype)
                    del taken
                    if operation.norm is not None:
                        current.scale, current.shift = self.kernels.statistics(current, operation.norm)
                case Remember():
                    is_remembered = True
                case Add():
                    if remembered is None:
                        raise ValueError("an addition needs a remembered map")
                    current.skip, current.times = _cropped(remembered, *operation.crop), operation.times
                    current.relu, remembered = operation.relu, None
                case Pad():
                    current = WholeMap.of(operation.reflected(image))
                case Normalize():
                    current = self._normalized(operation, self.kernels.values(current, Frame(), dtype))
                case Upsample():
                    pixels = self.kernels.values(current, Frame(), dtype)
                    current = WholeMap.of(F.interpolate(pixels, scale_factor=operation.factor, mode="nearest"))
                    del pixels
        result = self.kernels.values(current, Frame(), torch.float32, contiguous=True)
        del current
        result = output_function(result, self.spec.output)
        return result.add_(enlarge(image, self.spec.scale)) if self.spec.base == "bicubic" else result

    def _convolved(
        self, index: int, window: Window, taken: Tensor, sides: tuple[int, int], dtype: torch.dtype
    ) -> WholeMap:  # fmt: skip
        """Return the map of a convolution over a padded map of these sides, not yet normalized."""
        if window.stage.blur:
            taken = blurred(taken)
        raw = F.conv2d(taken, self.lowered.weight(index, dtype), None, window.stride)
        if self.watch is not None:
            self.watch(taken)
            self.watch(raw)
        height, width = (window.geometry(side, axis)[2] for axis, side in enumerate(sides))
        has_bias = window.norm is None or window.stage.shuffle > 1  # another one the norm would remove
        return WholeMap(
            raw, height, width, window.channels, window.phases, window.shifts, window.bias if has_bias else None,
            relu=window.relu,
        )  # fmt: skip

    def _normalized(self, operation: Normalize, pixels: Tensor) -> WholeMap:
        """Return the map of values that are to be normalized."""
        result, norm = WholeMap.of(pixels), operation.norm
        if isinstance(norm, InstanceNorm):
            whole = Norm(norm.weight.detach().float(), norm.bias.detach().float(), norm.eps)
            result.scale, result.shift = self.kernels.statistics(result, whole)
        elif isinstance(norm, nn.BatchNorm2d):
            result.scale, result.shift = batch_norm_affine(norm)
        result.relu = operation.relu
        return result


def _frame(window: Window, source: WholeMap) -> Frame:
    """Return the pixels around a map that a convolution reads."""
    edges = []
    for axis, side in enumerate((source.height, source.width)):
        before, positions, _ = window.geometry(side, axis)
        edges.append((before, (positions - 1) * window.stride + window.kernel - before - side))
    (top, bottom), (left, right) = edges
    return Frame(top, bottom, left, right, window.padding)


def _without(values: Tensor, frame: Frame) -> Tensor:
    """Return a framed map without its frame."""
    height, width = values.shape[2:]
    return values[:, :, frame.top : height - frame.bottom, frame.left : width - frame.right]


def _cropped(values: Tensor, rows: int, columns: int) -> Tensor:
    height, width = values.shape[2:]
    return values[:, :, rows : height - rows, columns : width - columns]
