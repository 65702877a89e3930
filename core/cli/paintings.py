"""Styles predicted from the paintings that a command names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..images.reading import read_image
from ..models.predict import predict_style, weights_from
from ..models.style_model import StyleModel
from ..network.styles import name_from


def add_prediction_arguments(command: argparse.ArgumentParser, weights: str = "--weights") -> None:
    """Add the options that say how paintings become a style. ``weights`` is the name of the first."""
    command.add_argument(
        weights, metavar="W,W,...", help="how much of each painting to mix in (default: the same of all)"
    )
    command.add_argument(
        "--predictor", metavar="FILE",
        help="the network that finds the style of a painting, made by `perceptual-style train-predictor`, or one of Magenta's "
        "pair of ONNX files (default: the bundled one)",
    )  # fmt: skip


def predicted(
    paintings: Sequence[str], weights: str | None, predictor: str | None, name: str | None = None
) -> StyleModel:
    """Return the style of these files, mixed by weights such as "2,1". Its name is that of the files, unless given."""
    images = [read_image(path).filled for path in paintings]
    named = name or " + ".join(name_from(Path(path).stem) for path in paintings)
    return predict_style(images, weights=weights_from(weights), predictor=predictor, name=named)
