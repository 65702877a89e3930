"""The engine in fp32 against the plain forward: the largest difference over random sizes, images of one color included.

python benchmarks/exactness.py [--sizes 20] prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def crops(photo, count: int, seed: int):
    """Yield crops of random sizes; every fourth image has a single color instead."""
    import torch

    choice = random.Random(seed)
    height, width = photo.shape[-2:]
    for index in range(count):
        rows, columns = choice.randint(1, min(height, 320)), choice.randint(1, min(width, 320))
        top, left = choice.randint(0, height - rows), choice.randint(0, width - columns)
        crop = photo[..., top : top + rows, left : left + columns]
        if index % 4 == 3:
            color = torch.tensor([choice.randint(0, 255) / 255 for _ in range(3)]).view(1, 3, 1, 1)
            crop = color.expand_as(crop)
        yield index % 4 == 3, crop.contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=20, metavar="N", help="random sizes for each network")
    arguments = parser.parse_args()
    import torch
    from perceptual_style.core.hub.manifest import entries
    from perceptual_style.core.images.reading import read_image
    from perceptual_style.core.models.style_model import load_style
    from perceptual_style.core.models.upscale_model import load_upscaler
    from perceptual_style.core.network.transform_net import forward_any_size

    photo = read_image(ROOT / "examples" / "astronaut.jpg").pixels
    print("| network | photos, largest difference | one color, largest difference | one color, spread |")
    print("|---|---:|---:|---:|")
    for seed, entry in enumerate(each for each in entries() if each.is_bundled and each.task in ("style", "upscale")):
        model = load_style(entry.id) if entry.task == "style" else load_upscaler(entry.id).blended()
        run = model.stylize if entry.task == "style" else model.upscale
        worst = {False: 0.0, True: 0.0}
        spread = 0.0
        for flat, image in crops(photo, arguments.sizes, seed):
            with torch.no_grad():
                expected = forward_any_size(model.network, image).clamp(0, 1)
            result = run(image, precision="fp32")
            worst[flat] = max(worst[flat], 255 * float((result - expected).abs().max()))
            if flat:
                spread = max(spread, 255 * float((result.amax((2, 3)) - result.amin((2, 3))).max()))
        print(f"| {entry.id} | {worst[False]:.4f} | {worst[True]:.4f} | {spread:.4f} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
