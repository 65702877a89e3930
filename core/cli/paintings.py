"""Styles predicted from the paintings that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..images.reading import read_image
from ..models.predict import predict_style, weights_from
from ..models.style_model import StyleModel
from ..network.styles import name_from


def predicted(
    paintings: Sequence[str], weights: str | None, predictor: str | None, name: str | None = None
) -> StyleModel:
    """Return the style of these files, mixed by weights such as "2,1". Its name is that of the files, unless given."""
    images = [read_image(path).filled for path in paintings]
    named = name or " + ".join(name_from(Path(path).stem) for path in paintings)
    return predict_style(images, weights=weights_from(weights), predictor=predictor, name=named)
