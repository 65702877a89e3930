"""The four losses of the paper, section 3, and our own terms, as pure functions.

Features are (N, C, H, W). All sums run in float32. The paper and its authors' code agree on the feature loss but differ in
the style and total variation losses. The ``form`` arguments choose between them, so that a recipe can state its choice.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arithmetic import autocast
from ..errors import InputError
from ..images.filters import gaussian_blur
from ..images.resample import crop_to_multiple

CONTENT_FORMS = ("paper", "relative", "absolute")
STYLE_FORMS = ("paper", "code", "relative")
PIXEL_FORMS = ("squared", "charbonnier")
TV_FORMS = ("code", "mean")


def total(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of one or more tensors, such as the parts of an objective."""
    return reduce(operator.add, terms)


def _float(x: Tensor) -> Tensor:
    """Convert half precision, which loses small differences and overflows in sums, to float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def feature_loss(features: Tensor, target: Tensor, form: str = "paper", floor: float = 0.0) -> Tensor:
    """Return the feature reconstruction loss, averaged over N.

    The forms:
        paper: squared distance / (C H W), equation 2.
        relative: squared distance / the target's squared norm, so that a layer's scale does not matter (ours).
        absolute: mean absolute difference / the target's mean absolute value (ours, after ESRGAN's absolute differences).

    Args:
        features: (N, C, H, W).
        target: the same shape as features.
        form: paper | relative | absolute.
        floor: smallest mean square of a target by which the form relative divides.

    Raises:
        InputError: The form is unknown.
    """
    if form == "absolute":
        means = _float(target).abs().mean(dim=(1, 2, 3)).clamp_min(1e-12)
        return ((_float(features) - _float(target)).abs().mean(dim=(1, 2, 3)) / means).mean()
    squared = (_float(features) - _float(target)).square()
    if form == "paper":
        return squared.mean()
    if form != "relative":
        raise InputError(f"content form is {form!r}; expected one of {', '.join(CONTENT_FORMS)}")
    norms = _float(target).square().mean(dim=(1, 2, 3)).clamp_min(max(floor, 1e-12))
    return (squared.mean(dim=(1, 2, 3)) / norms).mean()


class _GramProduct(torch.autograd.Function):
    """X^T X for X of (N, positions, C), in float32.

    The backward pass needs one product. Autograd alone would compute two equal ones.

    bfloat16 features, as autocast returns them, are multiplied without conversion, several times as fast as float32. Their
    products are exact and add up in float32. The positions are split into parts. Each part's sum is rounded to bfloat16
    once, and the parts are added in float32 again.
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
        with autocast(x.device, None):  # inside autocast the product would be in half precision
            return torch.bmm(x, (gradient + gradient.transpose(1, 2)).to(x.dtype))


def gram_matrix(features: Tensor) -> Tensor:
    """Return the Gram matrices (N, C, C), equation 3: F F^T / (C H W), F being the features as C x HW, in float32."""
    n, c, h, w = features.shape
    if features.dtype != torch.bfloat16:  # float16 overflows in a sum over H W
        features = _float(features)
    # Autocast would convert the product back to half precision.
    with autocast(features.device, None):
        return _GramProduct.apply(features.permute(0, 2, 3, 1).reshape(n, h * w, c)) / (c * h * w)


def style_loss(gram: Tensor, target: Tensor, form: str = "paper") -> Tensor:
    """Return the distance between Gram matrices, averaged over N.

    The forms:
        paper: squared Frobenius norm of the difference, equation 4.
        code: the paper's divided by C^2 (MSECriterion in StyleLoss.lua). Weights for one form do not fit the other.
        relative: the paper's divided by the target's squared norm, so that a layer's scale does not matter (ours).

    Args:
        gram: (N, C, C).
        target: (N, C, C) or (1, C, C).
        form: one of STYLE_FORMS.

    Raises:
        InputError: The form is unknown.
    """
    squared = (gram - target).square().sum(dim=(1, 2))
    if form == "code":
        squared = squared / gram.shape[-1] ** 2
    elif form == "relative":
        squared = squared / target.square().sum(dim=(1, 2)).clamp_min(1e-12)
    elif form != "paper":
        raise InputError(f"style form is {form!r}; expected one of {', '.join(STYLE_FORMS)}")
    return squared.mean()


def pixel_loss(image: Tensor, target: Tensor, form: str = "squared") -> Tensor:
    """Return the pixel loss of images (N, C, H, W), averaged over N.

    The forms:
        squared: squared distance / (C H W), section 3.3.
        charbonnier: mean of sqrt(difference^2 + 1e-6), a smooth absolute difference (ours). Images become sharper than
            with ``squared``.

    Raises:
        InputError: The form is unknown.
    """
    squares = (_float(image) - _float(target)).square()
    if form == "charbonnier":
        return (squares + 1e-6).sqrt().mean()
    if form != "squared":
        raise InputError(f"pixel form is {form!r}; expected one of {', '.join(PIXEL_FORMS)}")
    return squares.mean()


def grid_loss(image: Tensor, target: Tensor, period: int, window: int = 8) -> Tensor:
    """Return the mean squared difference between patterns that repeat every ``period`` px, averaged over N (ours).

    Upscalers trained on features alone show a grid of blocks, because dots change the features just as detail would. This
    loss averages the difference over blocks, for each position in a block, so that only the repeating part remains. Real
    detail hardly repeats with this period and is not affected.

    Args:
        image: (N, C, H, W).
        target: the same shape as image.
        period: side of a block, px. H and W are cropped to whole blocks.
        window: side of the square of blocks to average over. Windows overlap by half.
    """
    positions = F.pixel_unshuffle(crop_to_multiple(_float(image) - _float(target), period), period)
    window = min(window, *positions.shape[-2:])
    return F.avg_pool2d(positions, window, max(window // 2, 1)).square().mean()


def low_pass_loss(image: Tensor, target: Tensor, side: int) -> Tensor:
    """Return the mean absolute difference between the means of blocks, averaged over N (ours).

    Features hardly notice a shift of color or brightness. This loss does, and leaves detail alone.

    Args:
        image: (N, C, H, W).
        target: the same shape as image.
        side: side of a block, px.
    """
    return F.avg_pool2d(_float(image) - _float(target), min(side, *image.shape[-2:])).abs().mean()


def mesh_loss(image: Tensor, target: Tensor, side: int = 64) -> Tensor:
    """Return how much more power than the target an image has at frequencies of 0.1 cycles per pixel and above (ours).

    Pretrained networks respond to a fine mesh as they do to detail. A network trained on features alone therefore draws it
    everywhere, as the paper observes (section 4.2). If one period is punished, it finds another. This loss compares the mean
    logarithm of power spectra of many windows: detail differs from window to window, and what is drawn everywhere remains.
    Less power than the target's costs nothing. Only the half of the windows with the most texture counts.

    Args:
        image: (N, 3, H, W), RGB in [0, 1].
        target: the same shape as image.
        side: side of the windows, px. They overlap by half, and are smaller where H or W is.

    Returns:
        Mean over frequencies of the squared positive difference.
    """
    side = min(side, *image.shape[-2:])
    with autocast(image.device, None):  # spectra need float32
        ours, theirs = (_log_spectra(_float(each), side) for each in (image, target))
    lines, columns = (torch.fft.fftfreq(side, device=image.device), torch.fft.rfftfreq(side, device=image.device))
    # Weights instead of a choice by index: that would wait for the device.
    fine = ((lines[:, None].square() + columns.square()).sqrt() >= 0.1).float()
    textured = (theirs * fine).sum((1, 2)).topk(math.ceil(len(theirs) / 2)).indices
    more = (ours - theirs)[textured].mean(0)
    smooth = F.avg_pool2d(more[None, None], 3, stride=1, padding=1, count_include_pad=False)[0, 0]
    return (smooth.relu().square() * fine).sum() / fine.sum()


def _log_spectra(image: Tensor, side: int) -> Tensor:
    """Return the logarithm of the power spectra of luma windows, (windows, side, side // 2 + 1)."""
    luma = 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]
    windows = luma.unfold(1, side, max(side // 2, 1)).unfold(2, side, max(side // 2, 1)).flatten(0, 2)
    power = torch.view_as_real(torch.fft.rfft2(windowed(windows))).square().sum(-1)
    return (power + 1 / 12 / 255**2).log()  # the power of rounding to bytes: below it, nothing is seen


def windowed(crops: Tensor) -> Tensor:
    """Return square crops (N, side, side) without their means, under a Hann window that keeps the power of noise."""
    window = torch.hann_window(crops.shape[-1], periodic=False, dtype=crops.dtype, device=crops.device)
    window = window[:, None] * window
    return (crops - crops.mean(dim=(1, 2), keepdim=True)) * window / window.square().sum().sqrt()


def saturation_loss(raw: Tensor, limit: float = 2.5) -> Tensor:
    """Return the mean squared excess over ``limit`` of the input of a tanh or sigmoid (ours).

    Far from 0 these functions are flat, and no gradient would bring a network back from black or white. tanh(2.5) is
    1.7/255 away from its limit.
    """
    return (_float(raw).abs() - limit).relu().square().mean()


def peak_loss(features: Tensor, limit: float = 4.0) -> Tensor:
    """Return the mean squared excess of features (N, C, H, W) over ``limit`` deviations from their channel's mean (ours).

    Nothing is compared inside a large flat area. A network can place one high peak there to control how instance
    normalization scales the rest of the image. Such peaks are visible as blots, like the droplets that the authors of
    StyleGAN2 describe (arXiv 1912.04958, section 2).
    """
    features = _float(features)
    variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True, correction=0)
    return (((features - mean) * (variance + 1e-5).rsqrt()).abs() - limit).relu().square().mean()


def moved(image: Tensor, move: tuple[int, int]) -> Tensor:
    """Return an image (N, C, H, W) whose content has moved up and to the left, with mirrored edges.

    Args:
        image: the image.
        move: (down, right), px. Pixel (y, x) of the result is pixel (y + down, x + right) of the image.
    """
    height, width = image.shape[-2:]
    down, right = move
    edges = (max(-right, 0), max(right, 0), max(-down, 0), max(down, 0))
    return F.pad(image, edges, mode="reflect")[..., edges[3] :, edges[1] :][..., :height, :width]


def steadiness_loss(picture: Tensor, of_moved: Tensor, move: tuple[int, int], margin: int = 0) -> Tensor:
    """Return the mean squared difference between a photo's picture and the moved photo's picture, moved back.

    A picture should move with its photo. Networks with strides, and small noise in the photo, make it flicker instead.
    Rainy and de Berker 2018 ("Stabilizing neural style-transfer for video") train with such a term for noise; the move is
    ours.

    Args:
        picture: (N, C, H, W), the picture of the photo.
        of_moved: the same shape, the picture of `moved` of the photo, which may have noise added.
        move: as in `moved`.
        margin: px left out at the edges of the region that both pictures show. There, the network sees mirrored content.
    """
    height, width = picture.shape[-2:]
    top, left = (max(way, 0) for way in move)
    above, before = (max(-way, 0) for way in move)
    rows, columns = height - top - above, width - left - before
    one = _float(picture)[..., top : top + rows, left : left + columns]
    other = _float(of_moved)[..., above : above + rows, before : before + columns]
    inner = (..., slice(margin, rows - margin), slice(margin, columns - margin))
    return (one[inner] - other[inner]).square().mean()


def weave_loss(picture: Tensor, photo: Tensor) -> Tensor:
    """Return the power of fine texture in a picture where its photo is flat, averaged over N (ours).

    Gram matrices reward texture everywhere. Where the photo has none, as in skies, a network draws its own: a hatch of a few
    pixels. This loss is the power of what a blur of 1.5 px removes, weighted by how little detail the photo has nearby. Wide
    strokes hardly change it. Total variation would blur edges, too.

    Args:
        picture: (N, C, H, W) in [0, 1].
        photo: (N, 3, H, W) in [0, 1].
    """
    picture, photo = _float(picture), _float(photo)
    detail = photo.mean(dim=1, keepdim=True)
    detail = gaussian_blur((detail - gaussian_blur(detail, 2.0)).square(), 4.0)
    flat = 1 / (1 + detail / 0.02**2)
    return (flat * (picture - gaussian_blur(picture, 1.5)).square()).mean()


def stride_grid_loss(picture: Tensor, period: int) -> Tensor:
    """Return the power of a pattern of lines and dots that repeats every ``period`` px, averaged over N (ours).

    A network that works at a quarter of the size and then repeats each value in blocks of 4 px can leave the edges of the
    blocks in its pictures. They are hardly visible, until the picture is enlarged and looks as if it were on canvas. This loss
    averages what a blur removes over blocks, for each position in a block: strokes cancel, and the grid remains.

    Args:
        picture: (N, C, H, W) in [0, 1].
        period: side of a block, px.
    """
    return grid_loss(picture, gaussian_blur(_float(picture), 2.0), period, window=16)


def total_variation(image: Tensor, form: str = "code") -> Tensor:
    """Return the total variation of an image (N, C, H, W), from squared differences between neighbors.

    The forms:
        code: half the sum over N, C and the first (H-1) x (W-1) pixels of both squared differences, in 0-255 units. Its
            gradient is the one that TotalVariation.lua adds in its backward pass.
        mean: mean squared vertical difference + mean squared horizontal difference, in the image's own units (ours).

    Raises:
        InputError: The form is unknown.
    """
    image = _float(image)
    down, right = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    if form == "mean":
        # An image of one row or column has no neighbors in one direction.
        return total(part.square().sum() / max(part.numel(), 1) for part in (down, right))
    if form != "code":
        raise InputError(f"total variation form is {form!r}; expected one of {', '.join(TV_FORMS)}")
    return 0.5 * 255**2 * (down[..., :-1].square().sum() + right[..., :-1, :].square().sum())
