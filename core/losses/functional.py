"""The four losses of the paper, section 3, as pure functions. Features are (N, C, H, W); all sums run in float32.

Paper and authors' code agree on the feature loss and differ in the style and total variation losses; the ``form``
arguments name whose is meant, so that a recipe can state it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..images.resample import crop_to_multiple

STYLE_FORMS = ("paper", "code", "relative")


def _float(x: Tensor) -> Tensor:
    """At least float32: half precision loses the small differences and overflows in the sums."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def feature_loss(features: Tensor, target: Tensor) -> Tensor:
    """Feature reconstruction loss, equation 2: squared distance / (C H W), averaged over N."""
    return (_float(features) - _float(target)).square().mean()


class _Products(torch.autograd.Function):
    """X^T X for X of (N, positions, C), in float32. Its gradient is one product, where autograd would compute two equal ones.

    bfloat16 features, as they come out of autocast, are multiplied as they are, at a multiple of float32's speed: exact
    products, added up in float32, rounded once for each of some parts of the positions, whose sum is in float32 again.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        if x.dtype != torch.bfloat16:
            return torch.bmm(x.transpose(1, 2), x)
        n, positions, channels = x.shape
        parts = math.gcd(positions, 1 << max(positions // (4 * channels), 1).bit_length() - 1)
        x = x.reshape(n * parts, positions // parts, channels)
        return torch.bmm(x.transpose(1, 2), x).view(n, parts, channels, channels).sum(dim=1, dtype=torch.float32)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):  # a backward pass inside of autocast would be in half
            return torch.bmm(x, (gradient + gradient.transpose(1, 2)).to(x.dtype))


def gram_matrix(features: Tensor) -> Tensor:
    """Gram matrices (N, C, C), equation 3: F F^T / (C H W) with F the features as C x HW, in float32."""
    n, c, h, w = features.shape
    if features.dtype != torch.bfloat16:  # float16 has not the range for a sum over H W
        features = _float(features)
    # Autocast would bring the product back to half precision.
    with torch.autocast(features.device.type, enabled=False):
        return _Products.apply(features.permute(0, 2, 3, 1).reshape(n, h * w, c)) / (c * h * w)


def style_loss(gram: Tensor, target: Tensor, form: str = "paper") -> Tensor:
    """Distance of Gram matrices (N, C, C) or (1, C, C), averaged over N.

    paper     squared Frobenius norm of the difference, equation 4
    code      the same divided by C^2 (MSECriterion in StyleLoss.lua): weights of the two are not transferable
    relative  the same divided by the target's own squared norm, so that a layer counts the same whatever its scale (ours)
    """
    squared = (gram - target).square().sum(dim=(1, 2))
    if form == "code":
        squared = squared / gram.shape[-1] ** 2
    elif form == "relative":
        squared = squared / target.square().sum(dim=(1, 2)).clamp_min(1e-12)
    elif form != "paper":
        raise InputError(f"style form is {form!r}; expected one of {', '.join(STYLE_FORMS)}")
    return squared.mean()


PIXEL_FORMS = ("squared", "charbonnier")


def pixel_loss(image: Tensor, target: Tensor, form: str = "squared") -> Tensor:
    """Pixel loss, averaged over N.

    squared      section 3.3: squared distance / (C H W)
    charbonnier  mean of sqrt(difference^2 + 1e-6), absolute differences with a round bottom (ours): sharper than squared
    """
    squares = (_float(image) - _float(target)).square()
    if form == "charbonnier":
        return (squares + 1e-6).sqrt().mean()
    if form != "squared":
        raise InputError(f"pixel form is {form!r}; expected one of {', '.join(PIXEL_FORMS)}")
    return squares.mean()


def grid_loss(image: Tensor, target: Tensor, period: int, window: int = 8) -> Tensor:
    """Mean squared difference of what repeats every ``period`` px, averaged over N (ours).

    The mean over a window of blocks, period x period px each, is taken for every place in the block, in windows that
    overlap by half; sides are cut to whole blocks. An enlarged image that was trained on features alone shows its blocks: a
    pattern of dots adds to the features what detail would. Detail itself hardly repeats so, and is left alone.
    """
    places = F.pixel_unshuffle(crop_to_multiple(_float(image) - _float(target), period), period)
    window = min(window, *places.shape[-2:])
    return F.avg_pool2d(places, window, max(window // 2, 1)).square().mean()


def mesh_loss(image: Tensor, target: Tensor, period: int = 2) -> Tensor:
    """Mean squared difference in waves of about ``period`` px, along rows, along columns and crosswise (ours).

    period: even; 2 for the finest waves

    Features of pretrained networks take a mesh of such waves for detail, so that a network that is trained on features
    alone draws it everywhere (the paper sees it, too, section 4.2). Edges, along which nothing waves, are left alone.
    """
    difference = (_float(image) - _float(target)).flatten(0, 1)[:, None]
    second, fourth = (
        difference.new_tensor(taps) for taps in ((0.25, -0.5, 0.25), (0.0625, -0.25, 0.375, -0.25, 0.0625))
    )
    kernels = (fourth[:, None], fourth[None], second[:, None] * second)
    with torch.autocast(difference.device.type, enabled=False):  # which would filter in half precision
        waves = (F.conv2d(difference, kernel[None, None], dilation=period // 2) for kernel in kernels)
        return sum(wave.square().mean() for wave in waves)


def saturation_loss(raw: Tensor, limit: float = 2.5) -> Tensor:
    """Mean squared excess over ``limit`` of what goes into a tanh or sigmoid (ours).

    At their flat ends no gradient brings a network back from black or white: tanh(2.5) is 1.7/255 away from the end.
    """
    return (_float(raw).abs() - limit).relu().square().mean()


def peak_loss(features: Tensor, limit: float = 4.0) -> Tensor:
    """Mean squared excess over ``limit`` deviations of features (N, C, H, W) from their channel's mean (ours).

    With one high peak where nothing is compared, in a large flat area, a network sets how instance normalization scales the
    rest of the image: such peaks are seen as blots (the droplets of StyleGAN2's authors, arXiv 1912.04958, section 2).
    """
    features = _float(features)
    variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True, correction=0)
    return (((features - mean) * (variance + 1e-5).rsqrt()).abs() - limit).relu().square().mean()


TV_FORMS = ("code", "mean")


def total_variation(image: Tensor, form: str = "code") -> Tensor:
    """Total variation of (N, C, H, W), squared differences of neighbors.

    code  half the sum over N, C and the first (H-1) x (W-1) pixels of both squared differences, in 0-255 units: its
          gradient is what TotalVariation.lua adds in its backward pass
    mean  mean squared vertical difference + mean squared horizontal difference, in the image's own units (ours)
    """
    image = _float(image)
    down, right = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    if form == "mean":
        return sum(part.square().sum() / max(part.numel(), 1) for part in (down, right))  # one row has no neighbors
    if form != "code":
        raise InputError(f"total variation form is {form!r}; expected one of {', '.join(TV_FORMS)}")
    return 0.5 * 255**2 * (down[..., :-1].square().sum() + right[..., :-1, :].square().sum())
