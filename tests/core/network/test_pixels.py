"""Pixel conventions: exact affine maps that can be printed and parsed."""

from __future__ import annotations

import pytest
import torch
from perceptual_style.core.errors import InputError
from perceptual_style.core.network.pixels import OURS, PixelConvention

TEXTS = [
    "rgb in=unit out=unit", "bgr in=caffe out=caffe", "rgb in=255 out=255.0-127.5", "rgb in=imagenet out=imagenet",
    "bgr in=2.0-1.0 out=3.0,1.0+0.25,255.0-1.5",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_printing_and_parsing_are_inverse(text):
    assert str(PixelConvention.parse(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_is_the_inverse_of_encoding(text, rng):
    convention = PixelConvention.parse(text)
    same = PixelConvention(convention.order, convention.input, convention.input)
    image = torch.rand(2, 3, 4, 5, generator=rng)
    kept = image.clone()
    assert torch.allclose(same.from_network(same.to_network(image)), image, atol=1e-6)
    assert torch.equal(image, kept)


def test_values_of_caffe_and_imagenet():
    red = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    caffe = PixelConvention.parse("bgr in=caffe out=caffe").to_network(red).flatten().tolist()
    assert caffe == pytest.approx([0 - 103.939, 127.5 - 116.779, 255 - 123.68], abs=1e-4)
    imagenet = PixelConvention.parse("rgb in=imagenet out=unit").to_network(red).flatten().tolist()
    assert imagenet == pytest.approx([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0 - 0.406) / 0.225], abs=1e-5)


def test_our_convention_changes_nothing(rng):
    image = torch.rand(1, 3, 2, 2, generator=rng)
    assert torch.equal(OURS.from_network(OURS.to_network(image)), image)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rgb",
        "gbr in=unit out=unit",
        "rgb in=cafe out=unit",
        "rgb in=0 out=unit",
        "rgb in=1,2 out=unit",
        "rgb in=1e999 out=unit",
    ],
)
def test_bad_texts_are_rejected(text):
    with pytest.raises(InputError, match="expected"):
        PixelConvention.parse(text)
