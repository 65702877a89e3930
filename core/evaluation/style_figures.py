"""Draw the measurements of a style: the objective against iterations (figure 5), and pictures side by side."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from ..errors import ImageError
from ..files import atomic_write
from ..optional import need
from .panels import in_a_row, save_figure, to_pillow
from .style_report import verdict
from .styles import Example, StyleEvaluation

_LEAST_WIDTH = 192  # px of a panel, wide enough for its text


def plotting(folder: str | Path) -> ModuleType:
    """Return matplotlib.figure; call it before long work. Raises InputError with the command that installs it."""
    return need("matplotlib.figure", "bench", f"{Path(folder) / 'style.png'} is a plot")


def write_figures(evaluation: StyleEvaluation, folder: str | Path) -> list[Path]:
    """Write the plot, style.png, and one PNG per example, and return their paths. Raises ImageError or InputError."""
    paths = [Path(folder) / "style.png"]
    _write_plot(evaluation, paths[0])
    for number, example in enumerate(evaluation.examples, start=1):
        paths.append(Path(folder) / f"example{number}_{Path(example.values.photo).stem}.png")
        save_figure(paths[-1], in_a_row(_panels(example)))
    return paths


def _panels(example: Example) -> list[tuple[Image.Image, str, list[str]]]:
    """Return the photo, the network's picture, and optimization's equal and last pictures, each with its value."""
    values = example.values
    network, last = sum(values.network.values()), len(values.curve) - 1
    shown = [(example.content, "photo", sum(values.content.values())), (example.network, "network, one pass", network)]
    if example.equal is not None and values.worth is not None:
        shown.append((example.equal, f"{values.worth} iterations", values.curve[values.worth]))
    if values.worth != last:
        shown.append((example.optimized, f"{last} iterations", values.curve[-1]))
    panels = []
    for pixels, title, value in shown:
        picture = to_pillow(pixels)
        times = -(-_LEAST_WIDTH // picture.width)
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
        panels.append((picture, title, [f"{value:.2f}"]))
    return panels


def _write_plot(evaluation: StyleEvaluation, path: Path) -> None:
    figure = plotting(path.parent).Figure(figsize=(7.2, 4.6), dpi=120, layout="constrained")
    axes, curve = figure.subplots(), evaluation.curve
    if len(evaluation.photos) > 1:
        low, high = np.percentile([photo.curve for photo in evaluation.photos], (25, 75), axis=0)
        axes.fill_between(
            range(len(curve)), low, high, color="tab:blue", alpha=0.2, lw=0, label="middle half of the photos"
        )
    axes.plot(curve, color="tab:blue", label=f"optimization from {evaluation.start}")
    axes.axhline(evaluation.mean("network"), color="tab:orange", label="network, one pass")
    axes.axhline(evaluation.mean("content"), color="grey", ls="--", label="the photo itself")
    if evaluation.worth is not None:
        axes.plot([evaluation.worth], [curve[evaluation.worth]], "o", color="tab:orange")
    axes.set(xlabel="iterations of L-BFGS", ylabel="objective (mean)", xlim=(0, len(curve) - 1))
    axes.set_yscale("log", subs=(2, 5))
    axes.set_title(textwrap.fill(verdict(evaluation), 90), fontsize=9)
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png")
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded.getbuffer())
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror}") from None
