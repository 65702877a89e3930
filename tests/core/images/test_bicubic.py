"""Bicubic enlargement: exact on ramps, equal to Pillow away from edges, the same in parts."""

import numpy as np
import pytest
import torch
from perceptual_style.core.images.bicubic import BICUBIC_REACH, enlarge
from PIL import Image


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_enlarge_keeps_a_ramp_and_equals_pillow_inside(factor):
    ramp = torch.arange(12.0).repeat(9, 1)[None, None] / 12
    enlarged = enlarge(ramp, factor)
    assert enlarged.shape == (1, 1, 9 * factor, 12 * factor)
    places = (torch.arange(12.0 * factor) + 0.5) / factor - 0.5
    inside = slice(BICUBIC_REACH * factor, -BICUBIC_REACH * factor)
    torch.testing.assert_close(enlarged[0, 0, :, inside], (places / 12).expand(9 * factor, -1)[:, inside])

    image = torch.rand(1, 1, 11, 13)
    pillow = Image.fromarray(image[0, 0].numpy()).resize((13 * factor, 11 * factor), Image.Resampling.BICUBIC)
    difference = np.abs(enlarge(image, factor)[0, 0].numpy() - np.array(pillow))
    assert difference[inside, inside].max() < 1e-5


def test_enlarging_some_rows_equals_cropping_the_whole():
    image = torch.rand(2, 3, 10, 7)
    whole = enlarge(image, 4)
    for first, stop in ((0, 1), (0, 10), (3, 4), (8, 10), (1, 9)):
        assert torch.equal(enlarge(image, 4, first, stop), whole[:, :, 4 * first : 4 * stop])


def test_enlarge_stays_float32_under_autocast():
    image = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = enlarge(image, 4)
    assert inside.dtype == torch.float32 and torch.equal(inside, enlarge(image, 4))
