"""Measure inference and training on a CUDA device: a table for benchmarks/README.md, and JSON.

    python benchmarks/gpu.py --json gpu.json --table gpu.md

Times are medians by CUDA events. All ways share one process; peak memory is reset before each.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import inference  # noqa: E402

SIZES = {"1024 x 1024": (1024, 1024), "3840 x 2160": (2160, 3840)}
REPEATS = 10
LONGEST = 200.0  # seconds for everything; ways that would begin later are left out


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median seconds of a run on the device."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 1000)
    return statistics.median(times)


def measured(name: str, run: Callable[[], Any], **facts: Any) -> dict[str, Any]:
    """Return a row of the table. An error becomes part of it."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        row = {"seconds": seconds(run)}
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return {"way": name, **facts, **row, "peak MiB": (torch.cuda.max_memory_allocated() - before) / 2**20}


def of_styles(width: str, size: tuple[int, int], ways: list[str]) -> list[dict[str, Any]]:
    """Measure ways to run a style network on images of a size."""
    rows = []
    for way in ways:
        try:
            run = inference.runner(way, width, size, "cuda")
        except Exception as error:
            rows.append({"way": way, "error": f"{type(error).__name__}: {error}"[:200]})
            continue
        rows.append(measured(way, run))
        del run
    return rows


def of_frames(width: str, size: tuple[int, int]) -> dict[str, Any]:
    """Measure frames from the host and back."""
    from perceptual_style.core.engine.engine import Engine
    from perceptual_style.core.models.transfers import flow

    network, device = inference.build(width).to("cuda"), torch.device("cuda")
    engine = Engine(network, *size, device=device)
    frames = [inference.photo(size) for _ in range(4)]
    kept = torch.empty(1, 3, *size)

    def run(count: int) -> float:
        start = time.perf_counter()
        for result in flow((frames[i % 4] for i in range(count)), engine, device):
            kept.copy_(result)
        return (time.perf_counter() - start) / count

    run(4)
    return {"way": "engine auto, from and to the host", "seconds": run(30)}


def of_upscaler(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Measure an upscaler."""
    from perceptual_style.core import load_upscaler

    model, image = load_upscaler(name), inference.photo(size).cuda()
    enlarge = model.enlarger()
    return measured(f"{name}, {size[1]} x {size[0]}", lambda: enlarge(image))


def of_training(steps: int = 48) -> list[dict[str, Any]]:
    """Measure steps of the trainer, with and without a CUDA graph, and of a straightforward loop.

    The loss network has random weights.
    """
    from dataclasses import replace
    from unittest.mock import patch

    import training
    from perceptual_style.core import train_style
    from perceptual_style.core.training import gradients
    from perceptual_style.core.training.style_recipes import get_recipe
    from PIL import Image
    from safetensors.torch import save_file

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for n in range(16):
            pixels = (inference.photo((480, 640))[0].permute(1, 2, 0) * 255).roll(40 * n, 1).byte().numpy()
            Image.fromarray(pixels).save(photos / f"{n}.jpg")
        weights = Path(folder) / "vgg16.safetensors"
        save_file(random_vgg16(), weights)
        recipe = replace(get_recipe("paper"), steps=steps)
        style = inference.photo((512, 512))
        for way, records in (("trainer, a step", True), ("trainer without a CUDA graph, a step", False)):
            marks: list[float] = []
            notes: list[str] = []

            def note(one: Any, marks: list[float] = marks, notes: list[str] = notes) -> None:
                marks.append(time.perf_counter())
                notes.extend(one.notes)

            with patch.object(gradients, "can_record", lambda device, records=records: records):
                train_style(
                    style, photos, Path(folder) / f"{records}.safetensors", recipe=recipe, loss_weights=weights,
                    device="cuda", progress=note,
                )  # fmt: skip
            row = {"way": way, "seconds": (marks[-1] - marks[15]) / (len(marks) - 16)}
            rows.append(row | ({"error": "; ".join(notes)} if notes else {}))
        loop = training.straightforward(recipe, style.cuda(), str(photos), str(weights), "cuda")
        times = []
        for _ in range(20):
            start = time.perf_counter()
            next(loop)
            times.append(time.perf_counter() - start)
        rows.append({"way": "straightforward loop, a step", "seconds": statistics.median(times[4:])})
    return rows


def random_vgg16() -> dict[str, torch.Tensor]:
    """Return weights like VGG-16's first thirteen layers."""
    generator, tensors, channels = torch.Generator().manual_seed(0), {}, 3
    widths = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
    widths |= dict.fromkeys((17, 19, 21, 24, 26, 28), 512)
    for index, width in widths.items():
        spread = (2 / (9 * channels)) ** 0.5
        tensors[f"features.{index}.weight"] = spread * torch.randn(width, channels, 3, 3, generator=generator)
        tensors[f"features.{index}.bias"] = torch.zeros(width)
        channels = width
    return tensors


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"{report['device']}, torch {report['torch']}", "", "| network | image | way | ms | frames/s | peak MiB |"]
    lines.append("|---|---|---|---|---|---|")
    for row in report["rows"]:
        time_ = row.get("seconds")
        values = ("", "") if time_ is None else (f"{1000 * time_:.2f}", f"{1 / time_:.1f}")
        way = row["way"] + (f": {row['error']}" if "error" in row else "")
        peak = f"{row['peak MiB']:.0f}" if "peak MiB" in row else ""
        lines.append(f"| {row['network']} | {row['image']} | {way} | {values[0]} | {values[1]} | {peak} |")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--table", type=Path, default=Path("gpu.md"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device")
    torch.backends.cudnn.benchmark = True
    ends = time.monotonic() + LONGEST
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": []}

    def add(network: str, image: str, measure: Callable[[], Any]) -> None:
        if time.monotonic() > ends:
            found: Any = {"way": "left out: no time"}
        else:
            try:
                found = measure()
            except Exception as error:  # one failure must not hide the other measurements
                found = {"way": "failed", "error": f"{type(error).__name__}: {error}"[:200]}
        rows = found if isinstance(found, list) else [found]
        report["rows"] += [{"network": network, "image": image, **row} for row in rows]
        options.json.write_text(json.dumps(report, indent=2) + "\n")
        options.table.write_text(table(report))

    plain = ["eager", "eager fp16", "channels_last fp16", "graph fp16"]
    ours = ["engine", "engine auto", "engine fp16"]
    for width in inference.ARCHS:
        for image, size in SIZES.items():
            add(width, image, lambda width=width, size=size: of_styles(width, size, plain + ours))
            add(width, image, lambda width=width, size=size: of_frames(width, size))
    add("upscaler", "512 x 512", lambda: of_upscaler("perceptual_x4", (512, 512)))
    with torch.enable_grad():
        add("training", "recipe paper", of_training)
    for image, size in SIZES.items():
        add("full", image, lambda size=size: of_styles("full", size, ["compile fp16"]))
    print(options.table.read_text())


if __name__ == "__main__":
    main()
