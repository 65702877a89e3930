"""How near an image is to its reference. Pure functions of images (N, 3, H, W) in [0, 1], one value for each of the N.

PSNR and SSIM as published for super-resolution: on the Y of YCbCr, without a border; the caller quantizes to 8 bits
(`images.quantize`). The two others look at features of a pretrained network, on whole images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.tensor_files import read_tensors
from ..errors import CheckpointError, InputError
from .functional import feature_loss
from .loss_network import LossNetwork

_WINDOW, _SIGMA = 11, 1.5  # SSIM's Gaussian window
_LPIPS_LAYERS = {
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
}
_LPIPS_WIDTHS = {
    (64, 128, 256, 512, 512): ("vgg", "vgg16"),
    (64, 128, 256, 384, 384, 512, 512): ("squeeze", "squeezenet1_1"),
    (64, 192, 384, 256, 256): ("alex", None),
}


def y_channel(image: Tensor, full_range: bool = False) -> Tensor:
    """Y of YCbCr, (N, 1, H, W), whole numbers in float64 from 16 to 235, or to 0 to 255: BT.601, MATLAB's rgb2ycbcr."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64).view(3, 1, 1)
    y = (image.detach().cpu().double() * weights).sum(dim=1, keepdim=True)
    return (y * (255 / 219) if full_range else y + 16).round()


def psnr(image: Tensor, reference: Tensor, border: int = 0, full_range: bool = False) -> Tensor:
    """Peak signal to noise ratio of Y in dB, (N,), peak 255; infinite where the two are equal.

    border: rows and columns to leave out on each side, in super-resolution the factor
    full_range: Y from 0 to 255 instead of 16 to 235, as the published scripts have it for files of a single channel, which
    they do not convert

    Raises InputError when the sizes differ or nothing is left.
    """
    y, target = _lumas(image, reference, border, full_range, smallest=1)
    return 10 * torch.log10(255**2 / (y - target).square().mean(dim=(1, 2, 3)))


def ssim(image: Tensor, reference: Tensor, border: int = 0, full_range: bool = False) -> Tensor:
    """Structural similarity of Y, (N,) (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, where it fits in wholly.

    border, full_range and errors: as `psnr`'s; 11x11 px must be left.
    """
    x, y = _lumas(image, reference, border, full_range, smallest=_WINDOW)
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel = kernel / kernel.sum()

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, covariance = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean(dim=(1, 2, 3))


def perceptual_distance(image: Tensor, reference: Tensor, network: LossNetwork, layer: str = "relu2_2") -> Tensor:
    """Feature reconstruction loss, equation 2, of each image, (N,), on the device of image and network.

    With VGG-16 and relu2_2 this is what the paper's super-resolution networks minimize. Raises InputError when the sizes
    differ or are too small for the network.
    """
    _check_sizes(image, reference)
    pairs = zip(network(image, until=layer)[layer], network(reference, until=layer)[layer], strict=True)
    return torch.stack([feature_loss(features, target) for features, target in pairs])


@dataclass(frozen=True)
class Lpips:
    """LPIPS 0.1 (Zhang et al., CVPR 2018): features of unit length, compared with learned weights of their channels.

    variant: "vgg" or "squeeze", after the network. Most papers print "alex", which is not offered: the values of the
    variants do not compare. They presume the very network that the linear weights were learned with, torchvision's: with
    the SqueezeNet of its authors (Caffe), a measure of its own.
    """

    variant: str
    network: LossNetwork
    linear: tuple[Tensor, ...]

    @staticmethod
    def network_for(linear: str | Path) -> tuple[str, tuple[str, ...]]:
        """Return the name of the loss network that a file of linear weights belongs to, and the layers it needs.

        Raises CheckpointError as `load` does.
        """
        _, name, _ = _read_linear(linear)
        return name, _LPIPS_LAYERS[name]

    @classmethod
    def load(cls, linear: str | Path, weights: str | Path) -> Lpips:
        """Load LPIPS from a file of linear weights, as published, and a file of the network's weights.

        Raises CheckpointError for files that hold something else, and for the variant "alex".
        """
        variant, name, found = _read_linear(linear)
        network = LossNetwork(name, weights, _LPIPS_LAYERS[name])
        return cls(variant, network, tuple(each.detach().float().view(1, -1, 1, 1) for each in found))

    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """The distance of each image from its reference, (N,), on the device of both. Errors as `perceptual_distance`'s."""
        _check_sizes(image, reference)
        self.network.to(image.device)
        distance = torch.zeros(len(image), device=image.device)
        features = zip(self.network(image).values(), self.network(reference).values(), self.linear, strict=True)
        for x, y, weight in features:
            difference = (_unit(x) - _unit(y)).square() * weight.to(x.device)
            distance = distance + difference.sum(dim=1).mean(dim=(1, 2))
        return distance


def _read_linear(path: str | Path) -> tuple[str, str, list[Tensor]]:
    """Return the variant, its loss network and the weights in a file of linear weights. Raises CheckpointError."""
    tensors = read_tensors(path)
    found = [tensors[key] for i in range(len(tensors)) if (key := f"lin{i}.model.1.weight") in tensors]
    variant, name = _LPIPS_WIDTHS.get(tuple(each.numel() for each in found), (None, None))
    if variant is None or name is None:
        held = "LPIPS weights for AlexNet, which is not supported" if variant else "no LPIPS weights"
        raise CheckpointError(f"{path} holds {held}; expected those for SqueezeNet or VGG-16, version 0.1")
    return variant, name, found


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _check_sizes(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape or image.ndim != 4 or image.shape[1] != 3:
        raise InputError(
            f"expected two equal shapes (N, 3, H, W) to compare, got {tuple(image.shape)} and {tuple(reference.shape)}"
        )


def _lumas(image: Tensor, reference: Tensor, border: int, full_range: bool, smallest: int) -> tuple[Tensor, Tensor]:
    _check_sizes(image, reference)
    height, width = (side - 2 * border for side in image.shape[-2:])
    if border < 0 or min(height, width) < smallest:
        raise InputError(
            f"images of {image.shape[-1]}x{image.shape[-2]} px are too small to compare without a border of {border} px; "
            f"expected at least {smallest + 2 * border} px on each side"
        )
    inside = (..., slice(border, border + height), slice(border, border + width))
    return y_channel(image, full_range)[inside], y_channel(reference, full_range)[inside]
