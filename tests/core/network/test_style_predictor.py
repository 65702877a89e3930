"""Test the predictor of styles: what it sees of a painting, and that what it predicts is an ordinary row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import ArchError
from perceptual_style.core.network.style_predictor import EncoderSpec, StyleEncoder, StylePredictor, with_last_norm
from perceptual_style.core.network.styles import mixed, rows_of
from perceptual_style.core.network.transform_net import build_network
from torch import nn

ARCH = "c3s1-4,bd8,R8,n2,c3s1-3 padding=reflect"
SPEC = EncoderSpec("eyes", ("pixels", "halves"), size=32, reduced=3, hidden=6, vector=5)


class Eyes(nn.Module):
    """Features that can be computed by hand: the pixels, and the mean of each 2 x 2 block of them."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixels": image, "halves": nn.functional.avg_pool2d(image, 2)}


@pytest.fixture(params=["plain", "norm"])
def predictor(request):
    """Predictor with random weights everywhere, for a network without and with a norm at the end."""
    torch.manual_seed(3)
    trunk = build_network(f"{ARCH} last={request.param}")
    for value in rows_of(trunk)[0].values():
        value.normal_()
    result = StylePredictor(trunk, StyleEncoder(SPEC, Eyes(), {"pixels": 3, "halves": 3}))
    nn.init.normal_(result.head.weight)
    return result.eval()


def paintings(count: int, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side + 4, generator=torch.Generator().manual_seed(count))


def test_new_predictor_predicts_the_row_of_the_shared_network():
    torch.manual_seed(0)
    trunk = build_network(ARCH)
    new = StylePredictor(trunk, StyleEncoder(SPEC, Eyes(), {"pixels": 3, "halves": 3})).eval()
    photos = torch.rand(3, 3, 16, 20)
    assert torch.allclose(new(photos, paintings(3)), trunk.eval()(photos), atol=1e-6)


def test_pictures_of_a_new_predictor_have_the_mean_and_deviation_of_the_paintings_colors():
    torch.manual_seed(0)
    trunk = with_last_norm(build_network(ARCH))
    new = StylePredictor(trunk, StyleEncoder(SPEC, Eyes(), {"pixels": 3, "halves": 3})).eval()
    seen = paintings(2) * 0.6 * torch.tensor([1.0, 0.7, 0.2]).view(3, 1, 1) + 0.1
    raw = new(torch.rand(2, 3, 24, 20), seen, raw=True)
    expected = np.arctanh(2 * seen.double().numpy() - 1)
    assert np.allclose(raw.mean(dim=(2, 3)).detach(), expected.mean(axis=(2, 3)), atol=1e-4)
    assert np.allclose(raw.std(dim=(2, 3), correction=0).detach(), expected.std(axis=(2, 3)), rtol=1e-3)


def test_norm_at_the_end_changes_nothing_before_it():
    torch.manual_seed(0)
    trunk, photo = build_network(ARCH).eval(), torch.rand(1, 3, 16, 20)
    changed = with_last_norm(trunk)
    with torch.no_grad():
        changed.stages[-1].norm.weight.fill_(1)
        plain = trunk(photo, raw=True)
        expected = (plain - plain.mean(dim=(2, 3), keepdim=True)) / plain.std(dim=(2, 3), keepdim=True, correction=0)
        assert torch.allclose(changed(photo, raw=True), expected, atol=1e-2)


@pytest.mark.parametrize("count", [1, 3])
def test_batch_equals_the_ordinary_network_of_each_painting(predictor, count):
    photos, seen = torch.rand(count, 3, 16, 24), paintings(count)
    together = predictor(photos, seen, raw=True)
    for photo, painting, painted in zip(photos.split(1), seen.split(1), together.split(1), strict=True):
        network = predictor.network(predictor.vectors(painting)[0])
        assert network.spec == predictor.trunk.spec
        assert torch.allclose(network(photo, raw=True), painted, atol=1e-5)
    assert count == 1 or not torch.allclose(
        rows_of(network)[0]["stages.0.norm.bias"], predictor.trunk.stages[0].norm.bias
    )


def test_mixture_of_vectors_is_the_mixture_of_rows(predictor):
    vectors = predictor.vectors(paintings(2))
    one, other = (rows_of(predictor.network(vector))[0] for vector in vectors)
    between = rows_of(predictor.network(0.3 * vectors[0] + 0.7 * vectors[1]))[0]
    expected = mixed([one, other], [0.3, 0.7])
    assert all(torch.allclose(between[key], expected[key], atol=1e-5) for key in expected)


def test_encoder_sees_means_deviations_and_correlations(predictor):
    encoder = predictor.encoder
    with torch.no_grad():
        encoder.mixtures["pixels"].copy_(torch.eye(3))
    (painting,) = paintings(1)
    numbers = encoder.numbers(painting[None])[0].detach().numpy()
    pixels = painting.flatten(1).double().numpy()
    assert np.allclose(numbers[:3], np.sqrt(pixels.mean(axis=1)), atol=1e-5)
    assert np.allclose(numbers[3:6], np.sqrt(pixels.std(axis=1)), atol=1e-5)
    assert np.allclose(numbers[6:12], np.corrcoef(pixels)[np.triu_indices(3)], atol=5e-3)
    assert len(numbers) == 2 * 12


def test_what_the_encoder_sees_does_not_depend_on_how_often_a_painting_is_repeated(predictor):
    painting = paintings(1)
    repeated = painting.repeat(1, 1, 3, 2)
    assert torch.allclose(predictor.encoder(painting), predictor.encoder(repeated), atol=1e-5)


def test_flat_paintings_give_finite_rows(predictor):
    for value in (0.0, 0.5, 1.0):
        rows = predictor.rows(predictor.vectors(torch.full((1, 3, 16, 16), value)))
        assert all(row.isfinite().all() for row in rows.values())


def test_standardized_numbers_have_mean_0_and_deviation_1(predictor):
    encoder = predictor.encoder
    numbers = encoder.numbers(paintings(50)).detach()
    encoder.standardize(numbers)
    standard = (numbers - encoder.center) / encoder.spread
    assert standard.mean(dim=0).abs().max() < 1e-4
    varying = numbers.std(dim=0) > 0.05 * numbers.std(dim=0).mean()
    assert varying.sum() > 10 and (standard[:, varying].std(dim=0, correction=0) - 1).abs().max() < 1e-2


def test_gradient_reaches_all_that_is_learned_and_nothing_else(predictor):
    predictor.train()(torch.rand(2, 3, 16, 16), paintings(2)).square().sum().backward()
    without = {name for name, parameter in predictor.named_parameters() if parameter.grad is None}
    assert without == {"encoder.center", "encoder.spread"}


@pytest.mark.parametrize("options", ["styles=2", "norm=batch"])
def test_network_without_a_row_to_predict_is_rejected(options):
    trunk = build_network(f"{ARCH} {options}")
    with pytest.raises(
        ArchError, match=r"a predictor needs a network of one style with norm=instance; got .*" + options
    ):
        StylePredictor(trunk, StyleEncoder(SPEC, Eyes(), {"pixels": 3, "halves": 3}))


def test_norm_before_another_output_than_tanh_is_rejected():
    trunk = build_network(f"{ARCH} last=norm output=sigmoid")
    with pytest.raises(ArchError, match="a predictor of the last norm needs output=tanh"):
        StylePredictor(trunk, StyleEncoder(SPEC, Eyes(), {"pixels": 3, "halves": 3}))
