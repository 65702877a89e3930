"""A network as a graph of another program's operators, from the same list of operations that the engine runs.

The graph is built from `lowering.lower`, not by tracing the module. So sizes are variable by construction, the graph does
not depend on the version of torch's exporter, and the lowering's savings reach other programs: a convolution after an
upsampling works on the small image, one to few channels on blocks of pixels, and batch normalizations are in the weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.lowering import Add, Normalize, Operation, Pad, Remember, Upsample, Window, batch_norm_affine, lower
from ..images.bicubic import BICUBIC_REACH, enlargement_weights
from ..network.pixels import UNIT, Coding, PixelConvention
from ..network.stages import InstanceNorm, blur_kernel
from ..network.transform_net import TransformNet
from .graph import Graph, Value


def add_network(graph: Graph, network: TransformNet, pixels: PixelConvention, image: Value) -> Value:
    """Add a network to a graph.

    Args:
        graph: The graph.
        network: A network of one style, or an upscaler.
        pixels: The network's pixel convention.
        image: The image, (N, 3, H, W) float32 RGB in [0, 1], with sides of at least ``network.spec.smallest_side``.

    Returns:
        The result, (N, 3, scale H, scale W) float32 RGB in [0, 1].
    """
    spec = network.spec
    with graph.float32():
        values = _encoded(graph, image, pixels)
    x, skip = graph.narrowed(values), None
    operations = lower(network)
    for operation in operations:
        if isinstance(operation, Remember):
            skip = x
        elif isinstance(operation, Add):
            x = _sum(graph, x, skip, operation)
        else:
            x = _applied(graph, x, operation, last=operation is operations[-1])
    x = graph.widened(x)
    with graph.float32():
        x = _output(graph, x, spec.output)
        if spec.base == "bicubic":
            x = graph.binary("add", x, _enlarged(graph, values, spec.scale, spec.in_channels))
        if spec.multiple_of > 1 or _overshoots(operations[-1]):
            x = graph.cropped(x, image, spec.scale)
        return graph.clipped(_decoded(graph, x, pixels), 0, 1)


def _applied(graph: Graph, x: Value, operation: Operation, last: bool) -> Value:
    if isinstance(operation, Window):
        result = _convolved(graph, x, operation)
        return result if last or not _overshoots(operation) else graph.cropped(result, x)
    if isinstance(operation, Pad):
        return graph.pad(x, operation.rows, operation.rows, "reflect")
    if isinstance(operation, Normalize):
        return _normalized(graph, x, operation)
    if isinstance(operation, Upsample):
        return graph.repeated(x, operation.factor)
    raise TypeError(f"expected an operation of a lowered network, got {type(operation).__name__}")


def _overshoots(operation: Operation) -> bool:
    """Return whether blocks of pixels can end behind the edge of the image."""
    return isinstance(operation, Window) and operation.phases > 1 and operation.up == 1


def _convolved(graph: Graph, x: Value, window: Window) -> Value:
    stage, weight = window.stage, window.weight
    pads: tuple[int, int] | None = None
    if stage.padding == "same" and stage.stride > 1 and not stage.transposed:  # how much, depends on the side
        weight = _after_blur(weight) if stage.blur else weight
    else:
        before, after = _edges(window)
        extra = window.phases - 1 if _overshoots(window) else 0  # the last block may begin with the last pixel
        if window.padding == "zero" and not stage.blur:  # a convolution can do this itself
            pads = before, after + extra
        else:
            x = graph.pad(x, before, after, window.padding)
            pads = 0, extra
        if stage.blur:
            x = graph.convolve(x, blur_kernel(weight.shape[1]), channelwise=True)
    x = graph.convolve(x, weight, window.bias, stride=window.stride, pads=pads)
    if window.phases > 1:
        x = graph.blocks(_aligned(graph, x, window), window.phases)
    if window.norm is not None:
        x = graph.instance_norm(x, window.norm.scale, window.norm.shift, window.norm.eps)
    return graph.unary("relu", x) if window.relu else x


def _edges(window: Window) -> tuple[int, int]:
    """Return the pixels of padding before and after each side."""
    if window.up > 1:
        return window.before_up, max(window.shifts) + window.kernel - 1 - window.before_up
    return ((window.stage.extent - 1) // 2 if window.stage.padding != "none" else 0,) * 2


def _after_blur(weight: Tensor) -> Tensor:
    """Return the weights of one convolution that also blurs."""
    outputs, inputs, *_ = weight.shape
    return F.conv_transpose2d(weight.flatten(0, 1)[:, None], blur_kernel(1)).squeeze(1).unflatten(0, (outputs, inputs))


def _aligned(graph: Graph, x: Value, window: Window) -> Value:
    """Move pixels (a, b) of an input pixel to the same position: each phase has found them at its own."""
    reach = max(window.shifts)
    if not reach:
        return x
    parts = graph.split(x, window.phases**2)
    starts = [(down, right) for down in window.shifts for right in window.shifts]
    return graph.joined([
        graph.window(part, start, [shift - reach for shift in start])
        for part, start in zip(parts, starts, strict=True)
    ])  # fmt: skip


def _sum(graph: Graph, x: Value, skip: Value, operation: Add) -> Value:
    rows, columns = operation.crop
    if rows or columns:
        skip = graph.window(skip, operation.crop, (-rows, -columns))
    for _ in range(operation.times):
        x = graph.binary("add", x, skip)
    return graph.unary("relu", x) if operation.relu else x


def _normalized(graph: Graph, x: Value, operation: Normalize) -> Value:
    norm = operation.norm
    if isinstance(norm, InstanceNorm):
        x = graph.instance_norm(x, norm.weight, norm.bias, norm.eps)
    elif isinstance(norm, nn.BatchNorm2d):
        x = graph.affine(x, *batch_norm_affine(norm))
    return graph.unary("relu", x) if operation.relu else x


def _output(graph: Graph, x: Value, output: str) -> Value:
    """Add the output function, see `output_function`."""
    if output == "linear":
        return x
    if output == "sigmoid":
        return graph.unary("sigmoid", x)
    if output == "tanh":
        return graph.unary("sigmoid", graph.binary("mul", x, 2.0))
    return graph.binary("mul", graph.unary("tanh", x), float(output.removeprefix("tanh")))


def _enlarged(graph: Graph, image: Value, factor: int, channels: int) -> Value:
    """Add bicubic enlargement, see `bicubic.enlarge`."""
    padded = graph.pad(image, BICUBIC_REACH, BICUBIC_REACH, "replicate")
    weight = enlargement_weights(factor, channels).unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)
    return graph.blocks(graph.convolve(padded, weight), factor)


def _encoded(graph: Graph, image: Value, pixels: PixelConvention) -> Value:
    coding = pixels.input
    values = image if coding == UNIT else graph.affine(image, coding.scale, coding.offset)
    return _reordered(graph, values, pixels)


def _decoded(graph: Graph, values: Value, pixels: PixelConvention) -> Value:
    inverse = _inverse(pixels.output)
    return graph.affine(_reordered(graph, values, pixels), inverse.scale, inverse.offset)


def _reordered(graph: Graph, values: Value, pixels: PixelConvention) -> Value:
    """Turn red, green and blue around if the network's order is another one."""
    return graph.turned(values) if pixels.order == "bgr" else values


def _inverse(coding: Coding) -> Coding:
    scale = [1 / each for each in coding.scale]
    offset = [-shift / each for shift, each in zip(coding.offset, coding.scale, strict=True)]
    return Coding((scale[0], scale[1], scale[2]), (offset[0], offset[1], offset[2]))
