"""The blend of two pictures as a graph of ONNX operators, as `images.mixing.mix` computes it."""

from __future__ import annotations

import torch

from ..images.filters import gaussian_taps
from ..images.mixing import LEAST_CONTRAST, MOST_GAIN, RADIUS, SIGMA
from .graph import Graph


def add_mix(graph: Graph, first: str, second: str, amount: float) -> str:
    """Blend two pictures (N, 3, H, W) float32 in [0, 1] and return the name of the blend."""
    with graph.float32():
        plain = _lerp(graph, first, second, amount)
        first_mean, second_mean = (_blurred(graph, each, 3) for each in (first, second))
        mean = _lerp(graph, first_mean, second_mean, amount)
        detail = graph.add("Sub", plain, mean)
        first_contrast = _contrast(graph, graph.add("Sub", first, first_mean))
        second_contrast = _contrast(graph, graph.add("Sub", second, second_mean))
        wanted = _lerp(graph, first_contrast, second_contrast, amount)
        found = graph.add("Max", _contrast(graph, detail), graph.constant(LEAST_CONTRAST))
        gain = graph.add("Clip", graph.add("Div", wanted, found), graph.constant(1.0), graph.constant(MOST_GAIN))
        mixed = graph.add("Add", mean, graph.add("Mul", gain, detail))
        return graph.add("Clip", mixed, graph.constant(0.0), graph.constant(1.0))


def _lerp(graph: Graph, first: str, second: str, amount: float) -> str:
    parts = (graph.add("Mul", x, graph.constant(share)) for x, share in ((first, 1 - amount), (second, amount)))
    return graph.add("Add", *parts)


def _contrast(graph: Graph, detail: str) -> str:
    squared = graph.add("ReduceMean", graph.add("Mul", detail, detail), axes=[1], keepdims=1)
    return graph.add("Sqrt", _blurred(graph, squared, 1))


def _blurred(graph: Graph, x: str, channels: int) -> str:
    taps = gaussian_taps(SIGMA, RADIUS)
    kernel = torch.tensor([*reversed(taps[1:]), *taps])
    x = graph.pad(x, RADIUS, RADIUS, "replicate")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        x = graph.convolve(x, kernel.view(shape).repeat(channels, 1, 1, 1), group=channels)
    return x
