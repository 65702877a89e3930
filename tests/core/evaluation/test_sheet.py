"""One photo in many styles on one sheet."""

from __future__ import annotations

import pytest
import torch
from helpers import style_model
from perceptual_style.core import errors
from perceptual_style.core.evaluation.sheet import style_sheet

ARCH = "c3s1-3 padding=reflect norm=none output=sigmoid"


def named(*names: str):
    return [(name, style_model(ARCH, seed=seed, name=name)) for seed, name in enumerate(names)]


def find(sheet: torch.Tensor, picture: torch.Tensor) -> tuple[int, int]:
    """Return row and column of a picture on a sheet; it must be there exactly once."""
    height, width = picture.shape[-2:]
    windows = sheet[0].unfold(1, height, 1).unfold(2, width, 1)
    corner = (windows[..., 0, 0] - picture[0, :, 0, 0][:, None, None]).abs().amax(0) < 1.1 / 255
    places = [
        (int(row), int(column))
        for row, column in corner.nonzero()
        if (windows[:, row, column] - picture[0]).abs().max() < 1.1 / 255
    ]
    assert len(places) == 1
    return places[0]


def test_sheet_has_the_photo_and_each_picture_in_order():
    photo, styles = torch.rand(1, 3, 50, 66), named("one", "two", "three")
    sheet = style_sheet(photo, styles, columns=2)
    pictures = [photo, *(style.stylize(photo) for _, style in styles)]
    places = [find(sheet, picture) for picture in pictures]
    (top, left), (_, right), (bottom, _), _ = places
    assert places == [(top, left), (top, right), (bottom, left), (bottom, right)]
    assert right > left + 66 and bottom > top + 50, "there is room for names"


@pytest.mark.parametrize("height, width, side", [(200, 100, 80), (100, 200, 80), (30, 20, 80)])
def test_pictures_have_the_chosen_size_and_are_never_enlarged(height, width, side):
    sizes = []

    def paint(style, photo, progress):
        sizes.append(tuple(photo.shape[-2:]))
        return photo

    style_sheet(torch.rand(1, 3, height, width), named("one"), side=side, paint=paint)
    factor = min(side / max(height, width), 1)
    assert sizes == [(round(height * factor), round(width * factor))]


def test_names_are_below_their_pictures():
    photo = torch.rand(1, 3, 64, 80)
    same = style_model(ARCH)
    sheets = [style_sheet(photo, [("wave", same), (name, same)], columns=3) for name in ("udnie", "udnie", "storm")]
    assert torch.equal(sheets[0], sheets[1])
    changed = (sheets[0] - sheets[2]).abs().amax((0, 1)).nonzero()
    assert len(changed) and changed[:, 0].min() > 64
    assert changed[:, 1].min() > 2 * 80, "only the name of the third picture changed"


def test_rows_are_as_many_as_fit_a_screen():
    for height, width in ((64, 64), (64, 128), (128, 64)):
        sheet = style_sheet(torch.rand(1, 3, height, width), named(*map(str, range(11))))
        assert 0.6 < sheet.shape[-1] / sheet.shape[-2] < 2.6


def test_progress_counts_up_and_shows_each_picture():
    seen = []
    style_sheet(torch.rand(1, 3, 20, 24), named("one", "two"), progress=seen.append)
    shares = [state.done / state.total for state in seen]
    assert shares == sorted(shares) and shares[-1] == 1
    assert sum(state.preview is not None for state in seen) == 2


def test_bad_arguments_are_reported():
    photo = torch.rand(1, 3, 20, 24)
    with pytest.raises(errors.InputError, match="no styles"):
        style_sheet(photo, [])
    with pytest.raises(errors.InputError, match="expected 64 to 2048"):
        style_sheet(photo, named("one"), side=16)
    with pytest.raises(errors.InputError, match="columns is -1"):
        style_sheet(photo, named("one"), columns=-1)
    with pytest.raises(errors.ImageError):
        style_sheet(photo[0], named("one"))
