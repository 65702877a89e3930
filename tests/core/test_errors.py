"""The error types: their names, and how they cross the borders of processes."""

from __future__ import annotations

import pickle

import pytest
from perceptual_style.core import errors

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


class FromElsewhere(errors.InputError):
    """A subclass of another program."""


class ImageError(errors.ImageError):
    """A subclass of the same name."""


@pytest.mark.parametrize("kind", [*KINDS, FromElsewhere, ImageError])
def test_pickled_errors_keep_type_and_text(kind):
    error = kind("expected a photo, got a cat", 3)
    error.row = 7
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is kind and copied.args == error.args and copied.row == 7 and str(copied) == str(error)


def test_types_are_importable_by_their_names():
    for kind in KINDS:
        assert kind.__module__ == "perceptual_style.core.errors" and pickle.loads(pickle.dumps(kind)) is kind
