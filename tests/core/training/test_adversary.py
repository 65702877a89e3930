"""The discriminator: its losses reach one side each, it learns, and a run with it resumes exactly."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_tensors, save_tensors
from perceptual_style.core.errors import Cancelled, CheckpointError, InputError, TrainingError
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.training import saved_state
from perceptual_style.core.training.adversary import PatchDiscriminator, adversarial_losses
from perceptual_style.core.training.train_upscaler import train_upscaler
from perceptual_style.core.training.upscale_recipes import UpscaleRecipe
from PIL import Image
from safetensors.torch import load_file

RECIPE = UpscaleRecipe(
    name="tiny", arch="c3s1-8,R8,p2-3 norm=none padding=zero output=linear base=bicubic",
    weights=ObjectiveWeights(pixel=1.0, pixel_form="charbonnier"), steps=6, batch_size=2, size=16, learning_rate=1e-3,
    average=0.9, adversarial=0.1, clip=1.0,
)  # fmt: skip


@pytest.fixture
def train(tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = torch.randint(0, 256, (48, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    Image.fromarray(pixels.numpy()).save(tmp_path / "photos" / "a.png")

    def run(name: str, recipe: UpscaleRecipe = RECIPE, **settings):
        settings = {"device": "cpu", "precision": "fp32", "checkpoint_seconds": 1e9, **settings}
        return train_upscaler(tmp_path / "photos", tmp_path / f"{name}.safetensors", recipe=recipe, **settings)

    return run


def test_each_loss_reaches_one_side_alone(rng):
    discriminator = PatchDiscriminator()
    output, photos = (torch.rand(2, 3, 16, 20, generator=rng) for _ in range(2))
    output.requires_grad_(True)
    losses = adversarial_losses(discriminator, output, photos)
    losses["adversarial"].backward()
    assert output.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    output.grad = None
    losses["discriminator"].backward()
    assert output.grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())


def test_losses_match_the_formula_of_relativistic_averages(rng):
    discriminator = PatchDiscriminator(3)
    output, photos = (torch.rand(2, 3, 16, 16, generator=rng) for _ in range(2))
    with torch.no_grad():
        real, fake = discriminator(photos), discriminator(output)
        assert real.shape == (2, 1, 4, 4)
        losses = adversarial_losses(discriminator, output, photos)
    chance = torch.sigmoid(real - fake.mean()), torch.sigmoid(fake - real.mean())
    expected = -(chance[0].log().mean() + (1 - chance[1]).log().mean()) / 2
    torch.testing.assert_close(losses["discriminator"], expected)
    expected = -(chance[1].log().mean() + (1 - chance[0]).log().mean()) / 2
    torch.testing.assert_close(losses["adversarial"], expected)


def test_discriminator_learns_to_tell_noise_from_flat_images(rng):
    discriminator = PatchDiscriminator()
    optimizer, seen = torch.optim.Adam(discriminator.parameters(), lr=1e-3), []
    for _ in range(25):
        flat = torch.rand(2, 3, 1, 1, generator=rng).expand(2, 3, 16, 16)
        photos = (flat + 0.2 * torch.randn(2, 3, 16, 16, generator=rng)).clamp(0, 1)
        optimizer.zero_grad()
        loss = adversarial_losses(discriminator, flat, photos)["discriminator"]
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert sum(seen[-5:]) / 5 < 0.5 * seen[0]


def test_discriminator_depends_on_its_seed_alone():
    before = torch.get_rng_state()
    one, same, other = (PatchDiscriminator(seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one) and not torch.equal(
        one["layers.0.weight"], other["layers.0.weight"]
    )


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_run_with_discriminator_resumes_exactly(train, stop_at, optimizer):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    seen = []
    whole = load_file(train("whole", recipe, progress=seen.append))
    assert list(seen[-1].losses) == ["pixel", "adversarial", "discriminator"]
    with pytest.raises(Cancelled):
        train("parts", recipe, progress=stop_at(3))
    parts = load_file(train("parts", recipe))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    assert not any(key.startswith("discriminator") for key in whole), "the result is the network alone"
    without = load_file(train("without", dataclasses.replace(recipe, adversarial=0.0)))
    assert any(not torch.equal(whole[key], without[key]) for key in whole)


def test_checkpoint_without_its_discriminator_is_rejected(train, stop_at, tmp_path):
    with pytest.raises(Cancelled):
        train("parts", progress=stop_at(3))
    path = tmp_path / "parts.training.safetensors"
    tensors, header = load_tensors(path)
    for key, named in (
        ("discriminator.layers.0.weight", "discriminator.layers.0.weight is missing"),
        ("optimizer.discriminator.layers.0.weight.exp_avg", "optimizer's state of discriminator.layers.0.weight"),
    ):
        changed = {name: tensor for name, tensor in tensors.items() if name != key}
        assert len(changed) == len(tensors) - 1
        save_tensors(path, changed, {**header, "digest": saved_state.digest(changed, header)})
        with pytest.raises(CheckpointError, match=named):
            train("parts")
    save_tensors(path, tensors, header)
    with pytest.raises(TrainingError, match="another recipe"):
        train("parts", dataclasses.replace(RECIPE, adversarial=0.0))


def test_negative_weight_is_rejected():
    with pytest.raises(InputError, match="adversarial is -1"):
        dataclasses.replace(RECIPE, adversarial=-1.0)
