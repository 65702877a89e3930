"""Compare ways to run a style network by time, memory and accuracy; print a table and write JSON.

    python benchmarks/inference.py --sizes 256 512 1024 --widths full half --repeats 5 --json inference.json
    python benchmarks/inference.py --device cuda --sizes 1024 2160x3840 --repeats 20

Each way runs in its own process, so that peak memory is measured separately. A process loads, warms up and then waits
for its turns. The ways take turns, repeat by repeat, and medians are compared. Nothing else should run on the machine.
On a GPU, images are already on the device, peak memory is the device's, and cuDNN chooses its algorithms by trying them.
There, "channels_last" has half precision convolutions in that layout, "graph" replays them as a CUDA graph, "compile" is
torch.compile with max-autotune on top of them, and "eager" uses TF32, torch's default.
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
GPU_WAYS = (
    "eager", "eager fp16", "channels_last fp16", "graph fp16", "compile fp16",
    "engine", "engine auto", "engine fp16", "engine bf16",
)  # fmt: skip
FORMATS = {"bf16": "bfloat16", "fp16": "float16"}
LARGEST = {"eager": 2048, "compile": 2048, "onnxruntime": 2048, "openvino": 2048}  # above, only the engine runs


def build(width: str):
    import torch
    from perceptual_style.core import build_network

    torch.manual_seed(0)
    return build_network(ARCHS[width]).eval().requires_grad_(False)


def sides(text: str) -> tuple[int, int]:
    """Parse a size in px: one side of a square, or HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def photo(size: tuple[int, int]):
    """Return a smooth random image in place of a photo; time does not depend on the content."""
    import torch

    torch.manual_seed(1)
    small = torch.rand(1, 3, *(max(side // 8, 2) for side in size))
    return torch.nn.functional.interpolate(small, size=size, mode="bilinear")


def halved(network):
    """Return the network with convolutions in float16, channels last; norms stay float32."""
    import torch

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.half().to(memory_format=torch.channels_last)
    return network


def on_gpu(name: str, network, image) -> Callable[[], object]:
    """Return a function that runs one of the strongest plain forms on a CUDA device."""
    import torch

    network = halved(network).train()  # in training mode, norms do not look for flat planes, which would stop a graph
    image = image.half().contiguous(memory_format=torch.channels_last)
    if name == "compile":
        compiled = torch.compile(network, mode="max-autotune")
        return lambda: finished(compiled(image))
    if name == "channels_last":
        return lambda: finished(network(image))
    for _ in range(3):
        network(image)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = network(image)

    def replayed():
        graph.replay()
        return finished(result)

    return replayed


def runner(way: str, width: str, size: tuple[int, int], device: str) -> Callable[[], object]:
    """Return a function that runs the network once and returns the finished image as a tensor."""
    import torch

    network, image = build(width).to(device), photo(size).to(device)
    name, _, kind = way.partition(" ")
    half = getattr(torch, FORMATS[kind]) if name != "engine" and kind in FORMATS else None
    if name == "engine":
        from perceptual_style.core.engine.engine import Engine

        engine = Engine(network, *size, device=image.device, precision=kind or "fp32")
        engine(image)  # the second run records a CUDA graph
        return lambda: finished(engine(image))
    if device == "cuda" and name != "eager":
        return on_gpu(name, network, image)
    if name in ("eager", "compile"):
        call = torch.compile(network) if name == "compile" else network

        def run():
            with torch.autocast(device, dtype=half or torch.bfloat16, enabled=half is not None):
                return finished(call(image))

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


def finished(result):
    """Wait until the device has finished, and return the result."""
    import torch

    if result.device.type == "cuda":
        torch.cuda.synchronize()
    return result


def worker(way: str, width: str, size: tuple[int, int], device: str, pipe) -> None:
    import torch

    torch.backends.cudnn.benchmark = True
    with torch.no_grad():
        try:
            run = runner(way, width, size, device)
            result = run()
            if max(size) <= 2048 and way != "eager":
                difference = float((result.float().cpu() - build(width)(photo(size))).abs().max()) * 255
            else:
                difference = None
            del result  # so that only one result at a time counts as memory
            run()
        except Exception as error:  # shown in the table: a runtime is missing or fails
            pipe.send({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
            return
        pipe.send({"difference": difference})
        while pipe.recv():
            start = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - start)
        if device == "cuda":
            pipe.send(torch.cuda.max_memory_allocated())
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(peak * (1 if sys.platform == "darwin" else 1024))


def measure(width: str, size: tuple[int, int], ways: list[str], repeats: int, device: str) -> dict[str, dict]:
    context = mp.get_context("spawn")
    rows: dict[str, dict] = {}
    running = {}
    for way in ways:
        if device == "cpu" and max(size) > LARGEST.get(way.split()[0], 10**9):
            continue
        ours, theirs = context.Pipe()
        process = context.Process(target=worker, args=(way, width, size, device, theirs), daemon=True)
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


def number_format(way: str, device: str) -> str:
    """Return the format of a way's convolutions: fp32, tf32, bf16 or fp16."""
    name, _, kind = way.partition(" ")
    if kind == "auto":
        return "fp16" if device == "cuda" else "fp32"
    return kind or ("tf32" if device == "cuda" and name != "engine" else "fp32")


def peak_flops(kind: str, device: str) -> float:
    """Return the machine's peak rate of matrix products in FLOP/s, in a number format: the best of several."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    side = 3072 if device == "cpu" else 8192
    a = torch.randn(side, side, dtype=getattr(torch, FORMATS.get(kind, "float32")), device=device)
    best = float("inf")
    for _ in range(5):
        finished(a)
        start = time.perf_counter()
        finished(a @ a)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def flops(width: str, size: tuple[int, int]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    network = build(width)
    with FlopCounterMode(display=False) as counter:
        network(photo((64, 64)))
    return counter.get_total_flops() * size[0] * size[1] / 64**2


def draw(rows: list[dict], path: Path) -> None:
    """Draw the seconds of each way, with one panel per width and size that has an eager row."""
    import matplotlib.pyplot as plt

    panels = [(r["width"], r["size"]) for r in rows if r["way"] == "eager" and "seconds" in r]
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.2), squeeze=False, layout="constrained")
    for axis, (width, size) in zip(axes[0], panels, strict=True):
        shown = [r for r in rows if (r["width"], r["size"]) == (width, size) and "seconds" in r][::-1]
        colors = ["#d9822b" if r["way"].startswith("engine") else "#5b7db1" for r in shown]
        bars = axis.barh([r["way"] for r in shown], [r["seconds"] for r in shown], color=colors)
        axis.bar_label(bars, [f" {r['seconds']:.2f} s" for r in shown], fontsize=8)
        axis.set_title(f"{width} width, {size} px", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.18)
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["256", "512", "1024"], help="SIDE or HEIGHTxWIDTH in px")
    parser.add_argument("--widths", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--ways", nargs="+", choices=dict.fromkeys(WAYS + GPU_WAYS), help="default: all for the device")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path, help="file for a bar chart of the seconds")
    options = parser.parse_args()
    device, ways = options.device, options.ways or list(WAYS if options.device == "cpu" else GPU_WAYS)
    peaks = {kind: peak_flops(kind, device) for kind in dict.fromkeys(number_format(way, device) for way in ways)}
    report = {"machine": platform.processor() or platform.machine(), "device": device, "peak FLOP/s": peaks, "rows": []}
    print("| width | size | way | s | x eager | of the format's peak | peak MiB | largest difference /255 |")
    print("|---|---|---|---|---|---|---|---|")
    for width in options.widths:
        for size in options.sizes:
            work = flops(width, sides(size))
            for way, row in measure(width, sides(size), ways, options.repeats, device).items():
                report["rows"].append({"width": width, "size": size, "way": way, **row})
                if "error" in row:
                    print(f"| {width} | {size} | {way} | {row['error']:.60} | | | | |", flush=True)
                    continue
                share = work / row["seconds"] / peaks[number_format(way, device)]
                difference = "" if row["difference"] is None else f"{row['difference']:.3f}"
                print(
                    f"| {width} | {size} | {way} | {row['seconds']:.4f} | {row.get('speed-up', float('nan')):.2f} "
                    f"| {share:.0%} | {row['peak bytes'] / 2**20:.0f} | {difference} |",
                    flush=True,
                )
    if options.chart:
        draw(report["rows"], options.chart)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
