"""TransformNet: the network that an ArchSpec describes, as a plain torch module.

Its forward is the reference: training uses it, and every faster way to run a network is compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..images.bicubic import enlarge
from .arch import ArchSpec
from .layers import Layer
from .stages import ConvStage, InstanceNorm, PadStage, ResidualStage, Row, UpsampleStage


class TransformNet(nn.Module):
    """An image transformation network: ``stages`` in order, then the output function of ``spec``.

    A new network has torch's default initialization, which is Torch7's. But norms start at scale 1 instead of U(0, 1).

    Attributes:
        spec: Architecture of the network.
        stages: Stages in order.
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stages = nn.ModuleList()
        if spec.start_padding:
            self.stages.append(PadStage(spec.start_padding))
        channels = spec.in_channels
        normed = spec.first == "norm"
        for i, layer in enumerate(spec.layers):
            is_last = i == len(spec.layers) - 1
            normed = (normed or layer.kind == "residual") and not (is_last and spec.last == "plain")
            self.stages.append(_stage(spec, layer, channels, normed, is_last))
            channels = layer.channels or channels

    def forward(self, image: Tensor, raw: bool = False, row: Row = None) -> Tensor:
        """Transform images.

        Args:
            image: (N, 3, H, W) in the network's own pixel convention: RGB in [0, 1] for networks trained here
            raw: return the output function's input instead of its result, without the base
            row: see `Row`

        Returns:
            (N, out_channels, scale H, scale W) for sides that are multiples of ``spec.multiple_of``. Others come out
            larger (257 -> 260 in the paper's network), as in the authors' code.

        Raises:
            InputError: the network has several styles and no row was given, or it does not have the row.
        """
        check_row(self.spec, row)
        x = image
        for stage in self.stages:
            x = stage(x, row)
        if raw:
            return x
        x = output_function(x, self.spec.output)
        return x if self.spec.base == "none" else x + enlarge(image, self.spec.scale)


def build_network(spec: ArchSpec | str) -> TransformNet:
    """Return a new, untrained network for an ArchSpec or an arch string."""
    return TransformNet(ArchSpec.parse(spec) if isinstance(spec, str) else spec)


def with_weights(spec: ArchSpec, weights: Mapping[str, Tensor]) -> TransformNet:
    """Return a network of this architecture around weights that fit it, frozen and in eval mode. They are shared."""
    with torch.device("meta"):
        result = TransformNet(spec)
    result.load_state_dict(weights, assign=True)
    return result.eval().requires_grad_(False)


def _stage(spec: ArchSpec, layer: Layer, channels: int, normed: bool, is_last: bool) -> nn.Module:
    """The stage of one layer, with norms or without, that follows a layer of ``channels`` channels."""
    if layer.kind == "residual":
        padding = "none" if spec.padding == "reflect-start" else spec.padding
        first = ConvStage(channels, channels, 3, 1, padding=padding, norm=_norm(spec, channels), relu=True)
        second = ConvStage(channels, channels, 3, 1, padding=padding, norm=_norm(spec, channels))
        return ResidualStage(first, second, spec.residual)
    if layer.kind in ("upsample", "nearest"):
        bare = layer.kind == "nearest"
        return UpsampleStage(layer.stride, _norm(spec, channels) if normed and not bare else None, relu=not bare)
    shuffle = layer.stride if layer.kind == "subpixel" else 1
    return ConvStage(
        channels,
        layer.channels,
        layer.kernel,
        layer.stride // shuffle,
        padding="zero" if spec.padding == "reflect-start" else spec.padding,
        norm=_norm(spec, layer.channels) if normed else None,
        relu=not is_last,
        transposed=layer.kind == "transposed",
        shuffle=shuffle,
        blur=layer.blur,
    )


def _norm(spec: ArchSpec, channels: int) -> nn.Module | None:
    if spec.norm == "instance":
        return InstanceNorm(channels, spec.eps, spec.styles)
    return nn.BatchNorm2d(channels, spec.eps) if spec.norm == "batch" else None


def check_row(spec: ArchSpec, row: Row = None) -> None:
    """Raise InputError if a network of several styles is run without a row, or any network with a row it does not have."""
    if spec.styles > 1 and row is None:
        raise InputError(
            f"this network holds {spec.styles} styles and none was chosen; styles.select makes the network of one"
        )
    if row is not None and (spec.styles == 1 or (isinstance(row, int) and not 0 <= row < spec.styles)):
        raise InputError(
            f"row is {row}, and this network has {spec.styles if spec.styles > 1 else 'none to choose from'}"
        )


def output_function(x: Tensor, output: str) -> Tensor:
    """Apply the network's last step, ArchSpec.output: linear | sigmoid | tanh | tanhK."""
    if output == "linear":
        return x
    if output == "sigmoid":
        return torch.sigmoid(x)
    if output == "tanh":
        return torch.sigmoid(2 * x)  # = (tanh(x) + 1) / 2
    return float(output.removeprefix("tanh")) * torch.tanh(x)


def forward_any_size(network: TransformNet, image: Tensor) -> Tensor:
    """Run a network on (N, 3, H, W) of any H, W >= 1 and crop the result to (N, C, scale H, scale W).

    Only images below the network's smallest side are extended first.
    """
    height, width = image.shape[-2:]
    spec = network.spec
    return network(extend(image, spec.smallest_side))[..., : height * spec.scale, : width * spec.scale]


def extend(image: Tensor, smallest: int, smallest_width: int | None = None) -> Tensor:
    """Extend bottom and right to at least ``smallest`` px: mirrored as often as needed; a single row is repeated.

    If ``smallest_width`` is given, it counts for the width.
    """
    for axis, least in ((-2, smallest), (-1, smallest if smallest_width is None else smallest_width)):
        side = image.shape[axis]
        if side < least:
            period = max(2 * side - 2, 1)
            index = torch.arange(least, device=image.device) % period
            image = image.index_select(axis, torch.minimum(index, period - index).clamp(max=side - 1))
    return image
