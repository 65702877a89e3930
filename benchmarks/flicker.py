"""Flicker of stylized video, with and without ``temporal``: clips made of photos, one table, JSON.

    python benchmarks/flicker.py --styles starry_night candy.model --loss-weights vgg19.safetensors --painting night.jpg

Each photo becomes two clips with noise of 5/255, rounded to 8 bits: one that stands still and one that pans. Flicker is the
mean absolute difference of consecutive paintings, in 255ths; of the pan, which is known exactly, after taking it back. With
the loss network and a painting, the style part of the training objective says whether the style is still there (1: as much
as without ``temporal``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

PHOTOS = ("astronaut.jpg", "coffee.jpg", "chelsea.jpg", "rocket.jpg")
PAN = 3, 1  # px to the right and down in each frame
NOISE = 5 / 255


def clip(photo: Tensor, frames: int, size: int, pan: tuple[int, int]) -> Tensor:
    """A clip (N, 3, size, size) of a camera that moves over a photo."""
    generator = torch.Generator().manual_seed(0)
    right, down = pan
    parts = [photo[0, :, down * t : down * t + size, right * t : right * t + size] for t in range(frames)]
    noisy = torch.stack(parts) + NOISE * torch.randn(frames, 3, size, size, generator=generator)
    return noisy.clamp(0, 1).mul(255).round().div(255)


def flicker(paintings: Tensor, pan: tuple[int, int]) -> float:
    """Mean absolute difference of consecutive paintings where both show the same, in 255ths."""
    (right, down), (height, width) = pan, paintings.shape[-2:]
    before, after = paintings[:-1, :, down:, right:], paintings[1:, :, : height - down, : width - right]
    return float((before - after).abs().mean()) * 255


def style_objective(arguments: argparse.Namespace):
    """A function of paintings (N, 3, H, W): the style part of the standard recipe's objective, mean over frames."""
    if not (arguments.loss_weights and arguments.painting):
        return None
    from perceptual_style.core.images import read_image
    from perceptual_style.core.loss_network import LossNetwork
    from perceptual_style.core.objective import Objective, ObjectiveWeights
    from perceptual_style.core.recipes import RECIPES

    recipe = RECIPES["standard"]
    weights = ObjectiveWeights(style=recipe.weights.style, style_form=recipe.weights.style_form)
    network = LossNetwork(recipe.loss_network, arguments.loss_weights, weights.layers)
    objective = Objective(network, weights, read_image(arguments.painting).pixels)

    def measure(paintings: Tensor) -> float:
        with torch.no_grad():
            return sum(float(sum(objective(each[None], each[None]).values())) for each in paintings) / len(paintings)

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", nargs="+", default=["starry_night"], help="names or files")
    parser.add_argument(
        "--photos", default=Path(__file__).resolve().parents[1] / "examples", help="folder of the examples"
    )
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, default=256, help="side of the clips, px")
    parser.add_argument("--temporal", type=float, default=1.0)
    parser.add_argument("--loss-weights", help="file of the standard recipe's loss network")
    parser.add_argument("--painting", help="style image that the objective compares with")
    parser.add_argument("--json")
    arguments = parser.parse_args()

    from perceptual_style.core import load_style
    from perceptual_style.core.images import read_image

    measure = style_objective(arguments)
    rows = []
    print(
        f"{'style':<16} {'photo':<10} {'clip':<7} {'photo itself':>12} {'off':>7} {'on':>7} {'on/off':>7} {'style on/off':>13}"
    )
    for name in arguments.styles:
        model = load_style(name)
        for photo in PHOTOS:
            pixels = read_image(Path(arguments.photos) / photo).pixels
            for kind, pan in (("static", (0, 0)), ("pan", PAN)):
                frames = clip(pixels, arguments.frames, arguments.size, pan)
                off, on = (model.stylize(frames, temporal=amount) for amount in (0, arguments.temporal))
                row = {"style": model.name, "photo": Path(photo).stem, "clip": kind}
                row |= {"itself": flicker(frames, pan), "off": flicker(off, pan), "on": flicker(on, pan)}
                row["ratio"] = row["on"] / row["off"]
                row["objective"] = measure(on) / measure(off) if measure else float("nan")
                rows.append(row)
                print(
                    f"{row['style'][:16]:<16} {row['photo']:<10} {kind:<7} {row['itself']:>12.2f} {row['off']:>7.2f} "
                    f"{row['on']:>7.2f} {row['ratio']:>7.2f} {row['objective']:>13.3f}",
                    flush=True,
                )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
