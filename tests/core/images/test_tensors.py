"""Checks of image tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import message
from perceptual_style.core.images.tensors import check_image


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_check_image_accepts_good_images(dtype):
    check_image(torch.rand(2, 3, 4, 5).to(dtype))
    check_image(torch.rand(1, 1, 1, 1).to(dtype).requires_grad_(), channels=1)
    check_image(torch.tensor([-0.0009, 1.0009, 0]).reshape(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((1, 3, 4, 5), np.float32), "got ndarray"),
        (None, "got NoneType"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "got torch.uint8; use image.float() / 255"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(3, 4, 5), "got shape (3, 4, 5); use image[None]"),
        (torch.zeros(4, 5), "got shape (4, 5)"),
        (torch.zeros(1, 4, 5, 3), "got shape (1, 4, 5, 3); use image.permute(0, 3, 1, 2)"),
        (torch.zeros(1, 4, 5, 6), "got shape (1, 4, 5, 6); remove alpha with image[:, :3]"),
        (torch.zeros(1, 1, 5, 6), "got shape (1, 1, 5, 6); use image.expand(-1, 3, -1, -1)"),
        (torch.zeros(0, 3, 5, 6), "got shape (0, 3, 5, 6)"),
        (torch.zeros(1, 3, 0, 6), "got shape (1, 3, 0, 6)"),
        (
            torch.tensor([0, 9.0, 255]).reshape(1, 3, 1, 1),
            "got values from 0 to 255; they look like 0..255: divide by 255",
        ),
        (
            torch.tensor([-1, 0.0, 1]).reshape(1, 3, 1, 1),
            "got values from -1 to 1; they look like -1..1: use (image + 1) / 2",
        ),
        (
            torch.tensor([-2, 0, 2.5]).reshape(1, 3, 1, 1),
            "got values from -2 to 2.5; clamp them, or undo a normalization",
        ),
        (
            torch.tensor([0, 0, 1.01]).reshape(1, 3, 1, 1),
            "got values from 0 to 1.01; clamp them, or undo a normalization",
        ),
    ],
)
def test_check_image_rejects_bad_images_with_a_hint(image, got):
    wanted = "content: expected a float tensor (N, 3, H, W) with values in [0, 1], "
    assert message(check_image, image, name="content") == wanted + got


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_check_image_names_frame_with_nan_or_infinite_values(value, dtype):
    advice = "has values that are nan or infinite; check the step that made it"
    image = torch.rand(3, 3, 4, 5).to(dtype)
    image[1, 2, 3, 4] = value
    assert message(check_image, image) == f"frame 2 of 3 {advice}"
    assert message(check_image, image, name="content") == f"content 2 of 3 {advice}"
    assert message(check_image, image[1:2]) == f"the image {advice}"
    assert message(check_image, image[:, :1].clone().fill_(value), channels=1, name="mask") == f"mask 1 of 3 {advice}"
