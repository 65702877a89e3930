"""Metrics that compare images with their references: PSNR, SSIM, feature distance, LPIPS and one like DISTS.

All are pure functions of images (N, 3, H, W) in [0, 1] and return one value for each of the N. PSNR and SSIM follow the
conventions of super-resolution papers: they are measured on the Y of YCbCr, without a border. The caller quantizes to
8 bits first (`images.tensors.quantize`). The others use a pretrained network on the whole image.
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
_STABLE = 1e-6  # DISTS' constants, which make channels without any signal similar
_LPIPS_LAYERS = {
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
}
_RECOGNIZED = {"squeezenet1_1": "features.3.squeeze.weight", "vgg16": "features.5.weight"}  # by a tensor
_LPIPS_WIDTHS = {
    (64, 128, 256, 512, 512): ("vgg", "vgg16"),
    (64, 128, 256, 384, 384, 512, 512): ("squeeze", "squeezenet1_1"),
    (64, 192, 384, 256, 256): ("alex", None),
}


def y_channel(image: Tensor, full_range: bool = False) -> Tensor:
    """Return the Y of YCbCr (BT.601, as MATLAB's rgb2ycbcr): (N, 1, H, W) float64, whole numbers.

    They range from 16 to 235, or from 0 to 255 if ``full_range`` is set.
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device="cpu").view(3, 1, 1)
    y = (image.detach().cpu().double() * weights).sum(dim=1, keepdim=True)
    return (y * (255 / 219) if full_range else y + 16).round()


def psnr(image: Tensor, reference: Tensor, border: int = 0, full_range: bool = False) -> Tensor:
    """Return the peak signal to noise ratio of Y.

    Args:
        image: (N, 3, H, W) in [0, 1].
        reference: the same shape as image.
        border: rows and columns to crop on each side, px. Super-resolution papers crop the factor.
        full_range: use Y from 0 to 255 instead of 16 to 235. The published scripts do so for files of a single channel,
            which they do not convert.

    Returns:
        (N,) in dB for a peak of 255, infinite for equal images.

    Raises:
        InputError: The sizes differ, or nothing remains inside the border.
    """
    y, target = _lumas(image, reference, border, full_range, smallest=1)
    return 10 * torch.log10(255**2 / (y - target).square().mean(dim=(1, 2, 3)))


def ssim(image: Tensor, reference: Tensor, border: int = 0, full_range: bool = False) -> Tensor:
    """Return the structural similarity of Y, (N,) (Wang et al. 2004).

    The 11x11 Gaussian window (sigma 1.5) is only placed where it lies completely inside the image. For
    arguments and errors see `psnr`. At least 11x11 px must remain inside the border.
    """
    x, y = _lumas(image, reference, border, full_range, smallest=_WINDOW)
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device="cpu") - _WINDOW // 2
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
    """Return the feature reconstruction loss (equation 2) of each image.

    With VGG-16 and relu2_2, this is the loss that the paper's super-resolution networks minimize.

    Args:
        image: (N, 3, H, W) in [0, 1], on the network's device.
        reference: the same shape as image.
        network: the loss network.
        layer: the layer to compare.

    Returns:
        (N,) on the device of image and network.

    Raises:
        InputError: The sizes differ, or are too small for the network.
    """
    _check_sizes(image, reference)
    pairs = zip(network(image, until=layer)[layer], network(reference, until=layer)[layer], strict=True)
    return torch.stack([feature_loss(features, target) for features, target in pairs])


@dataclass(frozen=True)
class Lpips:
    """LPIPS 0.1 (Zhang et al., CVPR 2018), which compares unit-length features with learned channel weights.

    Values of different variants cannot be compared. Most papers report "alex", which is not supported. The linear weights
    were learned with torchvision's networks. With the weights of SqueezeNet's authors (Caffe), the values differ.

    Attributes:
        variant: "vgg" or "squeeze", named after the network.
        network: the loss network.
        linear: channel weights of each layer, (1, C, 1, 1).
    """

    variant: str
    network: LossNetwork
    linear: tuple[Tensor, ...]

    @staticmethod
    def network_for(linear: str | Path) -> tuple[str, tuple[str, ...]]:
        """Return the name of the loss network that a file of linear weights belongs to, and the layers it needs.

        Raises:
            CheckpointError: The file holds something else, or the variant "alex".
        """
        _, name, _ = _read_linear(linear)
        return name, _LPIPS_LAYERS[name]

    @classmethod
    def load(cls, linear: str | Path, weights: str | Path) -> Lpips:
        """Load LPIPS from a file of linear weights, as published, and a file of the network's weights.

        Raises:
            CheckpointError: A file holds something else, or the variant is "alex".
        """
        variant, name, found = _read_linear(linear)
        network = LossNetwork(name, weights, _LPIPS_LAYERS[name])
        return cls(variant, network, tuple(each.detach().float().view(1, -1, 1, 1) for each in found))

    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance of each image from its reference, (N,), on their device.

        Raises:
            InputError: The sizes differ, or are too small for the network.
        """
        _check_sizes(image, reference)
        self.network.to(image.device)
        distance = torch.zeros(len(image), dtype=torch.float32, device=image.device)
        features = zip(self.network(image).values(), self.network(reference).values(), self.linear, strict=True)
        for x, y, weight in features:
            difference = (_unit(x) - _unit(y)).square() * weight.to(x.device)
            distance = distance + difference.sum(dim=1).mean(dim=(1, 2))
        return distance


@dataclass(frozen=True)
class StructureTexture:
    """A distance like DISTS (Ding et al., TPAMI 2022): texture may move, as long as its statistics stay.

    Each channel of the image and of each layer is compared by its mean (texture) and by its covariance with the reference
    (structure). DISTS weights channels by what people said of pairs of VGG-16's features. Here all count alike, so that any
    loss network will do, and values only compare with values of the same network and weights.

    Attributes:
        network: the loss network. All its layers are compared.
    """

    network: LossNetwork

    @classmethod
    def load(cls, weights: str | Path) -> StructureTexture:
        """Load the weights of SqueezeNet 1.1, or of VGG-16 down to relu4_3.

        Raises:
            CheckpointError: The file holds something else.
        """
        tensors = read_tensors(weights)
        name = next((name for name, key in _RECOGNIZED.items() if key in tensors), None)
        if name is None:
            raise CheckpointError(f"{weights} is neither SqueezeNet 1.1 nor VGG-16")
        layers = [layer for layer in _LPIPS_LAYERS[name] if layer != "relu5_3"]
        return cls(LossNetwork(name, weights, layers))

    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance of each image from its reference, (N,) from 0 (equal) to 1, on their device.

        Raises:
            InputError: The sizes differ, or are too small for the network.
        """
        _check_sizes(image, reference)
        self.network.to(image.device)
        ours, theirs = (self.network(each).values() for each in (image, reference))
        pairs = [(image, reference), *zip(ours, theirs, strict=True)]
        return torch.stack([1 - _similarity(x.double(), y.double()).mean(dim=1) for x, y in pairs]).mean(dim=0)


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of the similarities of texture and of structure for each channel, (N, C) up to 1."""
    over = (2, 3)
    mean_x, mean_y = x.mean(dim=over), y.mean(dim=over)
    covariance = (x * y).mean(dim=over) - mean_x * mean_y
    variances = x.var(dim=over, correction=0) + y.var(dim=over, correction=0)
    texture = (2 * mean_x * mean_y + _STABLE) / (mean_x.square() + mean_y.square() + _STABLE)
    return (texture + (2 * covariance + _STABLE) / (variances + _STABLE)) / 2


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
