"""Test PSNR, SSIM and feature distances against scikit-image and written-out formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import CheckpointError, InputError
from perceptual_style.core.images.tensors import quantize
from perceptual_style.core.losses.functional import feature_loss
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.metrics import (
    Lpips,
    StructureTexture,
    perceptual_distance,
    psnr,
    ssim,
    y_channel,
)
from safetensors.torch import save_file
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

WIDTHS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


@pytest.fixture
def pair(rng) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy images, the second noisier, and their smooth references."""
    reference = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 7, generator=rng), (40, 47), mode="bilinear")
    noise = torch.tensor([0.02, 0.1]).view(2, 1, 1, 1) * torch.randn(2, 3, 40, 47, generator=rng)
    return quantize(reference + noise), quantize(reference)


def y_of(image: torch.Tensor, border: int) -> np.ndarray:
    y = rgb2ycbcr(image.permute(1, 2, 0).double().numpy())[..., 0].round()
    return y[border : y.shape[0] - border, border : y.shape[1] - border]


@pytest.mark.parametrize("border", [0, 4, 8])
def test_psnr_and_ssim_match_scikit_image_on_y(pair, border):
    for i, (image, reference) in enumerate(zip(*pair, strict=True)):
        y, target = y_of(image, border), y_of(reference, border)
        expected = peak_signal_noise_ratio(target, y, data_range=255)
        assert float(psnr(*pair, border)[i]) == pytest.approx(expected, abs=1e-9)
        expected = structural_similarity(
            y, target, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert float(ssim(*pair, border)[i]) == pytest.approx(expected, abs=1e-9)


def test_y_channel_ranges_and_primaries(rng):
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert y_channel(ends).flatten().tolist() == [16, 235]
    assert y_channel(ends, full_range=True).flatten().tolist() == [0, 255]
    primaries = torch.eye(3).view(1, 3, 1, 3)
    assert y_channel(primaries).flatten().tolist() == [81, 145, 41]  # as MATLAB's rgb2ycbcr of uint8


def test_full_range_uses_grey_values_without_conversion(rng):
    reference = quantize(torch.rand(1, 1, 20, 20, generator=rng)).expand(1, 3, -1, -1)
    image = quantize(reference * 0.8)
    arrays = [(each[0, 0].double() * 255).round().numpy() for each in (reference, image)]
    expected = peak_signal_noise_ratio(*arrays, data_range=255)
    assert float(psnr(image, reference, full_range=True)) == pytest.approx(expected, abs=1e-9)
    expected += 20 * math.log10(255 / 219)
    assert float(psnr(image, reference)) == pytest.approx(expected, abs=0.02)
    assert ssim(image, reference, full_range=True) != ssim(image, reference)


def test_equal_images_have_infinite_psnr_and_ssim_one(pair):
    _, reference = pair
    assert psnr(reference, reference).tolist() == [math.inf, math.inf]
    assert ssim(reference, reference).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_only_the_border_is_cropped(pair):
    image, reference = pair
    changed = image.clone()
    changed[..., :4, :] = changed[..., -4:] = 0
    assert torch.equal(psnr(changed, reference, 4), psnr(image, reference, 4))
    assert torch.equal(ssim(changed, reference, 4), ssim(image, reference, 4))
    assert (psnr(changed, reference, 3) < psnr(image, reference, 3)).all()


def test_perceptual_distance_is_feature_loss_of_each_image(pair, loss_weights):
    network = LossNetwork("vgg16", loss_weights, ["relu1_2", "relu2_2"])
    distances = perceptual_distance(*pair, network)
    both = [network(images)["relu2_2"] for images in pair]
    assert float(distances.mean()) == pytest.approx(float(feature_loss(*both)), rel=1e-5)
    assert distances[0] < distances[1]
    assert perceptual_distance(pair[0], pair[0], network).tolist() == [0, 0]
    assert not torch.equal(perceptual_distance(*pair, network, "relu1_2"), distances)


def lpips_file(path, variant: str, rng: torch.Generator):
    save_file(
        {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=rng) for i, c in enumerate(WIDTHS[variant])}, path
    )
    return path


@pytest.fixture
def squeezenet(tmp_path, rng):
    """A file of random weights with the names and shapes of SqueezeNet 1.1."""
    tensors = {}

    def conv(key: str, out: int, into: int, kernel: int) -> None:
        spread = (2 / (into * kernel**2)) ** 0.5
        tensors[f"{key}.weight"] = spread * torch.randn(out, into, kernel, kernel, generator=rng)
        tensors[f"{key}.bias"] = 0.1 * torch.randn(out, generator=rng)

    conv("features.0", 64, 3, 3)
    channels = 64
    for index, narrow, wide in ((3, 16, 64), (4, 16, 64), (6, 32, 128), (7, 32, 128), (9, 48, 192), (10, 48, 192),
                                (11, 64, 256), (12, 64, 256)):  # fmt: skip
        conv(f"features.{index}.squeeze", narrow, channels, 1)
        conv(f"features.{index}.expand1x1", wide, narrow, 1)
        conv(f"features.{index}.expand3x3", wide, narrow, 3)
        channels = 2 * wide
    save_file(tensors, tmp_path / "squeezenet.safetensors")
    return tmp_path / "squeezenet.safetensors"


def test_lpips_matches_formula_of_its_paper(pair, tmp_path, squeezenet, rng):
    lpips = Lpips.load(lpips_file(tmp_path / "lin.safetensors", "squeeze", rng), squeezenet)
    assert lpips.variant == "squeeze"
    expected = np.zeros(2)
    for layer, weight in zip(lpips.network.layers, lpips.linear, strict=True):
        x, y = (lpips.network(images)[layer].double().numpy() for images in pair)
        x, y = (each / np.linalg.norm(each, axis=1, keepdims=True).clip(1e-10) for each in (x, y))
        expected += np.einsum("nchw,c->nhw", (x - y) ** 2, weight.flatten().double().numpy()).mean((1, 2))
    np.testing.assert_allclose(lpips(*pair).numpy(), expected, rtol=1e-4)
    assert lpips(pair[0], pair[0]).tolist() == [0, 0] and (lpips(*pair)[0] < lpips(*pair)[1])
    torch.testing.assert_close(lpips(*pair), lpips(*pair[::-1]))


def test_lpips_rejects_alexnet_other_files_and_shallow_networks(tmp_path, loss_weights, rng):
    with pytest.raises(CheckpointError, match="AlexNet, which is not supported; expected those for Squeeze"):
        Lpips.load(lpips_file(tmp_path / "a.safetensors", "alex", rng), loss_weights)
    with pytest.raises(CheckpointError, match="holds no LPIPS weights"):
        Lpips.load(loss_weights, loss_weights)
    with pytest.raises(CheckpointError, match="lacks relu3_1 of vgg16"):
        Lpips.load(lpips_file(tmp_path / "v.safetensors", "vgg", rng), loss_weights)


def test_structure_and_texture_match_formula_of_dists_with_equal_weights(pair, squeezenet):
    distance = StructureTexture.load(squeezenet)
    assert distance.network.name == "squeezenet1_1" and len(distance.network.layers) == 7
    expected = []
    for image, reference in zip(*(each.split(1) for each in pair), strict=True):
        maps = [(image, reference), *zip(distance.network(image).values(), distance.network(reference).values())]  # noqa: B905
        layers = []
        for x, y in ((a.double().numpy()[0], b.double().numpy()[0]) for a, b in maps):
            similar = []
            for a, b in zip(x, y, strict=True):
                (var_a, covariance), (_, var_b) = np.cov(a.ravel(), b.ravel(), ddof=0)
                similar.append((2 * a.mean() * b.mean() + 1e-6) / (a.mean() ** 2 + b.mean() ** 2 + 1e-6))
                similar.append((2 * covariance + 1e-6) / (var_a + var_b + 1e-6))
            layers.append(1 - np.mean(similar))
        expected.append(np.mean(layers))
    np.testing.assert_allclose(distance(*pair).numpy(), expected, rtol=1e-4)
    assert distance(pair[1], pair[1]).abs().max() < 1e-9 and distance(*pair)[0] < distance(*pair)[1]


def test_texture_that_only_moves_costs_less_than_texture_that_is_gone(squeezenet, rng):
    """LPIPS and PSNR would rather have it gone."""
    distance = StructureTexture.load(squeezenet)
    texture = (0.5 + 0.1 * torch.randn(1, 3, 64, 64, generator=rng)).clamp(0, 1)
    moved, gone = texture.roll((7, 11), (2, 3)), texture.mean(dim=(2, 3), keepdim=True).expand_as(texture)
    assert distance(moved, texture) < distance(gone, texture)
    assert psnr(moved, texture) < psnr(gone, texture)


def test_structure_and_texture_take_vgg16_and_reject_other_files(deep_loss_weights, loss_weights, tmp_path, rng):
    assert StructureTexture.load(deep_loss_weights).network.layers == ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    with pytest.raises(CheckpointError, match="lacks relu3_1 of vgg16"):
        StructureTexture.load(loss_weights)
    with pytest.raises(CheckpointError, match="is neither SqueezeNet 1.1 nor VGG-16"):
        StructureTexture.load(lpips_file(tmp_path / "lin.safetensors", "vgg", rng))


def test_images_that_cannot_be_compared_are_rejected(pair, loss_weights):
    image, reference = pair
    network = LossNetwork("vgg16", loss_weights, ["relu2_2"])
    for measure in (psnr, ssim, lambda x, y: perceptual_distance(x, y, network)):
        with pytest.raises(InputError, match="two equal shapes"):
            measure(image, reference[..., 1:])
    with pytest.raises(InputError, match="two equal shapes"):
        StructureTexture(network)(image, reference[..., 1:])
    with pytest.raises(InputError, match="47x40 px are too small .* border of 15 px; expected at least 41 px"):
        ssim(image, reference, 15)
    with pytest.raises(InputError, match="too small"):
        psnr(image, reference, 20)
