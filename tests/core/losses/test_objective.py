"""Test the objective: its parts by name, and when each of them is zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.losses import functional as losses
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.objective import Objective, ObjectiveWeights
from safetensors.torch import load_file

WEIGHTS = ObjectiveWeights(
    content={"relu2_2": 2.0},
    style={"relu1_2": 3.0, "relu2_1": 5.0},
    style_form="code",
    tv=0.5,
    tv_form="mean",
    pixel=7.0,
)


@pytest.fixture
def network(loss_weights) -> LossNetwork:
    return LossNetwork("vgg16", loss_weights, WEIGHTS.layers)


@pytest.fixture
def images(rng) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Style, content and output images: (1, 3, 40, 32), (2, 3, 24, 24), (2, 3, 24, 24)."""
    return tuple(torch.rand(shape, generator=rng) for shape in ((1, 3, 40, 32), (2, 3, 24, 24), (2, 3, 24, 24)))


def test_parts_are_losses_times_weights_by_name(network, images):
    style, content, output = images
    parts = Objective(network, WEIGHTS, style)(output, content)
    ours, target, painting = network(output), network(content), network(style)

    def gram_distance(layer: str) -> torch.Tensor:
        return losses.style_loss(losses.gram_matrix(ours[layer]), losses.gram_matrix(painting[layer]), "code")

    expected = {
        "content relu2_2": 2 * losses.feature_loss(ours["relu2_2"], target["relu2_2"]),
        "style relu1_2": 3 * gram_distance("relu1_2"),
        "style relu2_1": 5 * gram_distance("relu2_1"),
        "tv": 0.5 * losses.total_variation(output, "mean"),
        "pixel": 7 * losses.pixel_loss(output, content),
    }
    assert list(parts) == list(expected)
    for name in expected:
        torch.testing.assert_close(parts[name], expected[name], msg=name)


def test_relative_forms_ignore_the_scale_of_each_layer(loss_weights, images):
    """torchvision's VGG-16 has smaller activations than Caffe's. The same weights must suit both."""
    style, content, output = images
    weights = replace(WEIGHTS, style_form="relative", content_form="relative")
    tensors, scaled, before = load_file(loss_weights), {}, 1.0
    for key, factor in (("features.0", 3.0), ("features.2", 0.05), ("features.5", 20.0), ("features.7", 0.4)):
        # ReLU and pooling pass positive factors on, so each layer is multiplied by its own factor
        scaled[f"{key}.weight"] = tensors[f"{key}.weight"] * (factor / before)
        scaled[f"{key}.bias"] = tensors[f"{key}.bias"] * factor
        before = factor
    one, other = (
        Objective(LossNetwork("vgg16", each, weights.layers), weights, style)(output, content)
        for each in (tensors, scaled)
    )
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-7, msg=name)


def test_parts_are_linear_in_weights_and_zero_removes_a_part(network, images):
    style, content, output = images
    parts = Objective(network, WEIGHTS, style)(output, content)
    more = Objective(network, WEIGHTS.scaled(content=4, style=0.25, tv=0), style)(output, content)
    assert "tv" not in more
    torch.testing.assert_close(more["content relu2_2"], 4 * parts["content relu2_2"])
    torch.testing.assert_close(more["style relu2_1"], 0.25 * parts["style relu2_1"])
    assert torch.equal(more["pixel"], parts["pixel"])


def test_scaled_without_factors_changes_nothing():
    assert WEIGHTS.scaled() == WEIGHTS
    assert WEIGHTS.scaled(style=2).style == {"relu1_2": 6.0, "relu2_1": 10.0}
    assert WEIGHTS.scaled(style=2).content == WEIGHTS.content


def test_content_parts_are_zero_for_the_content_image(network, images):
    style, content, _ = images
    parts = Objective(network, WEIGHTS, style)(content, content)
    assert float(parts["content relu2_2"]) == 0 and float(parts["pixel"]) == 0
    assert float(parts["style relu1_2"]) > 0


def test_style_parts_are_zero_for_the_style_image(network, images):
    style, _, _ = images
    parts = Objective(network, WEIGHTS, style)(style.expand(2, -1, -1, -1), torch.zeros(2, 3, 40, 32))
    assert float(parts["style relu1_2"]) == pytest.approx(0, abs=1e-9)
    assert float(parts["style relu2_1"]) == pytest.approx(0, abs=1e-9)
    assert float(parts["content relu2_2"]) > 0


def test_precomputed_targets_give_same_parts(network, images):
    style, content, output = images
    objective = Objective(network, WEIGHTS, style)
    targets = objective.content_targets(content)
    assert list(targets) == ["relu2_2"] and not targets["relu2_2"].requires_grad
    with_targets, without = objective(output, content, targets), objective(output, content)
    assert all(torch.equal(with_targets[name], without[name]) for name in without)


def test_each_output_can_have_its_own_style_image(network, images):
    _, content, output = images
    paintings = torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(3))
    together = Objective(network, WEIGHTS, paintings)(output, content)
    alone = [
        Objective(network, WEIGHTS, painting)(picture, photo)
        for painting, picture, photo in zip(paintings.split(1), output.split(1), content.split(1), strict=True)
    ]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([parts[name] for parts in alone]).mean(), msg=name)


def test_content_layers_may_come_in_any_order(loss_weights, images):
    style, content, output = images
    weights = ObjectiveWeights(content={"relu1_2": 1.0, "relu2_2": 2.0, "relu1_1": 4.0}, style={"relu2_1": 1.0})
    network = LossNetwork("vgg16", loss_weights, weights.layers)
    parts, ours, target = Objective(network, weights, style)(output, content), network(output), network(content)
    for layer, weight in weights.content.items():
        expected = weight * losses.feature_loss(ours[layer], target[layer])
        torch.testing.assert_close(parts[f"content {layer}"], expected, msg=layer)


def test_gradient_reaches_output_only(network, images):
    style, content, output = images
    for image in images:
        image.requires_grad_()
    sum(Objective(network, WEIGHTS, style)(output, content).values()).backward()
    assert output.grad.abs().sum() > 0
    assert style.grad is None
    # Only the pixel loss compares with the content image itself.
    torch.testing.assert_close(content.grad, 2 * 7 * (content - output).detach() / content.numel())


def test_objective_without_layers_has_only_pixel_loss(loss_weights, images):
    style, content, output = images
    network = LossNetwork("vgg16", loss_weights, ["relu1_1"])
    parts = Objective(network, ObjectiveWeights(pixel=1.0), style)(output, content)
    assert list(parts) == ["pixel"]
    torch.testing.assert_close(parts["pixel"], (output - content).square().mean())


def test_layers_are_listed_once():
    weights = ObjectiveWeights(content={"relu2_2": 1.0}, style={"relu1_2": 1.0, "relu2_2": 1.0})
    assert weights.layers == ("relu2_2", "relu1_2")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"tv": -1.0}, "not negative"),
        ({"tv": float("nan")}, "finite"),
        ({"pixel": float("inf")}, "finite"),
        ({"content": {"relu1_1": -0.1}}, "not negative"),
        ({"style": {"relu1_1": 1.0, "relu1_2": float("nan")}}, "finite"),
        ({"content_form": "gatys"}, "'gatys'.*paper, relative"),
        ({"style_form": "gatys"}, "'gatys'.*paper, code, relative"),
        ({"tv_form": "l1"}, "'l1'.*code, mean"),
    ],
)
def test_bad_weights_are_rejected(bad, named):
    with pytest.raises(InputError, match=named):
        ObjectiveWeights(**bad)


def test_negative_factor_is_rejected():
    with pytest.raises(InputError, match="not negative"):
        WEIGHTS.scaled(style=-1)


def test_missing_loss_network_or_style_image_is_rejected(network):
    with pytest.raises(InputError, match="weights of relu2_2, relu1_2, relu2_1 need a loss network; got none"):
        Objective(None, WEIGHTS, torch.zeros(1, 3, 40, 32))
    with pytest.raises(InputError, match="need a style image; got none"):
        Objective(network, WEIGHTS)
    assert list(Objective(None, ObjectiveWeights(pixel=1.0))(torch.zeros(1, 3, 9, 9), torch.ones(1, 3, 9, 9))) == [
        "pixel"
    ]


def test_target_of_several_style_images_is_the_mean_of_their_statistics(network, images):
    output, content, styles = images
    weights = ObjectiveWeights({}, {"relu1_2": 1.0, "relu2_1": 2.0})
    style = styles[:1]
    other = style.flip(1)[..., :-7]
    together = Objective(network, weights, [[style, other]])
    for layer, gram in together.grams.items():
        alone = [Objective(network, weights, each).grams[layer] for each in (style, other)]
        torch.testing.assert_close(gram, (alone[0] + alone[1]) / 2)
    twice = Objective(network, weights, [[style, style]])(output, content)
    for part, value in Objective(network, weights, style)(output, content).items():
        torch.testing.assert_close(twice[part], value)
