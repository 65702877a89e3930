"""Measure the flicker of stylized video with and without ``temporal``; print a table and write JSON.

    python benchmarks/flicker.py --styles starry_night candy.model --paintings night.jpg candy.jpg --loss-weights FILE

Each photo becomes two clips with noise of 5/255, rounded to 8 bits: a static one and one that pans. Flicker is the mean
absolute difference of consecutive paintings in units of 1/255, in a pan after undoing the pan, which is known exactly.

With --loss-weights and --paintings, the standard recipe's objective shows whether the style is preserved. The table
then has the objective with ``temporal`` relative to without, for style alone and for style and content together.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

PHOTOS = ("astronaut.jpg", "coffee.jpg", "chelsea.jpg", "rocket.jpg")
PAN = 3, 1  # px to the right and down per frame
NOISE = 5 / 255


def clip(photo: Tensor, frames: int, size: int, pan: tuple[int, int]) -> Tensor:
    """Return a clip (N, 3, size, size) of a camera that moves over a photo."""
    generator = torch.Generator().manual_seed(0)
    right, down = pan
    parts = [photo[0, :, down * t : down * t + size, right * t : right * t + size] for t in range(frames)]
    noisy = torch.stack(parts) + NOISE * torch.randn(frames, 3, size, size, generator=generator)
    return noisy.clamp(0, 1).mul(255).round().div(255)


def flicker(paintings: Tensor, pan: tuple[int, int]) -> float:
    """Return the mean absolute difference of consecutive paintings where both show the same, in units of 1/255."""
    (right, down), (height, width) = pan, paintings.shape[-2:]
    before, after = paintings[:-1, :, down:, right:], paintings[1:, :, : height - down, : width - right]
    return float((before - after).abs().mean()) * 255


def objective_of(loss_weights: str, painting: str) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """Return a function of paintings and frames (N, 3, H, W) that measures the standard recipe's objective.

    It returns the style part, and the sum of style and content.
    """
    from perceptual_style.core.images.reading import read_image
    from perceptual_style.core.losses.loss_network import LossNetwork
    from perceptual_style.core.losses.objective import Objective
    from perceptual_style.core.training.style_recipes import RECIPES

    recipe = RECIPES["standard"]
    network = LossNetwork(recipe.loss_network, loss_weights, recipe.weights.layers)
    objective = Objective(network, recipe.weights, read_image(painting).pixels)

    @torch.no_grad()
    def measure(paintings: Tensor, frames: Tensor) -> tuple[float, float]:
        style = both = 0.0
        for one, frame in zip(paintings, frames, strict=True):
            parts = objective(one[None], frame[None])
            style += float(sum(value for name, value in parts.items() if name.startswith("style")))
            both += float(sum(value for name, value in parts.items() if name.startswith(("style", "content"))))
        return style, both

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", nargs="+", default=["starry_night"], help="names or files (default: starry_night)")
    parser.add_argument(
        "--photos", default=Path(__file__).resolve().parents[1] / "examples", help="folder with the example photos"
    )
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, default=256, help="side of the clips, px")
    parser.add_argument("--temporal", type=float, default=1.0)
    parser.add_argument("--loss-weights", metavar="FILE", help="weights of the standard recipe's loss network")
    parser.add_argument(
        "--paintings", nargs="+", default=[], metavar="FILE", help="style images, one per style in order"
    )
    parser.add_argument("--json")
    arguments = parser.parse_args()

    from perceptual_style.core import load_style
    from perceptual_style.core.images.reading import read_image

    columns = ("style", "photo", "clip", "photo itself", "off", "on", "on/off", "style on/off", "objective on/off")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    rows = []
    for name, painting in itertools.zip_longest(arguments.styles, arguments.paintings):
        model = load_style(name)
        measure = objective_of(arguments.loss_weights, painting) if arguments.loss_weights and painting else None
        for photo in PHOTOS:
            pixels = read_image(Path(arguments.photos) / photo).pixels
            for kind, pan in (("static", (0, 0)), ("pan", PAN)):
                frames = clip(pixels, arguments.frames, arguments.size, pan)
                off, on = (model.stylize(frames, temporal=amount) for amount in (0, arguments.temporal))
                values = [flicker(frames, pan), flicker(off, pan), flicker(on, pan)]
                values.append(values[2] / values[1])
                if measure:
                    values += [a / b for a, b in zip(measure(on, frames), measure(off, frames), strict=True)]
                row = [model.name, Path(photo).stem, kind, *values]
                rows.append(dict(zip(columns, row, strict=False)))
                print("| " + " | ".join(x if isinstance(x, str) else f"{x:.2f}" for x in row) + " |", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
