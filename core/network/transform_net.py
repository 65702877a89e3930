"""TransformNet: the stages that an ArchSpec describes, as a plain torch module.

Its forward is the reference: what training uses, and what any faster way to run a network is compared with.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..images.bicubic import enlarge
from .arch import ArchSpec

#: Which style of a network of several: its row, or one for each image of the batch (N); None where there is one style
Row = int | Tensor | None

#: F.pad's names of the paddings
PAD_MODES = {"reflect": "reflect", "replicate": "replicate", "zero": "constant", "same": "constant"}


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after that TensorFlow's SAME puts around a side."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class InstanceNorm(nn.Module):
    """Instance normalization with scale and shift: statistics over H x W of each image and channel, never stored.

    They are taken in float32 whatever x is, and the result has x's dtype.

    With several styles, weight and bias are (styles, channels), and forward takes the row to use: one number for all images,
    or a tensor (N) of one for each (conditional instance normalization, Dumoulin et al. 2017, equation 5).
    """

    def __init__(self, channels: int, eps: float = 1e-5, styles: int = 1) -> None:
        super().__init__()
        self.eps = eps
        shape = (styles, channels) if styles > 1 else (channels,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        weight, bias, parts = self.weight, self.bias, x.float()
        if row is not None:
            weight, bias = weight[row], bias[row]
        if weight.dim() == 2:  # a row for each image: all channels of the batch as if they were one image's
            parts = parts.reshape(1, -1, *x.shape[2:])
        # One group a channel is instance normalization; torch's group norm has the faster kernels, backward above all.
        result = torch.group_norm(parts, weight.numel(), weight.flatten(), bias.flatten(), self.eps)
        return result.view(x.shape).to(x.dtype)


def _norm(spec: ArchSpec, channels: int) -> nn.Module | None:
    if spec.norm == "instance":
        return InstanceNorm(channels, spec.eps, spec.styles)
    return nn.BatchNorm2d(channels, spec.eps) if spec.norm == "batch" else None


def _normalized(norm: nn.Module | None, x: Tensor, row: Row) -> Tensor:
    if norm is None:
        return x
    return norm(x) if row is None else norm(x, row)


class PadStage(nn.Module):
    """The one reflection padding at the start of a ``reflect-start`` network (supplement, table 1)."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        return F.pad(x, (self.pixels,) * 4, mode="reflect")


class ConvStage(nn.Module):
    """Pad, convolve, normalize, activate.

    padding: reflect | replicate | zero | same | none; shuffle: side of the pixel blocks of a sub-pixel convolution

    A transposed convolution pads with zeros by its nature, and gives exactly ``stride`` times its input's size. As the
    gradient of the SAME convolution, TensorFlow's takes less off its top and left: ``shave`` px of the full result,
    which is cropped at the other end.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, *,
        padding: str, norm: nn.Module | None = None, relu: bool = False, transposed: bool = False,
        shuffle: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.padding, self.relu, self.transposed, self.shuffle = padding, relu, transposed, shuffle
        self.kernel, self.stride = kernel, stride
        half = (kernel - 1) // 2
        self.shave = 0
        if transposed and padding == "same":
            self.shave = same_padding(stride, kernel, stride)[0]
            fill = max(stride - kernel, 0)  # what a kernel smaller than the stride leaves at the end
            self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, output_padding=fill)
        elif transposed:
            self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, half, output_padding=stride - 1)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels * shuffle**2, kernel, stride)
        self.norm = norm

    def edges(self, side: int) -> tuple[int, int]:
        """Pixels of padding before and after a side of the input."""
        if self.transposed or self.padding == "none":
            return 0, 0
        if self.padding == "same":
            return same_padding(side, self.kernel, self.stride)
        return ((self.kernel - 1) // 2,) * 2

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        (top, bottom), (left, right) = (self.edges(side) for side in x.shape[-2:])
        height, width = x.shape[-2:]
        if self.padding == "zero" and not self.transposed:  # which a convolution can do itself
            x = F.conv2d(x, self.conv.weight, self.conv.bias, self.stride, (top, left))
        else:
            if top or bottom or left or right:
                x = F.pad(x, (left, right, top, bottom), mode=PAD_MODES[self.padding])
            x = self.conv(x)
        if self.transposed:
            x = x[..., self.shave : self.shave + height * self.stride, self.shave : self.shave + width * self.stride]
        if self.shuffle > 1:
            x = F.pixel_shuffle(x, self.shuffle)
        x = _normalized(self.norm, x, row)
        return F.relu(x) if self.relu else x


class UpsampleStage(nn.Module):
    """Nearest-neighbor upsampling; the authors' ``U`` normalizes and activates after it, our bare ``n`` does not."""

    def __init__(self, factor: int, norm: nn.Module | None, relu: bool) -> None:
        super().__init__()
        self.factor, self.norm, self.relu = factor, norm, relu

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        x = F.interpolate(x, scale_factor=self.factor, mode="nearest")
        x = _normalized(self.norm, x, row)
        return F.relu(x) if self.relu else x


class ResidualStage(nn.Module):
    """Conv, norm, ReLU, conv, norm, added to the input.

    kind: plain, no ReLU after the addition (Gross and Wilber 2016) | relu: one | twice: the input is added twice
    With unpadded convolutions the input is cropped by the 2 px that they take from each edge.
    """

    def __init__(self, first: ConvStage, second: ConvStage, kind: str = "plain") -> None:
        super().__init__()
        self.first, self.second, self.kind = first, second, kind
        self.crop = 2 if first.padding == "none" else 0

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        skip = x[..., self.crop : -self.crop, self.crop : -self.crop] if self.crop else x
        x = skip + self.second(self.first(x, row), row)
        if self.kind == "twice":
            x = x + skip
        return F.relu(x) if self.kind == "relu" else x


class TransformNet(nn.Module):
    """An image transformation network: ``stages`` in order, then the output function of ``spec``.

    forward takes (N, 3, H, W) in the network's own pixel convention and returns (N, out_channels, scale H, scale W) for
    sides that are multiples of ``spec.multiple_of``; others come out larger (257 -> 260 in the paper's network), as in
    the authors' code. Networks that this project trains take and give RGB in [0, 1].

    A new network has torch's default initialization, which is Torch7's, but norms start at scale 1 instead of U(0, 1).
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__()
        self.spec = spec
        per_conv = "zero" if spec.padding == "reflect-start" else spec.padding
        in_block = "none" if spec.padding == "reflect-start" else spec.padding
        self.stages = nn.ModuleList()
        if spec.start_padding:
            self.stages.append(PadStage(spec.start_padding))
        channels = spec.in_channels

        def norm(channels: int) -> nn.Module | None:
            return _norm(spec, channels)

        for i, layer in enumerate(spec.layers):
            last = i == len(spec.layers) - 1
            if layer.kind == "residual":
                first = ConvStage(channels, channels, 3, 1, padding=in_block, norm=norm(channels), relu=True)
                second = ConvStage(channels, channels, 3, 1, padding=in_block, norm=norm(channels))
                stage = ResidualStage(first, second, spec.residual)
            elif layer.kind in ("upsample", "nearest"):
                bare = layer.kind == "nearest"
                stage = UpsampleStage(layer.stride, None if bare else norm(channels), relu=not bare)
            else:
                shuffle = layer.stride if layer.kind == "subpixel" else 1
                stage = ConvStage(
                    channels, layer.channels, layer.kernel, layer.stride // shuffle, padding=per_conv, shuffle=shuffle,
                    norm=None if last and spec.last == "plain" else norm(layer.channels),
                    relu=not last, transposed=layer.kind == "transposed",
                )  # fmt: skip
            self.stages.append(stage)
            channels = layer.channels or channels

    def forward(self, image: Tensor, raw: bool = False, row: Row = None) -> Tensor:
        """raw: what goes into the output function, instead of what comes out of it; row: see `Row`.

        Raises InputError for a network of several styles without a row.
        """
        check_row(self.spec, row)
        x = image
        for stage in self.stages:
            x = stage(x, row)
        if raw:
            return x
        x = output_function(x, self.spec.output)
        return x if self.spec.base == "none" else x + enlarge(image, self.spec.scale)


def check_row(spec: ArchSpec, row: Row = None) -> None:
    """Raise InputError where a network of several styles is to run without a row, or with one that it has not."""
    if spec.styles > 1 and row is None:
        raise InputError(
            f"this network holds {spec.styles} styles and none was chosen; styles.select makes the network of one"
        )
    if row is not None and (spec.styles == 1 or (isinstance(row, int) and not 0 <= row < spec.styles)):
        raise InputError(
            f"row is {row}, and this network has {spec.styles if spec.styles > 1 else 'none to choose from'}"
        )


def forward_any_size(network: TransformNet, image: Tensor) -> Tensor:
    """(N, 3, H, W) of any H, W >= 1 -> (N, C, scale H, scale W): run on the image as it is, and cropped.

    Only images below the network's smallest side are extended first.
    """
    height, width = image.shape[-2:]
    spec = network.spec
    return network(extend(image, spec.smallest_side))[..., : height * spec.scale, : width * spec.scale]


def extend(image: Tensor, smallest: int) -> Tensor:
    """Extend bottom and right to at least ``smallest`` px: mirrored as often as it takes, a single row is repeated."""
    for axis in (-2, -1):
        side = image.shape[axis]
        if side < smallest:
            period = max(2 * side - 2, 1)
            index = torch.arange(smallest, device=image.device) % period
            image = image.index_select(axis, torch.minimum(index, period - index).clamp(max=side - 1))
    return image


def output_function(x: Tensor, output: str) -> Tensor:
    """The network's last step, ArchSpec.output: linear | sigmoid | tanh | tanhK."""
    if output == "linear":
        return x
    if output == "sigmoid":
        return torch.sigmoid(x)
    if output == "tanh":
        return torch.sigmoid(2 * x)  # = (tanh(x) + 1) / 2
    return float(output.removeprefix("tanh")) * torch.tanh(x)


def build_network(spec: ArchSpec | str) -> TransformNet:
    """A new, untrained network from an ArchSpec or an arch string."""
    return TransformNet(ArchSpec.parse(spec) if isinstance(spec, str) else spec)


def interpolate(network: TransformNet, partner: TransformNet, weight: float) -> TransformNet:
    """The network whose every weight is (1 - weight) network's + weight partner's.

    Network interpolation (Wang et al. 2018, ESRGAN, section 3.4), for networks one of which was trained from the other.
    """
    with torch.device("meta"):
        between = TransformNet(network.spec)
    theirs = partner.state_dict()
    weights = {
        key: ours.lerp(theirs[key].to(ours), weight) if ours.is_floating_point() else ours
        for key, ours in network.state_dict().items()
    }
    between.load_state_dict(weights, assign=True)
    return between.eval().requires_grad_(False)


def deepened(network: TransformNet, like: TransformNet) -> TransformNet | None:
    """A network of ``like``'s architecture that gives what ``network`` gives, where that has fewer residual blocks in a row
    and is the same otherwise; None where it is not.

    The blocks that are missing come last in the row: those of ``like`` with nothing in their second convolution.
    """
    layers, fewer = like.spec.layers, network.spec.layers
    more = len(layers) - len(fewer)
    last = max((i for i, layer in enumerate(fewer) if layer.kind == "residual"), default=-1) + 1
    same = replace(like.spec, layers=layers[:last] + layers[last + more :]) == network.spec
    if more < 0 or not last or not same or any(layer != fewer[last - 1] for layer in layers[last : last + more]):
        return None
    result = copy.deepcopy(like)
    last += len(network.stages) - len(fewer)  # stages that are no layers come first
    stages = list(result.stages)
    with torch.no_grad():
        for stage in stages[last : last + more]:
            for parameter in stage.second.parameters():
                parameter.zero_()
    for mine, theirs in zip(stages[:last] + stages[last + more :], network.stages, strict=True):
        mine.load_state_dict(theirs.state_dict())
    return result
