"""Seconds, memory and differences of the ways to run a style network: one run, one table, JSON.

    python benchmarks/inference.py --sizes 256 512 1024 --widths full half --repeats 5 --json inference.json

Every way runs in a process of its own, so that peak memory is its own; a process loads, warms up, and then waits for its
turns: the ways take turns, repeat by repeat, and medians are compared. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FULL = "c9s1-32,d64,d128,R128x5,n2,c3s1-64,n2,c3s1-32,c9s1-3 norm=instance padding=reflect"
HALF = "c9s1-16,d32,d64,R64x5,n2,c3s1-32,n2,c3s1-16,c9s1-3 norm=instance padding=reflect"
ARCHS = {"full": FULL, "half": HALF}
WAYS = (
    "eager", "eager bf16", "compile", "compile bf16", "onnxruntime", "openvino", "openvino bf16",
    "engine", "engine auto", "engine bf16",
)  # fmt: skip
LARGEST = {"eager": 2048, "compile": 2048, "onnxruntime": 2048, "openvino": 2048}  # beyond, only the engine


def build(width: str):
    import torch
    from perceptual_style.core import build_network

    torch.manual_seed(0)
    return build_network(ARCHS[width]).eval().requires_grad_(False)


def photo(size: int):
    """A smooth random image: no photo of this size is at hand, and time does not depend on it."""
    import torch

    torch.manual_seed(1)
    small = torch.rand(1, 3, max(size // 8, 2), max(size // 8, 2))
    return torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")


def runner(way: str, width: str, size: int) -> Callable[[], object]:
    """A function that runs the network once and gives the image as a tensor."""
    import torch

    network, image = build(width), photo(size)
    name, _, kind = way.partition(" ")
    half = torch.bfloat16 if kind == "bf16" else None
    if name == "engine":
        from perceptual_style.core.stream import Engine

        engine = Engine(network, size, size, device=image.device, precision=kind or "fp32")
        return lambda: engine(image)
    if name in ("eager", "compile"):
        call = torch.compile(network) if name == "compile" else network

        def run():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half is not None):
                return call(image)

        return run
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (image,), str(path), dynamo=True, verbose=False)
        if name == "onnxruntime":
            import onnxruntime

            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            key = session.get_inputs()[0].name
            return lambda: torch.from_numpy(session.run(None, {key: image.numpy()})[0])
        import openvino

        hint = "bf16" if kind else "f32"
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})
        request = compiled.create_infer_request()
        return lambda: torch.from_numpy(request.infer({0: image.numpy()})[0].copy())


def worker(way: str, width: str, size: int, pipe) -> None:
    import torch

    with torch.no_grad():
        try:
            run = runner(way, width, size)
            result = run()
            if size <= 2048 and way != "eager":
                difference = float((result.float() - build(width)(photo(size))).abs().max()) * 255
            else:
                difference = None
            del result  # which would be in memory beside the next one
            run()
        except Exception as error:  # a runtime that is missing, or cannot: say so in the table
            pipe.send({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
            return
        pipe.send({"difference": difference})
        while pipe.recv():
            start = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(peak * (1 if sys.platform == "darwin" else 1024))


def measure(width: str, size: int, ways: list[str], repeats: int) -> dict[str, dict]:
    context = mp.get_context("spawn")
    rows: dict[str, dict] = {}
    running = {}
    for way in ways:
        if size > LARGEST.get(way.split()[0], 10**9):
            continue
        ours, theirs = context.Pipe()
        process = context.Process(target=worker, args=(way, width, size, theirs), daemon=True)
        process.start()
        rows[way] = ours.recv()
        if "error" not in rows[way]:
            running[way] = (process, ours, [])
    for _ in range(repeats):
        for _, pipe, seconds in running.values():
            pipe.send(True)
            seconds.append(pipe.recv())
    for way, (process, pipe, seconds) in running.items():
        pipe.send(False)
        rows[way] |= {"seconds": statistics.median(seconds), "all": seconds, "peak bytes": pipe.recv()}
        process.join()
    for row in rows.values():
        if "seconds" in row and "seconds" in rows.get("eager", {}):
            row["speed-up"] = rows["eager"]["seconds"] / row["seconds"]
    return rows


def peak_flops(bf16: bool) -> float:
    """The machine's matrix product rate, FLOP/s: the best of several, in the number format of the way."""
    import torch

    a = torch.randn(3072, 3072, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 3072**3 / best


def flops(width: str, size: int) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    network = build(width)
    with FlopCounterMode(display=False) as counter:
        network(photo(64))
    return counter.get_total_flops() * (size / 64) ** 2


def draw(rows: list[dict], path: Path) -> None:
    """Seconds of every way, one panel for each width and size that has an eager row."""
    import matplotlib.pyplot as plt

    panels = [(r["width"], r["size"]) for r in rows if r["way"] == "eager" and "seconds" in r]
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.2), squeeze=False, layout="constrained")
    for axis, (width, size) in zip(axes[0], panels, strict=True):
        shown = [r for r in rows if (r["width"], r["size"]) == (width, size) and "seconds" in r][::-1]
        colors = ["#d9822b" if r["way"].startswith("engine") else "#5b7db1" for r in shown]
        bars = axis.barh([r["way"] for r in shown], [r["seconds"] for r in shown], color=colors)
        axis.bar_label(bars, [f" {r['seconds']:.2f} s" for r in shown], fontsize=8)
        axis.set_title(f"{width} width, {size} x {size} px", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.18)
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--widths", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path, help="draw the seconds as bars into this file")
    options = parser.parse_args()
    peaks = {bf16: peak_flops(bf16) for bf16 in (False, True)}
    report = {"machine": platform.processor() or platform.machine(), "peak FLOP/s": peaks[False], "rows": []}
    print("| width | size | way | s | x eager | of fp32/bf16 peak | peak MiB | largest difference /255 |")
    print("|---|---|---|---|---|---|---|---|")
    for width in options.widths:
        for size in options.sizes:
            work = flops(width, size)
            for way, row in measure(width, size, options.ways, options.repeats).items():
                report["rows"].append({"width": width, "size": size, "way": way, **row})
                if "error" in row:
                    print(f"| {width} | {size} | {way} | {row['error']:.60} | | | | |", flush=True)
                    continue
                share = work / row["seconds"] / peaks[way.endswith("bf16")]
                difference = "" if row["difference"] is None else f"{row['difference']:.3f}"
                print(
                    f"| {width} | {size} | {way} | {row['seconds']:.3f} | {row.get('speed-up', float('nan')):.2f} "
                    f"| {share:.0%} | {row['peak bytes'] / 2**20:.0f} | {difference} |",
                    flush=True,
                )
    if options.chart:
        draw(report["rows"], options.chart)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
