"""FastStylize's options: results like core's, the host's masks, and video frames."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import pixels_of

LEVEL = 1 / 255


def _photo(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _by_core(hosted, image: torch.Tensor, **options) -> torch.Tensor:
    return hosted.model.stylize(pixels_of(image), **options).movedim(1, -1)


def test_controls_are_optional_with_tooltips(pack):
    inputs = {each.id: each for each in pack.schema("FastStylize").inputs}
    assert list(inputs)[:2] == ["image", "style_model"]
    for name in ("strength", "stroke_size", "color", "mask", "feather", "temporal", "auto_stroke_size", "wrap"):
        assert inputs[name].optional and inputs[name].tooltip
    assert (inputs["strength"].default, inputs["stroke_size"].default, inputs["color"].default) == (1.0, 1.0, "style")
    assert (inputs["stroke_size"].min, inputs["stroke_size"].max) == (0.25, 4.0)
    assert inputs["color"].options == ["style", "keep", "match"]


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.0},
        {"strength": 0.4},
        {"stroke_size": 2.0},
        {"stroke_size": 0.5},
        {"color": "keep"},
        {"color": "match"},
        {"temporal": 1.0},
        {"wrap": "x"},
        {"wrap": "xy", "strength": 0.5, "stroke_size": 1.5},
        {"strength": 0.5, "stroke_size": 1.5, "color": "match", "temporal": 0.5},
    ],
)
def test_options_match_core(pack, tiny, options):
    image = _photo(3, 24, 33, 4)
    result = pack.run("FastStylize", image=image, style_model=tiny, **options)
    assert torch.equal(result[..., 3], image[..., 3])
    torch.testing.assert_close(result[..., :3], _by_core(tiny, image, **options))


def test_automatic_stroke_size_replaces_the_number(pack, host, tiny):
    image = _photo(2, 24, 33, 3)
    result = pack.run("FastStylize", image=image, style_model=tiny, stroke_size=3.0, auto_stroke_size=True)
    torch.testing.assert_close(result, _by_core(tiny, image, stroke_size="auto"))
    (_, memory), *_ = host.loads
    assert memory == tiny.model.working_bytes(24, 33, torch.device("cpu"), stroke_size="auto")


def test_hidden_colors_do_not_matter(pack, tiny):
    image = _photo(1, 24, 33, 4)
    image[..., 3] = (image[..., 3] > 0.5).float()
    other = image.clone()
    other[..., :3][image[..., 3] == 0] = 0.9
    assert torch.equal(*(pack.run("FastStylize", image=each, style_model=tiny)[..., :3] for each in (image, other)))


@pytest.mark.parametrize("shape", [(24, 33), (1, 24, 33), (3, 24, 33), (1, 48, 66), (3, 7, 5)])
def test_mask_shapes(pack, tiny, shape):
    image, mask = _photo(3, 24, 33, 3), torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    result = pack.run("FastStylize", image=image, style_model=tiny, mask=mask, feather=4.0)
    fitted = F.interpolate(mask.reshape(-1, 1, *shape[-2:]), (24, 33), mode="bilinear", antialias=True)
    torch.testing.assert_close(result, _by_core(tiny, image, mask=fitted, feather=4))
    assert torch.equal(result[:, :, 28:], image[:, :, 28:]) and not torch.equal(result, image)


def test_empty_mask_keeps_photo(pack, tiny):
    """LoadImage returns such a mask for an image without alpha."""
    image = _photo(2, 24, 33, 3)
    assert torch.equal(pack.run("FastStylize", image=image, style_model=tiny, mask=torch.zeros(1, 64, 64)), image)


def test_bad_masks_and_colors_raise(pack, tiny):
    errors = pack.module("core.errors")
    for mask, message in ((torch.ones(2, 8, 8), "expected one mask or 3"), (torch.ones(8), "expected a MASK of")):
        with pytest.raises(errors.ImageError, match=message):
            pack.run("FastStylize", image=_photo(3, 8, 8, 3), style_model=tiny, mask=mask)
    with pytest.raises(errors.InputError, match="color is 'grey'"):
        pack.run("FastStylize", image=_photo(1, 8, 8, 3), style_model=tiny, color="grey")


def test_temporal_reduces_flicker_repeatably(pack, tiny):
    generator = torch.Generator().manual_seed(1)
    still = F.interpolate(torch.rand(1, 3, 5, 6, generator=generator), (40, 48), mode="bicubic").movedim(1, -1)
    frames = (still + 0.02 * torch.randn(5, 40, 48, 3, generator=generator)).clamp(0, 1)
    off, on, again = (
        pack.run("FastStylize", image=frames, style_model=tiny, temporal=amount) for amount in (0.0, 1.0, 1.0)
    )
    assert torch.equal(on, again)
    assert on.diff(dim=0).abs().mean() < 0.5 * off.diff(dim=0).abs().mean()


def test_host_reserves_memory_for_stroke_size(pack, host, tiny):
    for stroke_size in (0.5, 1.0):
        pack.run("FastStylize", image=_photo(1, 24, 32, 3), style_model=tiny, stroke_size=stroke_size)
    large, plain = (memory for _, memory in host.loads)
    assert large > plain == tiny.model.working_bytes(24, 32, torch.device("cpu"))


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"temporal": 1.0}, {"mask": torch.zeros(4, 8, 8)}])
def test_progress_ends_at_total(pack, host, tiny, options):
    pack.run("FastStylize", image=_photo(4, 16, 20, 3), style_model=tiny, **options)
    values = [value for value, _ in host.bars[-1]]
    assert values == sorted(values) and values[-1] == 4000


def test_interruption_before_painting(pack, host, tiny):
    host.interrupt_at = 1
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
        pack.run("FastStylize", image=_photo(2, 16, 16, 3), style_model=tiny, strength=0.0)
    assert raised.value is host.interruption
