"""The algebra before the streaming: a TransformNet as a list of convolutions over windows of rows.

Every convolution of a network takes one form, `Window`. Position p (a row, likewise a column) of the result is computed
from ``kernel`` input rows that start at ``p * stride - before``. It holds S x S pixels of the output, ``phases`` S:

- Plain convolution: S = 1.
- Nearest upsampling by S and a convolution, or a transposed convolution: each of the S x S pixels that one input pixel
  becomes has its own small kernel on the small image (four 2x2 kernels instead of a 3x3 one on four times the pixels).
  Their windows start at different rows, so pixel a of input row m is found at position m + shifts[a].
- Sub-pixel convolution: its S x S pixels are phases, all with the same window.
- Convolution with a blur before it: the blur reads one more row at each end, and the convolution reads what it leaves.
- Convolution to few channels, which would fill vector lanes badly: over blocks of S x S pixels it has S x S times as
  many outputs.

Reflection by one pixel after an upsampling equals replication before it. Batch normalization is folded into the
weights. The sign of an instance normalization's scale moves into the weights before it, so that its ReLU is a maximum
(see feature_maps.py). The convolution's bias, which the normalization would remove, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..network.stages import ConvStage, InstanceNorm, PadStage, ResidualStage, UpsampleStage
from ..network.transform_net import TransformNet, check_row

_BLOCK = 2  # side of the pixel blocks of a convolution to few channels
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class Norm:
    """An instance normalization.

    Attributes:
        scale: (C) float32, not negative
        shift: (C) float32
        eps: added to the variance
    """

    scale: Tensor
    shift: Tensor
    eps: float


@dataclass(frozen=True)
class Window:
    """A convolution in the form that the module describes.

    Attributes:
        weight: (S * S * C, C_in, kernel, kernel) float32; output channel (a * S + b) * C + c is pixel (a, b)
        bias: (S * S * C) float32
        stride: input rows between two positions
        phases: S
        shifts: position of pixel a of input row m, relative to m; one for each phase
        channels: C
        stage: the convolution's stage, which knows its padding
        up: output pixels per input pixel
        before_up: rows of padding before the input if ``up`` > 1
        norm: the normalization that follows, if any
        relu: whether a ReLU follows that
        wrap: whether rows, and whether columns, outside the input are those of the opposite edge
    """

    weight: Tensor
    bias: Tensor
    stride: int
    phases: int
    shifts: tuple[int, ...]
    channels: int
    stage: ConvStage
    up: int
    before_up: int
    norm: Norm | None
    relu: bool
    wrap: tuple[bool, bool] = (False, False)

    @property
    def kernel(self) -> int:
        """Rows that one position reads, those of a blur included."""
        return self.weight.shape[-1] + self.stage.extent - self.stage.kernel

    @property
    def padding(self) -> str:
        """How rows outside the input are filled where they do not wrap: reflect | replicate | zero."""
        if self.stage.transposed or self.stage.padding not in ("reflect", "replicate"):
            return "zero"
        return "replicate" if self.up > self.stage.shuffle else self.stage.padding

    def geometry(self, side: int, axis: int) -> tuple[int, int, int]:
        """Return (rows of padding before, positions, output side) for an input side; axis is 0 for rows, 1 for columns."""
        if self.up > 1:
            return self.before_up, side + max(self.shifts), side * self.up
        before, after = self.stage.edges(side)
        if self.wrap[axis] and self.stage.padding == "none":
            before = after = (self.stage.extent - 1) // 2
        result = (side + before + after - self.stage.extent) // self.stage.stride + 1
        return before, -(-result // self.phases), result


@dataclass(frozen=True)
class Pad:
    """A reflection of the image by ``rows`` at top and bottom, and by ``columns`` at left and right."""

    rows: int
    columns: int

    def reflected(self, image: Tensor) -> Tensor:
        """Return the image with its reflection around it."""
        return F.pad(image, (self.columns, self.columns, self.rows, self.rows), mode="reflect")


@dataclass(frozen=True)
class Remember:
    """A mark: the current feature map is kept for the next `Add`."""


@dataclass(frozen=True)
class Add:
    """The addition of the remembered feature map.

    Attributes:
        crop: rows, and columns, that the remembered map loses at each edge
        times: how often it is added
        relu: whether a ReLU follows
    """

    crop: tuple[int, int]
    times: int
    relu: bool


@dataclass(frozen=True)
class Normalize:
    """A normalization of a map that exists.

    Attributes:
        norm: instance normalization, batch normalization or None
        relu: whether a ReLU follows
    """

    norm: nn.Module | None
    relu: bool


@dataclass(frozen=True)
class Upsample:
    """Nearest upsampling that is not part of a convolution."""

    factor: int


Operation = Window | Pad | Remember | Add | Normalize | Upsample


@torch.no_grad()
def lower(network: TransformNet, wrap: tuple[bool, bool] = (False, False)) -> list[Operation]:
    """Return the operations that compute ``network`` up to its output function.

    Weights are float32 copies on the network's device.

    Args:
        network: the network
        wrap: whether rows, and whether columns, wrap: every padding then continues with the opposite edge, and none is
            made at the start

    Raises:
        InputError: for a network of several styles; `styles.select` makes a network of one
    """
    check_row(network.spec)
    operations: list[Operation] = []
    stages = list(network.stages)
    for i, stage in enumerate(stages):
        if isinstance(stage, PadStage):
            operations.append(Pad(*_unless(wrap, stage.pixels)))
        elif isinstance(stage, UpsampleStage):
            if stage.norm is not None or stage.relu:
                operations.append(Normalize(stage.norm, stage.relu))
            following = stages[i + 1] if i + 1 < len(stages) else None
            if not _takes_in(following):
                operations.append(Upsample(stage.factor))
        elif isinstance(stage, ResidualStage):
            operations += [Remember(), *(replace(_plain(each), wrap=wrap) for each in (stage.first, stage.second))]
            operations.append(Add(_unless(wrap, stage.crop), 2 if stage.kind == "twice" else 1, stage.kind == "relu"))
        elif isinstance(stage, ConvStage):
            operations.append(replace(_window(stage, stages[i - 1] if i else None), wrap=wrap))
        else:
            raise TypeError(f"expected a stage of a TransformNet, got {type(stage).__name__}")
    return operations


def _unless(wrap: tuple[bool, bool], pixels: int) -> tuple[int, int]:
    """Return pixels for the axes that do not wrap, 0 for those that do."""
    rows, columns = wrap
    return 0 if rows else pixels, 0 if columns else pixels


def _window(stage: ConvStage, previous: nn.Module | None) -> Window:
    """Return the window of a convolution, together with an upsampling before it."""
    if stage.transposed:
        return _transposed(stage)
    if stage.shuffle > 1:
        return _subpixel(stage)
    if isinstance(previous, UpsampleStage) and _takes_in(stage):
        return _upsampled(stage, previous.factor)
    return _plain(stage)


def _takes_in(stage: nn.Module | None) -> bool:
    """Return whether a convolution can work on the small image instead of the upsampled one."""
    if not isinstance(stage, ConvStage) or stage.transposed or stage.shuffle > 1 or stage.stride != 1:
        return False
    # A reflection by more than one pixel is not a replication.
    return stage.padding in ("replicate", "zero", "same") or (stage.padding == "reflect" and stage.kernel <= 3)


def _plain(stage: ConvStage) -> Window:
    weight, bias, norm = _folded(stage)
    channels, phases = len(weight), 1
    if channels <= _FEW_CHANNELS and stage.stride == 1 and stage.kernel > 3 and norm is None:
        phases = _BLOCK
        side = stage.kernel + phases - 1
        blocks = weight.new_zeros(phases, phases, channels, weight.shape[1], side, side)
        for a in range(phases):
            for b in range(phases):
                blocks[a, b, :, :, a : a + stage.kernel, b : b + stage.kernel] = weight
        weight, bias = blocks.flatten(0, 2), bias.repeat(phases * phases)
    return Window(
        weight, bias, stage.stride * phases, phases, (0,) * phases, channels, stage, 1, 0, norm, stage.relu
    )  # fmt: skip


def _upsampled(stage: ConvStage, factor: int) -> Window:
    """Combine nearest upsampling and a convolution: tap t of output row factor * m + a reads small row m + offset."""
    weight, bias, norm = _folded(stage)
    half = (stage.kernel - 1) // 2
    taps = [[(a + t - half) // factor for t in range(stage.kernel)] for a in range(factor)]
    return _phased(stage, weight, bias, norm, factor, taps)


def _transposed(stage: ConvStage) -> Window:
    """Turn around output row stride * m + a = stride * i - padding + t.

    Tap t reads input row i = m + (a + padding - t) / stride.
    """
    weight, bias, norm = _folded(stage)
    s, p = stage.stride, int(stage.conv.padding[0]) + stage.shave
    taps = [[(a + p - t) // s if (a + p - t) % s == 0 else None for t in range(stage.kernel)] for a in range(s)]
    return _phased(stage, weight, bias, norm, s, taps)


def _subpixel(stage: ConvStage) -> Window:
    """Reorder the S x S pixels of a sub-pixel convolution, which already are phases."""
    weight, bias, norm = _folded(stage)
    s = stage.shuffle
    weight, bias = (part.unflatten(0, (-1, s, s)).movedim(0, 2).flatten(0, 2) for part in (weight, bias))
    before = (stage.kernel - 1) // 2
    return Window(weight, bias, 1, s, (0,) * s, len(bias) // s**2, stage, s, before, norm, stage.relu)


def _phased(stage: ConvStage, weight: Tensor, bias: Tensor, norm: Norm | None, factor: int, taps: list) -> Window:
    """Return one window for all phases.

    taps[a][t] is the row, relative to its own, that tap t of phase a reads; None if it reads no row.
    """
    used = [[offset for offset in phase if offset is not None] or [0] for phase in taps]
    first = min(map(min, used))
    starts = [min(offsets) for offsets in used]
    kernel = max(max(offsets) - start + 1 for offsets, start in zip(used, starts, strict=True))
    channels, inputs = weight.shape[:2]
    phases = weight.new_zeros(factor, factor, channels, inputs, kernel, kernel)
    for a in range(factor):
        for b in range(factor):
            for t, row in enumerate(taps[a]):
                for u, column in enumerate(taps[b]):
                    if row is not None and column is not None:
                        phases[a, b, :, :, row - starts[a], column - starts[b]] += weight[:, :, t, u]
    shifts = tuple(start - first for start in starts)
    bias = bias.repeat(factor * factor)
    return Window(phases.flatten(0, 2), bias, 1, factor, shifts, channels, stage, factor, -first, norm, stage.relu)


def _folded(stage: ConvStage) -> tuple[Tensor, Tensor, Norm | None]:
    """Return weight (C, C_in, k, k), bias and instance norm; the weights include a batch norm and the norm's sign."""
    weight = stage.conv.weight.detach().float()
    weight = weight.transpose(0, 1) if stage.transposed else weight
    bias = stage.conv.bias.detach().float() if stage.conv.bias is not None else weight.new_zeros(len(weight))
    norm = stage.norm
    if isinstance(norm, InstanceNorm):
        scale = norm.weight.detach().float()
        sign = torch.where(scale < 0, -1.0, 1.0).repeat_interleave(stage.shuffle**2)
        bias = (bias * sign).unflatten(0, (-1, stage.shuffle**2))
        bias = (bias - bias.mean(dim=1, keepdim=True)).flatten()  # the norm removes what all phases share
        return weight * sign[:, None, None, None], bias, Norm(scale.abs(), norm.bias.detach().float(), norm.eps)
    if isinstance(norm, nn.BatchNorm2d):
        scale, shift = (part.repeat_interleave(stage.shuffle**2) for part in batch_norm_affine(norm))
        return weight * scale[:, None, None, None], bias * scale + shift, None
    return weight.clone(), bias.clone(), None


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the scale and shift (C) that a batch normalization applies in eval mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch normalization without running statistics cannot be folded")
    scale = norm.weight.detach().float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    return scale, norm.bias.detach().float() - norm.running_mean.float() * scale
