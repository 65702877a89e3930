"""Report the measurements of a style in Markdown and JSON, beside the paper's own numbers."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..training.state import as_json as recipe_as_json
from .report import table, write_texts
from .styles import Speed, StyleEvaluation

COUNTS = (100, 300, 500)  # iterations in the paper's table 1
#: Johnson et al., table 1, seconds on a GTX Titan X: size -> (the network, then COUNTS iterations of optimization).
PAPER = {256: (0.015, 3.17, 9.52, 15.86), 512: (0.05, 10.97, 32.91, 54.85), 1024: (0.21, 42.89, 128.66, 214.44)}
_PROTOCOL = (
    "The objective is the one that the network was trained for (equation 5, with the recipe's weights, loss network "
    "and size of the painting). It is measured on the middle squares of {photos} photos, scaled to {size} px. "
    "Optimization is L-BFGS on pixels, starting from {start} and clamped to the valid range after each iteration. An "
    "iteration is one evaluation of the objective and its gradient. The network makes one pass. Make sure that the "
    "photos were not used in training."
)
_SPEED = (
    "Times are medians of single passes and iterations on {device} with {threads} threads. The time of many iterations "
    "is the time of one times their number. Timings include other load on the machine. Rows marked (paper) are printed "
    "in Johnson et al. 2016, table 1, for another network and a GTX Titan X."
)


def write_report(evaluation: StyleEvaluation, folder: str | Path) -> list[Path]:
    """Write style.md and style.json into ``folder`` and return their paths. Raises ImageError if that is impossible."""
    texts = {"style.md": markdown(evaluation), "style.json": json.dumps(as_json(evaluation), indent=2) + "\n"}
    return write_texts(texts, folder)


def verdict(evaluation: StyleEvaluation) -> str:
    """Return a sentence that tells how many iterations one pass is worth."""
    most = len(evaluation.curve) - 1
    single = [most + 1 if photo.worth is None else photo.worth for photo in evaluation.photos]
    low, middle, high = (_count(each, most) for each in (min(single), statistics.median(single), max(single)))
    spread = f"; for single photos {low} to {high}, median {middle}" if len(single) > 1 else ""
    mean = most + 1 if evaluation.worth is None else evaluation.worth
    return (
        f"One pass of {evaluation.style} is worth {_count(mean, most)} iterations of optimization at "
        f"{evaluation.size} px (by the mean objective of {len(single)} photos{spread})."
    )


def as_json(evaluation: StyleEvaluation) -> dict[str, Any]:
    """Return all values and settings for JSON."""
    means = {what: evaluation.mean(what) for what in ("content", "network", "optimized")}
    return {
        "style": evaluation.style,
        "size": evaluation.size,
        "start": evaluation.start,
        "iterations": len(evaluation.curve) - 1,
        "device": evaluation.device,
        "threads": torch.get_num_threads(),
        "recipe": recipe_as_json(evaluation.recipe),
        "notes": list(evaluation.notes),
        "worth": evaluation.worth,
        "mean": {**means, "curve": [float(f"{value:.6g}") for value in evaluation.curve]},
        "photos": [
            {
                "photo": photo.photo, "worth": photo.worth, "content": photo.content, "network": photo.network,
                "optimized": photo.optimized, "curve": [float(f"{value:.6g}") for value in photo.curve],
            }
            for photo in evaluation.photos
        ],
        "speed": [
            {"size": each.size, "network": each.network, "iteration": each.iteration} | _speed_ups(each)
            for each in evaluation.speeds
        ],
    }  # fmt: skip


def markdown(evaluation: StyleEvaluation) -> str:
    """Return a page with the verdict, the objective by kind, the curve, and times."""
    most = len(evaluation.curve) - 1
    parts = [f"# {evaluation.title}", verdict(evaluation), *evaluation.notes, _objectives(evaluation, most)]
    places = [place for place in (0, 1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500) if place <= most]
    places += [most] if most not in places else []
    curve = [["objective", *(f"{evaluation.curve[place]:.3f}" for place in places)]]
    parts.append("## Optimization\n\n" + table(["after iterations", *map(str, places)], curve))
    if evaluation.speeds:
        parts.append("## Time\n\n" + _times(evaluation))
    start = "white noise" if evaluation.start == "noise" else "the photo"
    parts.append(_PROTOCOL.format(photos=len(evaluation.photos), size=evaluation.size, start=start))
    if evaluation.speeds:
        parts.append(_SPEED.format(device=evaluation.device, threads=torch.get_num_threads()))
    return "\n\n".join(parts) + "\n"


def _objectives(evaluation: StyleEvaluation, most: int) -> str:
    names = {"content": "the photo itself", "network": "the network", "optimized": f"{most} iterations"}
    kinds = list(dict.fromkeys(name.split()[0] for name in evaluation.photos[0].network))
    lines = []
    for what, name in names.items():
        values = [_by_kind(getattr(photo, what)) for photo in evaluation.photos]
        means = [statistics.fmean(value[kind] for value in values) for kind in kinds]
        lines.append([name, *(f"{value:.3f}" for value in (evaluation.mean(what), *means))])
    return table(["picture", "objective", *kinds], lines)


def _by_kind(parts: Mapping[str, float]) -> dict[str, float]:
    """Return the sums of the parts by their first word: content, style, tv, pixel."""
    sums: dict[str, float] = {}
    for name, value in parts.items():
        sums[name.split()[0]] = sums.get(name.split()[0], 0.0) + value
    return sums


def _times(evaluation: StyleEvaluation) -> str:
    head = ["size, px", "one pass, s", *(f"{n} iterations, s" for n in COUNTS), *(f"x over {n}" for n in COUNTS)]
    lines = []
    for each in evaluation.speeds:
        rows = {"": (each.network, *(n * each.iteration for n in COUNTS))}
        rows |= {" (paper)": PAPER[each.size]} if each.size in PAPER else {}
        for mark, (one, *many) in rows.items():
            times = [f"{one:.3f}", *(f"{time:.2f}" for time in many)]
            lines.append([f"{each.size}{mark}", *times, *(f"{time / one:.0f}" for time in many)])
    return table(head, lines)


def _speed_ups(speed: Speed) -> dict[str, Any]:
    return {"speed-up": {str(count): count * speed.iteration / speed.network for count in COUNTS}}


def _count(iterations: float, most: int) -> str:
    return f"more than {most}" if iterations > most else f"{iterations:g}"
