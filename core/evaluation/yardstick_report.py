"""Report what the yardstick measured, in Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .report import table, write_texts
from .yardstick import CONTENT_LAYER, PHOTO_SIDE, STYLE_LAYERS, STYLE_SIZES, Measures

_PROTOCOL = (
    "The yardstick is the same for every network; 0 is best in all columns but the photos' own distance. Features are those "
    "of VGG-16 (weights {weights}), on {photos} photos with a short side of {side} px. Style: squared distance of Gram "
    "matrices over the squared norm of the style image's, mean of {layers}, for the nearest of style images of {sizes} px "
    "(longest side). Content: mean squared distance of features at {content}, scaled to length 1. Steadiness: mean "
    "difference, in 255ths, after the photo moved by one pixel and the picture was moved back. Make sure that the photos were "
    "not used in training."
)


def write_report(measures: Sequence[Measures], weights: str, folder: str | Path) -> list[Path]:
    """Write yardstick.md and yardstick.json into ``folder`` and return their paths. Raises ImageError.

    Args:
        measures: Measures of each style, on the same photos.
        weights: Digest of the file of VGG-16's weights.
        folder: Folder to write into.
    """
    answer = json.dumps(as_json(measures, weights), indent=2) + "\n"
    return write_texts({"yardstick.md": markdown(measures, weights), "yardstick.json": answer}, folder)


def markdown(measures: Sequence[Measures], weights: str) -> str:
    """Return a page with a table of all styles and how it was measured."""
    head = ["network", "style", "the photos' own", "at, px", "content", "steadiness"]
    rows = [
        [
            each.style, f"{each.style_distance:.3f}", f"{each.unchanged:.3f}", str(each.size),
            f"{each.content_distance:.3f}", f"{each.steadiness:.1f}",
        ]
        for each in measures
    ]  # fmt: skip
    *first, last = map(str, STYLE_SIZES)
    protocol = _PROTOCOL.format(
        weights=weights, photos=len(measures[0].photos), side=PHOTO_SIDE, layers=", ".join(STYLE_LAYERS),
        sizes=f"{', '.join(first)} and {last}", content=CONTENT_LAYER,
    )  # fmt: skip
    return f"{table(head, rows)}\n\n{protocol}\n"


def as_json(measures: Sequence[Measures], weights: str) -> dict[str, Any]:
    """Return all values for JSON."""
    return {
        "weights": weights,
        "styles": [
            {
                "style": each.style, "style distance": each.style_distance, "size": each.size, "layers": each.layers,
                "style distance of the photos": each.unchanged, "content distance": each.content_distance,
                "steadiness": each.steadiness, "photos": [asdict(photo) for photo in each.photos],
            }
            for each in measures
        ],
    }  # fmt: skip
