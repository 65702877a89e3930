"""Measure how fast a new style is learned from a bundled style and from scratch.

    python benchmarks/from_a_base.py PAINTING --content photos --unseen other_photos --loss-weights FILE --chart c.png

The objective on unseen photos is plotted over steps. Both training runs use the recipe `quick`. The one from scratch
first learns to reproduce its input, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from perceptual_style.core import LossNetwork, train_style
from perceptual_style.core.images.folders import find_images
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.losses.objective import Objective
from perceptual_style.core.progress import Progress
from perceptual_style.core.training.base_styles import base_file
from perceptual_style.core.training.photos import fit_style_image, random_crop
from perceptual_style.core.training.style_recipes import RECIPES, StyleRecipe, get_recipe


def unseen_crops(folder: str, number: int, size: int) -> torch.Tensor:
    """Return crops (number, 3, size, size) of evenly spread photos."""
    files = find_images([folder])
    chosen = files[:: max(len(files) // number, 1)][:number]
    return torch.stack([random_crop(path, size, np.random.default_rng(0)) for path in chosen])


def learned(
    options: argparse.Namespace,
    recipe: StyleRecipe,
    base: Path | None,
    measure: Callable[[torch.Tensor], float],
    photos: torch.Tensor,
) -> dict[str, list[float]]:
    """Train, and return steps, seconds since the start and the objective at each measurement."""
    found: dict[str, list[float]] = {"steps": [], "seconds": [], "objective": []}
    style = read_image(options.painting).pixels
    started, measuring = time.monotonic(), 0.0

    def show(progress: Progress) -> None:
        nonlocal measuring
        if progress.preview is not None:
            now = time.monotonic()
            row = progress.done, now - started - measuring, measure(progress.preview)
            measuring += time.monotonic() - now
            for values, value in zip(found.values(), row, strict=True):
                values.append(value)
            print(
                f"{base.stem if base else 'scratch'}: step {row[0]}, {row[1]:.0f} s, objective {row[2]:.3f}",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as folder:
        train_style(
            style, options.content, Path(folder) / "new.safetensors", recipe=recipe,
            loss_weights=options.loss_weights, init_from=base, progress=show, preview_image=photos,
            preview_steps=options.every,
        )  # fmt: skip
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("painting", help="the style image")
    parser.add_argument("--content", required=True, help="folder of photos to train on")
    parser.add_argument("--unseen", required=True, help="folder of photos to measure on")
    parser.add_argument("--loss-weights", help="file of the loss network's weights")
    parser.add_argument("--steps", type=int, nargs=2, default=(600, 600), help="from the base, and from scratch")
    parser.add_argument("--every", type=int, default=50, help="steps between two measurements (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=8, help="number of unseen photos (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    return parser.parse_args()


def main() -> None:
    options, recipe = parse(), get_recipe("quick")
    photos = unseen_crops(options.unseen, options.photos, recipe.size)
    network = LossNetwork(recipe.loss_network, options.loss_weights, recipe.weights.layers)
    style = fit_style_image(read_image(options.painting).pixels, recipe.style_size)
    objective = Objective(network, recipe.weights, style)

    @torch.no_grad()
    def measure(pictures: torch.Tensor) -> float:
        parts = [objective(picture[None], photo[None]) for picture, photo in zip(pictures, photos, strict=True)]
        return sum(float(value) for each in parts for value in each.values()) / len(parts)

    base = base_file(None, recipe.name)
    results = {"photos themselves": measure(photos)}
    print(f"the photos themselves: {results['photos themselves']:.2f}")
    for name, steps, start in (("base", options.steps[0], base), ("nothing", options.steps[1], None)):
        results[name] = learned(options, replace(recipe, steps=steps), start, measure, photos)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2))
    if options.chart:
        draw(results, f"from {base.stem}", RECIPES["quick"].steps, options.chart)


def draw(results: dict, title: str, quick: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for name, label, color in (("nothing", "from scratch", "#5b7db1"), ("base", title, "#d9822b")):
        axes.plot(results[name]["steps"], results[name]["objective"], "o-", ms=3, color=color, label=label)
    axes.set(xlabel="steps", ylabel="objective on unseen photos", ylim=(0, None))
    axes.axvline(quick, color="grey", lw=0.8, ls=":")
    axes.annotate(
        "quick", (quick, axes.get_ylim()[1]), xytext=(4, -12), textcoords="offset points", fontsize=9, color="grey"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
