"""The blend of two pictures as operations of a graph, as `images.mixing.mix` computes it."""

from __future__ import annotations

import torch

from ..images.filters import gaussian_taps
from ..images.mixing import LEAST_CONTRAST, MOST_GAIN, RADIUS, SIGMA
from .graph import Graph, Value


def add_mix(graph: Graph, first: Value, second: Value, amount: float) -> Value:
    """Blend two pictures (N, 3, H, W) float32 in [0, 1] and return the blend."""
    with graph.float32():
        plain = _lerp(graph, first, second, amount)
        first_mean, second_mean = (_blurred(graph, each, 3) for each in (first, second))
        mean = _lerp(graph, first_mean, second_mean, amount)
        detail = graph.binary("sub", plain, mean)
        first_contrast = _contrast(graph, graph.binary("sub", first, first_mean))
        second_contrast = _contrast(graph, graph.binary("sub", second, second_mean))
        wanted = _lerp(graph, first_contrast, second_contrast, amount)
        found = graph.binary("max", _contrast(graph, detail), LEAST_CONTRAST)
        gain = graph.clipped(graph.binary("div", wanted, found), 1, MOST_GAIN)
        return graph.clipped(graph.binary("add", mean, graph.binary("mul", detail, gain)), 0, 1)


def _lerp(graph: Graph, first: Value, second: Value, amount: float) -> Value:
    parts = (graph.binary("mul", x, float(share)) for x, share in ((first, 1 - amount), (second, amount)))
    return graph.binary("add", *parts)


def _contrast(graph: Graph, detail: Value) -> Value:
    squared = graph.channel_mean(graph.binary("mul", detail, detail))
    return graph.unary("sqrt", _blurred(graph, squared, 1))


def _blurred(graph: Graph, x: Value, channels: int) -> Value:
    taps = gaussian_taps(SIGMA, RADIUS)
    kernel = torch.tensor([*reversed(taps[1:]), *taps])
    x = graph.pad(x, RADIUS, RADIUS, "replicate")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        x = graph.convolve(x, kernel.view(shape).repeat(channels, 1, 1, 1), channelwise=True)
    return x
