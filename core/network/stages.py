"""The stages of a TransformNet as torch modules: padding, convolutions, residual blocks, upsampling, and their norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arithmetic import autocast
from .flatness import flat_planes
from .layers import BLUR_EXTENT

#: Which style of a network of several: one row for all images, or a tensor (N) with one for each image of the batch.
#: None if the network has one style.
Row = int | Tensor | None

#: F.pad's names of the paddings
PAD_MODES = {"reflect": "reflect", "replicate": "replicate", "zero": "constant", "same": "constant"}

# On a CPU, the backward pass of group_norm crashes for channels_last input that needs no gradient.
_FAULTY_GROUP_NORM = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros that TensorFlow's SAME puts before and after a side."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def blurred(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) blurred by the binomial kernel [1, 2, 1] x [1, 2, 1] / 16: (N, C, H - 2, W - 2), unpadded.

    Before a stride of 2, it weakens the frequencies that the stride would fold into others (Zhang 2019, arXiv 1904.11486).
    The kernel is constant, so a network's weights do not include it.
    """
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32  # half precision would be many times slower on CPUs
    kernel = blur_kernel(x.shape[1], dtype, x.device)
    with autocast(x.device, None):
        return F.conv2d(x.to(dtype), kernel, groups=x.shape[1]).to(x.dtype)


def blur_kernel(channels: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """Return the binomial kernel of `blurred` for a convolution of each channel on its own, (channels, 1, 3, 3)."""
    kernel = torch.full((channels, 1, BLUR_EXTENT, BLUR_EXTENT), 1 / 16, dtype=dtype, device=device)
    kernel[..., 1] *= 2
    kernel[..., 1, :] *= 2
    return kernel


class InstanceNorm(nn.Module):
    """Instance normalization with scale and shift: statistics over H x W of each image and channel, never stored.

    The statistics are computed in float32 whatever the dtype of x is; the result has x's dtype. Outside of training, a
    plane whose variance is only rounding becomes ``bias`` exactly (flatness.py).

    With several styles, weight and bias are (styles, channels), and forward takes the row to use: one number for all
    images, or a tensor (N) of one for each (conditional instance normalization, Dumoulin et al. 2017, equation 5).
    """

    def __init__(self, channels: int, eps: float = 1e-5, styles: int = 1) -> None:
        super().__init__()
        self.eps = eps
        shape = (styles, channels) if styles > 1 else (channels,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        """Normalize x (N, C, H, W)."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        parts = x.float()
        if row is not None:
            weight, bias = weight[row], bias[row]
        if weight.dim() == 2:  # a row for each image: treat all channels of the batch as those of one image
            parts = parts.reshape(1, -1, *x.shape[2:])
        faulty = _FAULTY_GROUP_NORM and not parts.requires_grad and torch.is_grad_enabled()
        if faulty or not self.training:  # for channels_last, torch's variances are wrong where the mean is much larger
            parts = parts.contiguous()
        # Group norm with one channel per group is instance norm. Torch has faster kernels for it, above all backward.
        result = torch.group_norm(parts, weight.numel(), weight.flatten(), bias.flatten(), self.eps).view(x.shape)
        # Looking at values makes a GPU wait, and has no place in an exported graph.
        flat = None if self.training or torch.compiler.is_compiling() else flat_planes(x)
        if flat is not None:
            result = torch.where(flat, bias.view(-1, x.shape[1], 1, 1).float(), result)
        return result.to(x.dtype)


def _normalize(norm: nn.Module | None, x: Tensor, row: Row) -> Tensor:
    if norm is None:
        return x
    return norm(x) if row is None else norm(x, row)


class PadStage(nn.Module):
    """The one reflection padding at the start of a ``reflect-start`` network (supplement, table 1)."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        """Reflect x at its edges; ``row`` has no effect."""
        return F.pad(x, (self.pixels,) * 4, mode="reflect")


class ConvStage(nn.Module):
    """Pad, blur if asked, convolve, normalize, activate.

    The padding is for blur and convolution together. With reflection, that equals padding each of them.

    A transposed convolution pads with zeros by its nature, and gives exactly ``stride`` times its input's size. As the
    gradient of the SAME convolution, TensorFlow's crops less at the top and left: ``shave`` px of the full result. The
    rest is cropped at the other end.

    Args:
        in_channels: channels of the input
        out_channels: channels of the result
        kernel: side of the kernel, odd
        stride: of the convolution, or enlargement of a transposed one
        padding: reflect | replicate | zero | same | none
        norm: normalization after the convolution, if any
        relu: whether a ReLU follows
        transposed: whether the convolution is transposed
        shuffle: side of the pixel blocks of a sub-pixel convolution
        blur: whether the padded input is blurred, see `blurred`
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, *,
        padding: str, norm: nn.Module | None = None, relu: bool = False, transposed: bool = False,
        shuffle: int = 1, blur: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.padding, self.relu, self.transposed, self.shuffle = padding, relu, transposed, shuffle
        self.kernel, self.stride, self.blur = kernel, stride, blur
        self.extent = kernel + BLUR_EXTENT - 1 if blur else kernel  # of what is read, see Layer.extent
        half = (kernel - 1) // 2
        self.shave = 0
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if transposed and padding == "same":
            self.shave = same_padding(stride, kernel, stride)[0]
            fill = max(stride - kernel, 0)  # pixels that a kernel smaller than the stride leaves out at the end
            self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, output_padding=fill)
        elif transposed:
            self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, half, output_padding=stride - 1)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels * shuffle**2, kernel, stride)
        self.norm = norm

    def edges(self, side: int) -> tuple[int, int]:
        """Return the pixels of padding before and after a side of the input."""
        if self.transposed or self.padding == "none":
            return 0, 0
        if self.padding == "same":
            return same_padding(side, self.extent, self.stride)
        return ((self.extent - 1) // 2,) * 2

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        """Run the stage on x (N, in_channels, H, W); see `Row`."""
        (top, bottom), (left, right) = (self.edges(side) for side in x.shape[-2:])
        height, width = x.shape[-2:]
        if self.padding == "zero" and not (self.transposed or self.blur):  # a convolution can do this itself
            x = F.conv2d(x, self.conv.weight, self.conv.bias, self.stride, (top, left))
        else:
            if top or bottom or left or right:
                x = F.pad(x, (left, right, top, bottom), mode=PAD_MODES[self.padding])
            x = self.conv(blurred(x) if self.blur else x)
        if self.transposed:
            x = x[..., self.shave : self.shave + height * self.stride, self.shave : self.shave + width * self.stride]
        if self.shuffle > 1:
            x = F.pixel_shuffle(x, self.shuffle)
        x = _normalize(self.norm, x, row)
        return F.relu(x) if self.relu else x


class UpsampleStage(nn.Module):
    """Nearest-neighbor upsampling. The authors' ``U`` normalizes and activates after it; our bare ``n`` does not."""

    def __init__(self, factor: int, norm: nn.Module | None, relu: bool) -> None:
        super().__init__()
        self.factor, self.norm, self.relu = factor, norm, relu

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        """Enlarge x (N, C, H, W) by the factor; see `Row`."""
        x = F.interpolate(x, scale_factor=self.factor, mode="nearest")
        x = _normalize(self.norm, x, row)
        return F.relu(x) if self.relu else x


class ResidualStage(nn.Module):
    """Conv, norm, ReLU, conv, norm, added to the input.

    If the convolutions are unpadded, the input is cropped by the 2 px that they take from each edge.

    Args:
        first: convolution with norm and ReLU
        second: convolution with norm
        kind: plain: no ReLU after the addition (Gross and Wilber 2016) | relu: one | twice: the input is added twice
    """

    def __init__(self, first: ConvStage, second: ConvStage, kind: str = "plain") -> None:
        super().__init__()
        self.first, self.second, self.kind = first, second, kind
        self.crop = 2 if first.padding == "none" else 0

    def forward(self, x: Tensor, row: Row = None) -> Tensor:
        """Run the block on x (N, C, H, W); see `Row`."""
        skip = x[..., self.crop : -self.crop, self.crop : -self.crop] if self.crop else x
        x = skip + self.second(self.first(x, row), row)
        if self.kind == "twice":
            x = x + skip
        return F.relu(x) if self.kind == "relu" else x
