"""Strength, stroke size, color and mask of `stylize`, compared with the photo and with the plain network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import style_model as model_of
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.network.transform_net import build_network, forward_any_size

ARCHS = (
    "c3s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect",
    "c9s1-4,d8,d8,R8,u8,u4,c9s1-3 padding=reflect-start norm=batch",
    "c3s1-4,c3s1-3 padding=zero norm=none",
)
LEVEL = 1 / 255


@pytest.fixture
def photo(rng):
    """Return two smooth images with some grain."""
    small = torch.rand(2, 3, 6, 7, generator=rng)
    return (F.interpolate(small, (41, 53), mode="bicubic") + 0.05 * torch.randn(2, 3, 41, 53, generator=rng)).clamp(
        0, 1
    )


def chroma(image: torch.Tensor) -> torch.Tensor:
    """Return Cb and Cr (JFIF) in units of 1."""
    matrix = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return torch.einsum("dc,nchw->ndhw", matrix, image)


def light(image: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), image)


@pytest.mark.parametrize("arch", ARCHS)
def test_defaults_equal_plain_style(arch, photo):
    model = model_of(arch)
    plain = model.stylize(photo)
    options = {"strength": 1.0, "stroke_size": 1, "color": "style", "mask": None, "feather": 0, "temporal": 0.0}
    assert torch.equal(model.stylize(photo, **options), plain)
    assert torch.equal(model.stylize(photo, mask=torch.ones(1, 1, 41, 53), feather=9), plain)


@pytest.mark.parametrize("arch", ARCHS)
def test_strength_blends_from_photo_to_style(arch, photo):
    model = model_of(arch)
    plain = model.stylize(photo)
    assert torch.equal(model.stylize(photo, strength=0), photo)
    results = [model.stylize(photo, strength=s) for s in (0.02, 0.3, 0.6, 0.98)]
    near, *_, far = [float((each - photo).abs().mean()) for each in results]
    away = [float((each - photo).abs().mean()) for each in results]
    assert away == sorted(away) and near < 0.1 * far
    for end, result in ((photo, results[0]), (plain, results[-1])):
        assert (result - end).abs().max() < 0.1 * (plain - photo).abs().max()


def test_color_keep_has_chroma_of_photo(photo):
    model = model_of()
    plain, kept = model.stylize(photo), model.stylize(photo, color="keep")
    assert (chroma(kept) - chroma(photo)).abs().max() < 2 / 255
    assert (light(kept) - light(plain)).abs().mean() < 0.5 * (light(photo) - light(plain)).abs().mean()
    assert (chroma(model.stylize(photo, color="keep", strength=0.4)) - chroma(photo)).abs().max() < 2 / 255
    bright = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 9, 9)  # a color that exists at one lightness only
    torch.testing.assert_close(model.stylize(bright, color="keep"), bright)


def test_color_match_has_mean_and_covariance_of_photo(rng):
    photo = 0.5 + 0.1 * torch.randn(1, 3, 48, 48, generator=rng).clamp(-3, 3)
    photo[:, 2] = 0.5 * photo[:, 0] + 0.2
    matched = model_of().stylize(photo, color="match")
    for of in (lambda image: image[0].mean(dim=(1, 2)), lambda image: torch.cov(image[0].flatten(1))):
        torch.testing.assert_close(of(matched), of(photo), atol=2e-3, rtol=0)


@pytest.mark.parametrize("feather", [0, 1, 7, 40])
def test_photo_is_unchanged_where_mask_is_0(feather, photo, rng):
    model = model_of()
    mask = (torch.rand(2, 1, 5, 6, generator=rng) > 0.4).float()
    mask = F.interpolate(mask, (41, 53), mode="nearest")
    for options in ({}, {"color": "match"}, {"strength": 0.5}, {"stroke_size": 2.0}, {"temporal": 1.0}):
        result = model.stylize(photo, mask=mask, feather=feather, **options)
        outside = mask.expand_as(photo) == 0
        assert outside.any() and torch.equal(result[outside], photo[outside]), options
        assert not torch.equal(result, photo) or feather == 40, options
    if not feather:
        inside = mask.expand_as(photo) == 1
        assert torch.equal(model.stylize(photo, mask=mask)[inside], model.stylize(photo)[inside])
    assert torch.equal(model.stylize(photo, mask=torch.zeros(1, 1, 41, 53)), photo)


def test_grey_mask_blends_photo_and_result(photo):
    model = model_of()
    half = model.stylize(photo, mask=torch.full((1, 1, 41, 53), 0.5))
    torch.testing.assert_close(half, (photo + model.stylize(photo)) / 2)


def test_each_image_uses_its_own_mask(photo):
    model, masks = model_of(), torch.zeros(2, 1, 41, 53)
    masks[0, :, :20], masks[1, :, 20:] = 1, 1
    together = model.stylize(photo, mask=masks)
    for i in range(2):
        assert torch.equal(together[i], model.stylize(photo[i : i + 1], mask=masks[i : i + 1])[0])


@pytest.mark.parametrize("stroke_size", [0.25, 0.6, 1.7, 4])
@pytest.mark.parametrize("arch", ARCHS)
def test_stroke_size_equals_network_on_resized_photo(arch, stroke_size, photo):
    model = model_of(arch)
    sides = [max(round(side / stroke_size), 1) for side in photo.shape[-2:]]
    small = F.interpolate(photo, sides, mode="bicubic", antialias=True).clamp(0, 1)
    painting = torch.cat([forward_any_size(model.network, each[None]) for each in small]).clamp(0, 1)
    expected = F.interpolate(painting, photo.shape[-2:], mode="bicubic", antialias=True)
    if stroke_size > 1:
        back = F.interpolate(small, photo.shape[-2:], mode="bicubic", antialias=True)
        expected = expected + (light(photo) - light(back))[:, None]
    result = model.stylize(photo, stroke_size=stroke_size, precision="fp32")
    assert result.shape == photo.shape
    torch.testing.assert_close(result, expected.clamp(0, 1), atol=1e-4, rtol=0)


def test_large_strokes_keep_detail_of_photo(rng):
    """An identity network returns the light of the photo, although it sees only a quarter of the pixels."""
    network = build_network("c3s1-3 padding=replicate norm=none output=linear").eval().requires_grad_(False)
    network.stages[0].conv.weight.zero_()[range(3), range(3), 1, 1] = 1
    network.stages[0].conv.bias.zero_()
    photo = 0.5 + 0.1 * torch.rand(1, 1, 40, 52, generator=rng).expand(1, 3, 40, 52)
    torch.testing.assert_close(StyleModel(network, "nothing").stylize(photo, stroke_size=2), photo, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_smallest_images_work_with_every_control(size, rng):
    model, image = model_of(), torch.rand(1, 3, *size, generator=rng)
    for options in (
        {"stroke_size": 4},
        {"stroke_size": 0.25},
        {"strength": 0.5},
        {"color": "keep"},
        {"color": "match"},
    ):
        result = model.stylize(image, **options)
        assert result.shape == image.shape and result.min() >= 0 and result.max() <= 1, options
    mask = torch.ones(1, 1, *size)
    assert torch.equal(model.stylize(image, mask=mask, feather=5), model.stylize(image))


def test_all_controls_together_are_repeatable_in_any_dtype(photo):
    model, mask = model_of(), torch.zeros(1, 1, 41, 53)
    mask[..., 10:] = 1
    options = {"strength": 0.7, "stroke_size": 1.5, "color": "match", "mask": mask, "feather": 6, "temporal": 0.5}
    before, first = photo.clone(), model.stylize(photo, **options)
    assert torch.equal(first, model.stylize(photo, **options)) and torch.equal(photo, before)
    half = model.stylize(photo.half(), **options)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), first, atol=0.03, rtol=0)


def test_memory_is_planned_for_painted_size():
    model = model_of()
    plan = [model.working_bytes(256, 256, torch.device("cpu"), stroke_size=s) for s in (0.25, 0.5, 1, 4)]
    assert plan == sorted(plan, reverse=True) and plan[0] > 5 * plan[2]
    assert plan[2] == model.working_bytes(256, 256, torch.device("cpu"))
    budget = plan[2]
    with pytest.raises(InputError, match="an image of 1024x1024 px needs"):
        model.stylize(torch.zeros(1, 3, 256, 256), stroke_size=0.25, memory=budget)
    model.stylize(torch.zeros(1, 3, 256, 256), memory=budget)


def test_progress_is_reported_with_every_control(photo):
    model = model_of()
    for options in ({"strength": 0}, {"stroke_size": 2}, {"temporal": 1}, {"mask": torch.zeros(1, 1, 41, 53)}):
        seen = []
        model.stylize(photo, progress=seen.append, **options)
        shares = [one.done / one.total for one in seen]
        assert shares == sorted(shares) and shares[-1] == 1 and 0.5 in shares, options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.1}, "strength is 1.1; expected a number from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"stroke_size": 0.2}, "stroke size is 0.2; expected a number from 0.25 to 4, or auto"),
        ({"stroke_size": "big"}, "stroke size is big; expected a number from 0.25 to 4, or auto"),
        ({"color": "grey"}, "color is 'grey'; expected one of style, keep, match"),
        ({"feather": -1}, "feather is -1; expected a number of pixels from 0 to 500"),
        ({"temporal": 2}, "temporal is 2; expected a number from 0 to 1"),
        ({"mask": torch.ones(1, 1, 41, 52)}, "the mask has 52x41 px, the image 53x41"),
        ({"mask": torch.ones(3, 1, 41, 53)}, "expected one mask or 2, one for each image, got 3"),
        ({"mask": torch.ones(41, 53)}, "mask: expected a float tensor"),
        ({"mask": torch.full((1, 1, 41, 53), 255.0)}, "mask: expected a float tensor"),
    ],
)
def test_wrong_controls_are_one_line_errors(options, message, photo):
    with pytest.raises((InputError, ImageError)) as caught:
        model_of().stylize(photo, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "side"), [((41, 53), 41), ((20, 36), 20)])
def test_automatic_stroke_size_shows_the_network_a_photo_of_its_training_size(size, side, rng):
    photo, model = torch.rand(1, 3, *size, generator=rng), model_of(facts={"recipe": {"size": 32}})
    assert torch.equal(model.stylize(photo, stroke_size="auto"), model.stylize(photo, stroke_size=side / 32))
    plan = model.working_bytes(*size, photo.device, stroke_size="auto")
    assert plan == model.working_bytes(*size, photo.device, stroke_size=side / 32)


def test_preview_and_print_look_alike_with_automatic_stroke_size(rng):
    small = F.interpolate(torch.rand(1, 3, 6, 7, generator=rng), (48, 60), mode="bicubic").clamp(0, 1)
    large = F.interpolate(small, (480, 600), mode="bicubic").clamp(0, 1)
    model = model_of(facts={"recipe": {"size": 48}})

    def apart(stroke_size):
        preview, print_ = (model.stylize(each, stroke_size=stroke_size) for each in (small, large))
        return float((F.interpolate(print_, (48, 60), mode="area") - preview).abs().mean())

    assert apart("auto") < 0.02 and apart("auto") < 0.3 * apart(1.0)


@pytest.mark.parametrize("facts", [{}, {"recipe": "quick"}, {"recipe": {"size": "large"}}, {"recipe": {"size": 10**9}}])
def test_training_size_is_the_usual_one_where_facts_do_not_tell(facts):
    assert model_of(facts=facts).training_side == 256
