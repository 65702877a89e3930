"""Test the losses: values by hand, gradients by finite differences, and how the paper's and the code's forms relate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.images.filters import gaussian_blur
from perceptual_style.core.losses import functional as losses
from perceptual_style.core.losses.functional import (
    STYLE_FORMS,
    TV_FORMS,
    feature_loss,
    gram_matrix,
    grid_loss,
    low_pass_loss,
    mesh_loss,
    moved,
    peak_loss,
    pixel_loss,
    saturation_loss,
    steadiness_loss,
    style_loss,
    total_variation,
)


def rand(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def test_feature_loss_by_hand():
    a, b = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    b[0, 0, 0, 0], b[0, 1, 1, 2] = 3.0, -4.0
    assert float(feature_loss(a, b)) == pytest.approx(25 / (2 * 2 * 3))
    assert float(pixel_loss(a, b)) == pytest.approx(25 / 12)


def test_relative_feature_loss_divides_by_each_target_by_hand():
    target = torch.zeros(2, 1, 1, 2)
    target[0, 0, 0, 0], target[1, 0, 0, 1] = 2.0, 10.0
    features = target.clone()
    features[0, 0, 0, 1], features[1, 0, 0, 0] = 1.0, 3.0
    assert float(feature_loss(features, target, "relative")) == pytest.approx((1 / 4 + 9 / 100) / 2)
    assert float(feature_loss(features, target, "absolute")) == pytest.approx((1 / 2 + 3 / 10) / 2)
    with pytest.raises(InputError, match="'gatys'; expected one of paper, relative, absolute"):
        feature_loss(features, target, "gatys")


@pytest.mark.parametrize("shape", [(2, 5, 128, 96), (1, 64, 7, 9), (1, 3, 1, 1)])
def test_gram_matrix_of_bfloat16_matches_float64(shape, rng):
    features = (rand(rng, *shape) - 0.3).bfloat16().requires_grad_()
    exact = features.detach().double().requires_grad_()
    gram, expected = gram_matrix(features), gram_matrix(exact)
    assert gram.dtype == torch.float32
    scale = expected.detach().abs().max()
    assert (gram - expected).abs().max() <= scale * 2**-8
    weights = rand(rng, *gram.shape)
    (gram * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (features.grad - exact.grad).abs().max() <= exact.grad.abs().max() * 2**-6


def test_peak_loss_counts_values_beyond_four_deviations():
    flat = torch.zeros(1, 1, 30, 30)
    flat[0, 0, ::2] = 1.0
    assert float(peak_loss(flat)) == 0
    one = torch.zeros(1, 1, 10, 10)
    one[0, 0, 3, 4] = 5.0  # mean 0.05, deviation sqrt(0.25 - 0.0025): (5 - 0.05) / 0.4975 deviations away
    expected = ((5 - 0.05) / (0.25 - 0.0025 + 1e-5) ** 0.5 - 4) ** 2 / 100
    assert float(peak_loss(one)) == pytest.approx(expected, rel=1e-5)
    assert float(peak_loss(one * 7 + 3)) == pytest.approx(expected, rel=1e-3)  # whatever the scale


def test_low_pass_loss_counts_shifts_and_leaves_detail_alone(rng):
    target = rand(rng, 2, 3, 24, 35)
    assert float(low_pass_loss(target, target, 8)) == 0
    assert float(low_pass_loss(target + 0.1, target, 8)) == pytest.approx(0.1)
    stripes = 0.1 * torch.tensor([1.0, -1.0]).repeat(12).view(24, 1).double()
    assert float(low_pass_loss(target + stripes, target, 8)) == pytest.approx(0, abs=1e-12)
    assert float(low_pass_loss(target[..., :5, :5] + 0.1, target[..., :5, :5], 8)) == pytest.approx(0.1)


def test_grid_loss_counts_only_repeating_patterns(rng):
    target = rand(rng, 2, 3, 32, 48)
    pattern = rand(rng, 1, 3, 4, 4) - 0.5
    repeated = pattern.repeat(2, 1, 8, 12)
    assert float(grid_loss(target, target, 4)) == 0
    assert float(grid_loss(target + repeated, target, 4)) == pytest.approx(float(pattern.square().mean()), rel=1e-9)
    # Detail that differs in every block hardly counts: 64 blocks a window leave a 64th of its square.
    noise = 0.1 * torch.randn(target.shape, generator=rng, dtype=torch.float64)
    assert float(grid_loss(target + noise, target, 4)) < 0.01 / 40
    # Incomplete blocks and windows are allowed.
    assert float(grid_loss(target[..., :30, :47], target[..., :30, :47], 4)) == 0
    assert float(grid_loss(target[..., :5, :5] + repeated[..., :5, :5], target[..., :5, :5], 4)) > 0.01


@pytest.mark.parametrize("period", [2.0, 2.5, 3.1, 4.0, 7.0])
@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (0.6, 0.8)])
def test_mesh_loss_counts_waves_of_any_period(period, direction, rng):
    texture = torch.rand(2, 3, 96, 80, generator=rng) * 0.2 + 0.4
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
    wave = torch.cos(2 * torch.pi * (direction[0] * y + direction[1] * x) / period)
    weak, strong = (float(mesh_loss(texture + amplitude * wave, texture)) for amplitude in (0.02, 0.05))
    assert strong > weak > 0.002


def test_mesh_loss_leaves_smoother_images_alone(rng):
    texture = torch.rand(2, 3, 96, 80, generator=rng) * 0.2 + 0.4
    assert float(mesh_loss(texture, texture)) == 0
    assert float(mesh_loss(gaussian_blur(texture, 1.0), texture)) == 0
    assert float(mesh_loss(texture[..., :9, :11], texture[..., :9, :11])) == 0, "smaller than a window"


def test_mesh_loss_looks_at_texture_alone(rng):
    """A mesh in the flat half of a picture is not that of an upscaler's texture."""
    texture = torch.rand(1, 3, 128, 256, generator=rng) * 0.2 + 0.4
    texture[..., 128:] = 0.5
    mesh = 0.01 * (-1.0) ** torch.arange(256.0)
    left, right = mesh.clone(), mesh.clone()
    left[128:], right[:160] = 0, 0
    assert float(mesh_loss(texture + right, texture)) < 0.1 * float(mesh_loss(texture + 5 * left, texture))


def test_mesh_loss_has_a_finite_gradient_on_flat_images():
    flat = torch.zeros(1, 3, 40, 40, requires_grad=True)
    mesh_loss(flat, torch.zeros(1, 3, 40, 40)).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("loss", [feature_loss, pixel_loss])
def test_distances_are_means_over_batch_and_pixels(loss, rng):
    a, b = rand(rng, 1, 4, 6, 5), rand(rng, 1, 4, 6, 5)
    alone = loss(a, b)
    torch.testing.assert_close(loss(a.expand(3, -1, -1, -1), b.expand(3, -1, -1, -1)), alone)
    torch.testing.assert_close(loss(a.repeat(1, 1, 4, 2), b.repeat(1, 1, 4, 2)), alone)
    assert float(loss(a, a)) == 0


def test_gram_matrix_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # C = 2, H x W = 1 x 2
    assert torch.equal(gram_matrix(features), torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4)


def test_gram_matrix_matches_numpy(rng):
    features = rand(rng, 2, 3, 4, 5) - 0.5
    expected = np.einsum("nchw,ndhw->ncd", features.numpy(), features.numpy()) / (3 * 4 * 5)
    np.testing.assert_allclose(gram_matrix(features).numpy(), expected, rtol=1e-12)


def test_gram_matrix_of_constant_features_does_not_depend_on_size():
    constant = torch.tensor([1.0, -2.0, 0.5])
    for height, width in ((1, 1), (7, 3), (32, 64)):
        features = constant.view(1, 3, 1, 1).expand(2, 3, height, width)
        torch.testing.assert_close(gram_matrix(features), (constant[:, None] * constant / 3).expand(2, 3, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gram_matrix_of_half_precision_does_not_overflow(dtype):
    features = torch.full((1, 2, 64, 64), 40.0, dtype=dtype)  # the sum over pixels, 6.5e6, leaves float16's range
    gram = gram_matrix(features)
    assert gram.dtype == torch.float32
    torch.testing.assert_close(gram, torch.full((1, 2, 2), 800.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_keeps_gram_matrix_and_gradient_in_float32(dtype, rng):
    features = (20 + torch.rand(1, 3, 32, 32, generator=rng)).requires_grad_()
    plain = gram_matrix(features)
    (expected,) = torch.autograd.grad(plain.square().sum(), features)
    with torch.autocast("cpu", dtype=dtype):
        gram = gram_matrix(features)
        (gradient,) = torch.autograd.grad(gram.square().sum(), features)
    assert gram.dtype == torch.float32
    assert torch.equal(gram, plain)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("loss", [feature_loss, pixel_loss])
def test_distances_keep_small_differences_of_half_precision(loss):
    a = torch.full((1, 4, 256, 256), 100.0, dtype=torch.float16)
    b = a + torch.tensor(0.0625, dtype=torch.float16)
    assert float(loss(a, b)) == pytest.approx(0.0625**2)


def test_style_loss_by_hand():
    gram, target = torch.tensor([[[1.0, 2.0], [2.0, 5.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert float(style_loss(gram, target, "paper")) == 17
    assert float(style_loss(gram, target, "code")) == 17 / 4
    assert float(style_loss(gram, target, "relative")) == pytest.approx(17 / 5)


@pytest.mark.parametrize("channels", [2, 8, 64])
def test_paper_style_loss_is_code_style_loss_times_c_squared(channels, rng):
    gram, target = gram_matrix(rand(rng, 3, channels, 5, 5)), gram_matrix(rand(rng, 1, channels, 7, 4))
    assert float(style_loss(gram, target, "paper")) == float(style_loss(gram, target, "code")) * channels**2


def test_relative_style_loss_does_not_depend_on_feature_scale(rng):
    a, b = rand(rng, 2, 4, 6, 6), rand(rng, 1, 4, 6, 6)
    one = style_loss(gram_matrix(a), gram_matrix(b), "relative")
    torch.testing.assert_close(style_loss(gram_matrix(57 * a), gram_matrix(57 * b), "relative"), one)


@pytest.mark.parametrize("form", STYLE_FORMS)
def test_style_loss_is_mean_over_batch_for_one_style(form, rng):
    grams, target = gram_matrix(rand(rng, 3, 4, 6, 6)), gram_matrix(rand(rng, 1, 4, 6, 6))
    alone = [style_loss(gram[None], target, form) for gram in grams]
    torch.testing.assert_close(style_loss(grams, target, form), torch.stack(alone).mean())
    assert float(style_loss(target, target, form)) == 0


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [9.0, 9.0, 5.0]]).view(1, 1, 3, 3)
    # code: rows and columns 0 and 1 only; right: 1 1 / 2 0, down: 2 1 / 7 9
    assert float(total_variation(image, "code")) == pytest.approx(0.5 * 255**2 * (1 + 1 + 4 + 0 + 4 + 1 + 49 + 81))
    down, right = (4 + 1 + 0 + 49 + 81 + 25) / 6, (1 + 1 + 4 + 0 + 0 + 16) / 6
    assert float(total_variation(image, "mean")) == pytest.approx(down + right)


def test_total_variation_gradient_matches_authors_code(rng):
    image = rand(rng, 2, 3, 5, 6).requires_grad_()
    strength = 1e-3
    total = strength * total_variation(image, "code")
    (gradient,) = torch.autograd.grad(total, image)
    # The gradient of 1/2 strength sum_{i < H-1, j < W-1} (x_ij - x_i,j+1)^2 + (x_ij - x_i+1,j)^2, x in 0-255 units
    x, expected = 255 * image.detach().numpy(), np.zeros((2, 3, 5, 6))
    for n, c, i, j in np.ndindex(2, 3, 4, 5):
        right = x[n, c, i, j] - x[n, c, i, j + 1]
        down = x[n, c, i, j] - x[n, c, i + 1, j]
        expected[n, c, i, j] += strength * (right + down)
        expected[n, c, i, j + 1] -= strength * right
        expected[n, c, i + 1, j] -= strength * down
    np.testing.assert_allclose(gradient.numpy(), 255 * expected, rtol=1e-9)  # d x / d image = 255


@pytest.mark.parametrize("form", TV_FORMS)
def test_total_variation_is_zero_for_flat_images_and_grows_with_noise(form, rng):
    noise = rand(rng, 1, 3, 9, 8)
    assert float(total_variation(torch.full((1, 3, 9, 8), 0.7), form)) == 0
    assert 0 < float(total_variation(0.1 * noise, form)) < float(total_variation(noise, form))


@pytest.mark.parametrize(("size", "form"), [((1, 9), "mean"), ((9, 1), "mean"), ((1, 1), "mean"), ((1, 9), "code")])
def test_total_variation_of_a_single_row_is_finite(size, form):
    assert torch.isfinite(total_variation(torch.full((1, 3, *size), 0.5), form))


def test_total_variation_forms_sum_or_average_over_batch(rng):
    image = rand(rng, 1, 3, 6, 6)
    twice = image.expand(2, -1, -1, -1)
    torch.testing.assert_close(total_variation(twice, "code"), 2 * total_variation(image, "code"))
    torch.testing.assert_close(total_variation(twice, "mean"), total_variation(image, "mean"))


@pytest.mark.parametrize("name", ["feature", "pixel", "gram", *STYLE_FORMS, *(f"tv {form}" for form in TV_FORMS)])
def test_gradients_match_finite_differences(name, rng):
    x, target = (rand(rng, 2, 3, 4, 3) - 0.5).requires_grad_(), rand(rng, 2, 3, 4, 3)
    functions = {
        "feature": lambda x: feature_loss(x, target),
        "pixel": lambda x: pixel_loss(x, target),
        "gram": gram_matrix,
        **{form: lambda x, form=form: style_loss(gram_matrix(x), gram_matrix(target), form) for form in STYLE_FORMS},
        **{f"tv {form}": lambda x, form=form: total_variation(x, form) for form in TV_FORMS},
    }
    assert torch.autograd.gradcheck(functions[name], x)


def test_unknown_forms_are_rejected():
    with pytest.raises(InputError, match="'gatys'"):
        style_loss(torch.eye(2)[None], torch.eye(2)[None], "gatys")
    with pytest.raises(InputError, match="'l1'"):
        total_variation(torch.zeros(1, 3, 4, 4), "l1")


@pytest.mark.parametrize("move", [(1, 0), (0, -3), (2, 3), (-1, 2), (-3, -3)])
def test_moved_image_is_a_window_of_the_mirrored_image(move, rng):
    image = rand(rng, 2, 3, 8, 9)
    mirrored = np.pad(image.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), "reflect")
    window = mirrored[:, :, 3 + move[0] : 11 + move[0], 3 + move[1] : 12 + move[1]]
    assert np.array_equal(moved(image, move), window)


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("move", [(1, 0), (0, -3), (2, 3), (-1, 2), (-3, -3)])
def test_steadiness_loss_is_zero_for_pictures_that_move_with_the_photo(move, margin, rng):
    image = rand(rng, 2, 3, 12, 14)
    assert steadiness_loss(image, moved(image, move), move, margin) == 0
    assert steadiness_loss(image, moved(image, move), (-move[0], -move[1]), margin) > 0.01


def test_steadiness_loss_by_hand(rng):
    picture, of_moved = rand(rng, 1, 1, 7, 8), rand(rng, 1, 1, 7, 8)
    squares = [
        float(picture[0, 0, y + 2, x - 1] - of_moved[0, 0, y, x]) ** 2
        for y in range(7)
        for x in range(8)
        if 1 <= y < 4 and 2 <= x < 7  # rows 0 to 4 and columns 1 to 7 are in both; 1 px at their edges is left out
    ]
    assert steadiness_loss(picture, of_moved, (2, -1), 1) == pytest.approx(np.mean(squares))
    picture.requires_grad_()
    of_moved.requires_grad_()
    assert torch.autograd.gradcheck(lambda *pictures: steadiness_loss(*pictures, (2, -1), 1), (picture, of_moved))


def test_saturation_loss_counts_only_values_beyond_limit():
    raw = torch.tensor([[[[-4.5, -2.5, 0.0, 2.0, 3.5]]]], dtype=torch.float64)
    assert saturation_loss(raw) == pytest.approx((2.0**2 + 1.0**2) / 5)
    assert saturation_loss(raw, limit=5.0) == 0
    noise = (torch.rand(1, 2, 3, 4, dtype=torch.float64) * 10 - 5).requires_grad_()
    assert torch.autograd.gradcheck(saturation_loss, noise)


def test_charbonnier_pixel_loss_is_nearly_absolute_difference():
    a, b = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)).mul(4).chunk(2)
    torch.testing.assert_close(losses.pixel_loss(a, b, "charbonnier"), (a - b).abs().mean(), atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match="squared, charbonnier"):
        losses.pixel_loss(a, b, "l3")
