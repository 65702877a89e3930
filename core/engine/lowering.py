"""The algebra before the streaming: a TransformNet as a list of convolutions over windows of rows.

Every convolution of a network becomes one form, `Window`: position p (a row, likewise a column) of the result is computed
from ``kernel`` input rows that start at ``p * stride - before``, and holds S x S pixels of the output, ``phases`` S:

- a plain convolution: S = 1
- nearest upsampling by S and a convolution, or a transposed convolution: each of the S x S pixels that one input pixel
  becomes has a small kernel of its own on the small image (four 2x2 kernels instead of a 3x3 one on four times the
  pixels). Their windows start at different rows, so pixel a of input row m is found at position m + shifts[a]
- a sub-pixel convolution: its S x S pixels are phases, all with the same window
- a convolution to few channels fills vector lanes badly; over blocks of S x S pixels it has S x S times as many outputs

A reflection by one pixel after an upsampling is a replication before it. Batch normalization is folded into the
weights. The sign of an instance normalization's scale is moved into the weights before it, so that its ReLU is a maximum
(see stream.py), and the convolution's bias, which the normalization would remove, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..network.stages import ConvStage, InstanceNorm, PadStage, ResidualStage, UpsampleStage
from ..network.transform_net import TransformNet, check_row

_BLOCK = 2  # side of the pixel blocks of a convolution to few channels
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class Norm:
    """An instance normalization: scale >= 0 and shift (C), float32."""

    scale: Tensor
    shift: Tensor
    eps: float


@dataclass(frozen=True)
class Window:
    """A convolution in the form above.

    weight: (S * S * C, C_in, kernel, kernel), bias: (S * S * C), float32; output channel (a * S + b) * C + c is pixel (a, b)
    stage: knows its padding; up: output pixels per input pixel; norm: what follows; relu: what follows that
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

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def padding(self) -> str:
        """How rows outside of the input are made up: reflect | replicate | zero."""
        if self.stage.transposed or self.stage.padding not in ("reflect", "replicate"):
            return "zero"
        return "replicate" if self.up > self.stage.shuffle else self.stage.padding

    def geometry(self, side: int) -> tuple[int, int, int]:
        """For an input side: (rows of padding before, positions, output side)."""
        if self.up > 1:
            return self.before_up, side + max(self.shifts), side * self.up
        before, after = self.stage.edges(side)
        result = (side + before + after - self.stage.kernel) // self.stage.stride + 1
        return before, -(-result // self.phases), result


@dataclass(frozen=True)
class Pad:
    """Reflect the image by ``pixels`` at each edge."""

    pixels: int


@dataclass(frozen=True)
class Remember:
    """Keep the current feature map for the next Add."""


@dataclass(frozen=True)
class Add:
    """Add the remembered feature map, cropped by ``crop``, ``times`` times; then a ReLU, or not."""

    crop: int
    times: int
    relu: bool


@dataclass(frozen=True)
class Normalize:
    """An instance normalization, batch normalization or none (scale and shift), then a ReLU, of a map that exists."""

    norm: nn.Module | None
    relu: bool


@dataclass(frozen=True)
class Upsample:
    """Nearest upsampling that no convolution could take in."""

    factor: int


Operation = Window | Pad | Remember | Add | Normalize | Upsample


@torch.no_grad()
def lower(network: TransformNet) -> list[Operation]:
    """The operations that compute ``network`` up to its output function; weights are float32 copies on its device.

    Raises InputError for a network of several styles: `styles.select` makes the network of one.
    """
    check_row(network.spec)
    operations: list[Operation] = []
    stages = list(network.stages)
    for i, stage in enumerate(stages):
        previous = stages[i - 1] if i else None
        if isinstance(stage, PadStage):
            operations.append(Pad(stage.pixels))
        elif isinstance(stage, UpsampleStage):
            if stage.norm is not None or stage.relu:
                operations.append(Normalize(stage.norm, stage.relu))
            following = stages[i + 1] if i + 1 < len(stages) else None
            if not _takes_in(following):
                operations.append(Upsample(stage.factor))
        elif isinstance(stage, ResidualStage):
            operations += [Remember(), _plain(stage.first), _plain(stage.second)]
            operations.append(Add(stage.crop, 2 if stage.kind == "twice" else 1, stage.kind == "relu"))
        elif stage.transposed:
            operations.append(_transposed(stage))
        elif stage.shuffle > 1:
            operations.append(_subpixel(stage))
        elif isinstance(previous, UpsampleStage) and _takes_in(stage):
            operations.append(_upsampled(stage, previous.factor))
        else:
            operations.append(_plain(stage))
    return operations


def _takes_in(stage: nn.Module | None) -> bool:
    """Whether a convolution can work on the small image instead of the upsampled one."""
    if not isinstance(stage, ConvStage) or stage.transposed or stage.shuffle > 1 or stage.stride != 1:
        return False
    # A reflection by more than one pixel is no replication.
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
    """Nearest upsampling, then a convolution: tap t of output row factor * m + a reads small row m + offset."""
    weight, bias, norm = _folded(stage)
    half = (stage.kernel - 1) // 2
    taps = [[(a + t - half) // factor for t in range(stage.kernel)] for a in range(factor)]
    return _phased(stage, weight, bias, norm, factor, taps)


def _transposed(stage: ConvStage) -> Window:
    """Output row stride * m + a = stride * i - padding + t: tap t reads input row i = m + (a + padding - t) / stride."""
    weight, bias, norm = _folded(stage)
    s, p = stage.stride, stage.conv.padding[0] + stage.shave
    taps = [[(a + p - t) // s if (a + p - t) % s == 0 else None for t in range(stage.kernel)] for a in range(s)]
    return _phased(stage, weight, bias, norm, s, taps)


def _subpixel(stage: ConvStage) -> Window:
    """The X x X pixels of a sub-pixel convolution are phases already, only in another order."""
    weight, bias, norm = _folded(stage)
    s = stage.shuffle
    weight, bias = (part.unflatten(0, (-1, s, s)).movedim(0, 2).flatten(0, 2) for part in (weight, bias))
    before = (stage.kernel - 1) // 2
    return Window(weight, bias, 1, s, (0,) * s, len(bias) // s**2, stage, s, before, norm, stage.relu)


def _phased(stage: ConvStage, weight: Tensor, bias: Tensor, norm: Norm | None, factor: int, taps: list) -> Window:
    """One window for all phases; taps[a][t]: which row, relative to its own, tap t of phase a reads (None: no row)."""
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
    """Weight as (C, C_in, k, k), bias and instance norm; a batch norm is in the weights, the norm's sign as well."""
    weight = stage.conv.weight.detach().float()
    weight = weight.transpose(0, 1) if stage.transposed else weight
    bias = stage.conv.bias.detach().float() if stage.conv.bias is not None else weight.new_zeros(len(weight))
    norm = stage.norm
    if isinstance(norm, InstanceNorm):
        scale = norm.weight.detach().float()
        sign = torch.where(scale < 0, -1.0, 1.0).repeat_interleave(stage.shuffle**2)
        bias = (bias * sign).unflatten(0, (-1, stage.shuffle**2))
        bias = (bias - bias.mean(dim=1, keepdim=True)).flatten()  # of what all phases share, the norm leaves nothing
        return weight * sign[:, None, None, None], bias, Norm(scale.abs(), norm.bias.detach().float(), norm.eps)
    if norm is not None:
        scale, shift = (part.repeat_interleave(stage.shuffle**2) for part in batch_norm_affine(norm))
        return weight * scale[:, None, None, None], bias * scale + shift, None
    return weight.clone(), bias.clone(), None


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C) that a batch normalization is in eval mode."""
    scale = norm.weight.detach().float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    return scale, norm.bias.detach().float() - norm.running_mean.float() * scale
