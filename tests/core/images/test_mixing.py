"""Blends of two pictures: ends, mean and contrast."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.images import mixing
from perceptual_style.core.images.mixing import mix


def textures(rng, *size: int) -> list[torch.Tensor]:
    """Return two unrelated textures of different contrast."""
    return [0.5 + deviation * torch.randn(1, 3, *size, generator=rng).clamp(-3, 3) for deviation in (0.04, 0.1)]


def test_mix_returns_its_inputs_at_both_ends(rng):
    first, second = textures(rng, 30, 40)
    assert mix(first, second, 0) is first and mix(first, second, 1) is second
    torch.testing.assert_close(mix(first, second, 1e-4), first, atol=2e-3, rtol=0)
    torch.testing.assert_close(mix(first, second, 1 - 1e-4), second, atol=2e-3, rtol=0)


@pytest.mark.parametrize("amount", [0.2, 0.5, 0.8])
def test_contrast_of_a_mix_lies_between_its_inputs(amount, rng):
    first, second = textures(rng, 60, 80)
    blend, plain = mix(first, second, amount), first.lerp(second, amount)
    wanted = (1 - amount) * first.std() + amount * second.std()
    assert abs(blend.std() - wanted) < 0.05 * wanted < abs(plain.std() - wanted)
    torch.testing.assert_close(blend.mean(), plain.mean(), atol=2e-3, rtol=0)


def test_mixing_equal_pictures_changes_nothing(rng):
    image = torch.rand(1, 3, 40, 30, generator=rng)
    torch.testing.assert_close(mix(image, image, 0.5), image, atol=1e-5, rtol=0)
    flat = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(mix(flat, flat + 0.5, 0.5), flat + 0.25)


def test_mix_does_not_depend_on_bands(rng, monkeypatch):
    first, second = textures(rng, 97, 31)
    whole = mix(first, second, 0.4)
    monkeypatch.setattr(
        mixing, "row_bands", lambda height, *_, **__: [slice(i, min(i + 10, height)) for i in range(0, height, 10)]
    )
    torch.testing.assert_close(mix(first, second, 0.4), whole, atol=1e-6, rtol=0)
