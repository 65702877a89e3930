"""Compare PerceptualUpscale with the host's own node and the same network, and plot quality against time.

    COMFYUI_PATH=... python benchmarks/upscale.py --size 512 --repeats 5 --json upscale.json
    python benchmarks/upscale.py --data sets/Set5 --chart chart.png

Run it with the Python interpreter of a ComfyUI, and set COMFYUI_PATH to its folder: the code of its node
ImageUpscaleWithModel is measured. Without COMFYUI_PATH, only this project's ways are. The ways take turns, repeat by
repeat, and medians are compared. With --data, PSNR over a folder of images is measured as well, and --chart plots it
against the seconds. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from perceptual_style.core import build_network, load_upscaler
from perceptual_style.core.images.resample import bicubic_resize, crop_to_multiple, degrade
from perceptual_style.core.losses.metrics import psnr
from perceptual_style.core.models.upscale_model import UpscaleModel
from perceptual_style.core.training.upscale_recipes import upscale_recipe

Way = Callable[[torch.Tensor], torch.Tensor]


def host_node(model: UpscaleModel) -> Way:
    """Return the host's "Upscale Image (using Model)", with its own CPU settings and our network as UPSCALE_MODEL."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    sys.argv = sys.argv[:1]  # the host reads the arguments, too
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    import utils.install_util  # noqa: F401  (first, as in the host: its nodes.py puts another "utils" before it)
    from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel
    from perceptual_style.nodes.upscale_descriptor import descriptor_of

    descriptor = descriptor_of(model)

    def run(image: torch.Tensor) -> torch.Tensor:
        return ImageUpscaleWithModel.execute(descriptor, image.movedim(1, -1)).args[0].movedim(-1, 1)

    return run


def paper_exact(factor: int, file: str | None) -> UpscaleModel:
    """Return the paper's network from a file, or an untrained one, which takes the same time."""
    if file:
        return load_upscaler(file)
    return UpscaleModel(build_network(upscale_recipe("paper", factor).arch).eval(), "paper-exact (untrained)")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="perceptual_x4", help="name or file (default: %(default)s)")
    parser.add_argument("--paper", help="file of a trained paper-exact network of the same factor")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", help="folder of high resolution images for PSNR")
    parser.add_argument("--json")
    parser.add_argument("--chart")
    return parser.parse_args()


def take_turns(ways: dict[str, Way], size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of each way."""
    image = torch.rand(1, 3, size, size)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for repeat in range(repeats + 1):  # the first repeat warms up
            for name, way in ways.items():
                start = time.perf_counter()
                way(image)
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
    return {name: {"seconds": statistics.median(times)} for name, times in seconds.items()}


def main() -> None:
    arguments = parse()
    model = load_upscaler(arguments.model)
    factor = model.scale
    paper = paper_exact(factor, arguments.paper)
    ways: dict[str, Way] = {
        "bicubic": lambda image: bicubic_resize(image, factor),
        model.name: model.upscale,
        f"{model.name}, fp32": lambda image: model.upscale(image, precision="fp32"),
        "paper-exact": paper.upscale,
    }
    if model.partner is not None:
        ways[f"{model.name}, fidelity 1"] = lambda image: model.upscale(image, fidelity=1.0)
    if "COMFYUI_PATH" in os.environ:
        ways["host's node"] = host_node(model)

    results = take_turns(ways, arguments.size, arguments.repeats)
    if arguments.data:
        measure(ways, factor, Path(arguments.data), results)
    for name, values in results.items():
        if name == "paper-exact" and not arguments.paper:
            values.pop("psnr", None)  # meaningless for an untrained network
        quality = f"  {values['psnr']:6.2f} dB" if "psnr" in values else ""
        print(f"{name:32} {values['seconds']:8.3f} s{quality}")
    if "host's node" in results:
        ratio = results["host's node"]["seconds"] / results[model.name]["seconds"]
        print(f"{model.name} is {ratio:.2f} times as fast as the host's node with the same network")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2))
    if arguments.chart:
        draw(results, factor, arguments.size, arguments.chart)


def measure(ways: dict[str, Way], factor: int, folder: Path, results: dict[str, dict[str, float]]) -> None:
    """Add the mean PSNR of each way (on Y, without a border of ``factor`` px)."""
    from perceptual_style.core.images.folders import find_images
    from perceptual_style.core.images.reading import read_image
    from perceptual_style.core.images.tensors import quantize

    files = find_images([folder])
    for name, way in ways.items():
        figures = []
        for path in files:
            high = crop_to_multiple(read_image(path).pixels, factor)
            figures.append(float(psnr(quantize(way(degrade(high, factor)).clamp(0, 1)), high, factor)))
        results[name]["psnr"] = sum(figures) / len(figures)


def draw(results: dict[str, dict[str, float]], factor: int, size: int, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    shown = sorted(
        (round(values["psnr"], 2), values["seconds"], name) for name, values in results.items() if "psnr" in values
    )
    for index, (quality, seconds, name) in enumerate(shown):
        axes.scatter(seconds, quality, s=50)
        above = index % 2 == 0  # keeps the labels of neighbors apart
        axes.annotate(
            name,
            (seconds, quality),
            xytext=(0, 8 if above else -17),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set(xscale="log", xlabel=f"seconds for x{factor} of {size} x {size} px", ylabel="PSNR, dB")
    axes.set_xticks(ticks := [0.1, 0.2, 0.5, 1, 2, 5], [f"{tick:g}" for tick in ticks])
    axes.margins(x=0.3, y=0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
