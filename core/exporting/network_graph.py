"""A network as a graph of ONNX operators, from the same list of operations that the engine runs.

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
from .graph import Graph

_END = 2**31 - 1  # in a slice: as far as there are values


def add_network(graph: Graph, network: TransformNet, pixels: PixelConvention, image: str) -> str:
    """Add a network to a graph.

    Args:
        graph: The graph.
        network: A network of one style, or an upscaler.
        pixels: The network's pixel convention.
        image: Name of the image, (N, 3, H, W) float32 RGB in [0, 1], with sides of at least ``network.spec.smallest_side``.

    Returns:
        The name of the result, (N, 3, scale H, scale W) float32 RGB in [0, 1].
    """
    spec = network.spec
    with graph.float32():
        values = _encoded(graph, image, pixels)
    x, skip = graph.narrowed(values), ""
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
            x = graph.add("Add", x, _enlarged(graph, values, spec.scale, spec.in_channels))
        if spec.multiple_of > 1 or _overshoots(operations[-1]):
            x = graph.window(x, (0, 0), graph.sides(image, spec.scale))
        return graph.add("Clip", _decoded(graph, x, pixels), graph.constant(0.0), graph.constant(1.0))


def _applied(graph: Graph, x: str, operation: Operation, last: bool) -> str:
    if isinstance(operation, Window):
        result = _convolved(graph, x, operation)
        return result if last or not _overshoots(operation) else graph.window(result, (0, 0), graph.sides(x))
    if isinstance(operation, Pad):
        return graph.pad(x, operation.rows, operation.rows, "reflect")
    if isinstance(operation, Normalize):
        return _normalized(graph, x, operation)
    if isinstance(operation, Upsample):
        return _upsampled(graph, x, operation.factor)
    raise TypeError(f"expected an operation of a lowered network, got {type(operation).__name__}")


def _overshoots(operation: Operation) -> bool:
    """Return whether blocks of pixels can end behind the edge of the image."""
    return isinstance(operation, Window) and operation.phases > 1 and operation.up == 1


def _convolved(graph: Graph, x: str, window: Window) -> str:
    stage, weight = window.stage, window.weight
    options: dict[str, object] = {"strides": [window.stride] * 2}
    if stage.padding == "same" and stage.stride > 1 and not stage.transposed:
        options["auto_pad"] = "SAME_UPPER"  # how much, depends on the side
        weight = _after_blur(weight) if stage.blur else weight
    else:
        before, after = _edges(window)
        extra = window.phases - 1 if _overshoots(window) else 0  # the last block may begin with the last pixel
        if window.padding == "zero" and not stage.blur:  # a convolution can do this itself
            options["pads"] = [before] * 2 + [after + extra] * 2
        else:
            x = graph.pad(x, before, after, window.padding)
            options["pads"] = [0, 0, extra, extra]
        if stage.blur:
            x = graph.convolve(x, blur_kernel(weight.shape[1]), group=weight.shape[1])
    x = graph.convolve(x, weight, window.bias, **options)
    if window.phases > 1:
        x = graph.add("DepthToSpace", _aligned(graph, x, window), blocksize=window.phases)
    if window.norm is not None:
        x = graph.instance_norm(x, window.norm.scale, window.norm.shift, window.norm.eps)
    return graph.add("Relu", x) if window.relu else x


def _edges(window: Window) -> tuple[int, int]:
    """Return the pixels of padding before and after each side."""
    if window.up > 1:
        return window.before_up, max(window.shifts) + window.kernel - 1 - window.before_up
    return ((window.stage.extent - 1) // 2 if window.stage.padding != "none" else 0,) * 2


def _after_blur(weight: Tensor) -> Tensor:
    """Return the weights of one convolution that also blurs."""
    outputs, inputs, *_ = weight.shape
    return F.conv_transpose2d(weight.flatten(0, 1)[:, None], blur_kernel(1)).squeeze(1).unflatten(0, (outputs, inputs))


def _aligned(graph: Graph, x: str, window: Window) -> str:
    """Move pixels (a, b) of an input pixel to the same position: each phase has found them at its own."""
    reach = max(window.shifts)
    if not reach:
        return x
    moved = []
    parts = graph.split(x, window.phases**2, window.channels)
    starts = [(down, right) for down in window.shifts for right in window.shifts]
    for part, start in zip(parts, starts, strict=True):
        moved.append(graph.window(part, start, [shift - reach or _END for shift in start]))
    return graph.add("Concat", *moved, axis=1)


def _sum(graph: Graph, x: str, skip: str, operation: Add) -> str:
    rows, columns = operation.crop
    if rows or columns:
        skip = graph.window(skip, operation.crop, (-rows, -columns))
    for _ in range(operation.times):
        x = graph.add("Add", x, skip)
    return graph.add("Relu", x) if operation.relu else x


def _normalized(graph: Graph, x: str, operation: Normalize) -> str:
    norm = operation.norm
    if isinstance(norm, InstanceNorm):
        x = graph.instance_norm(x, norm.weight, norm.bias, norm.eps)
    elif isinstance(norm, nn.BatchNorm2d):
        x = graph.affine(x, *batch_norm_affine(norm))
    return graph.add("Relu", x) if operation.relu else x


def _upsampled(graph: Graph, x: str, factor: int) -> str:
    with graph.float32():
        scales = graph.constant([1.0, 1.0, factor, factor])
    return graph.add(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _output(graph: Graph, x: str, output: str) -> str:
    """Add the output function, see `output_function`."""
    if output == "linear":
        return x
    if output == "sigmoid":
        return graph.add("Sigmoid", x)
    if output == "tanh":
        return graph.add("Sigmoid", graph.add("Mul", x, graph.constant(2.0)))
    return graph.add("Mul", graph.add("Tanh", x), graph.constant(float(output.removeprefix("tanh"))))


def _enlarged(graph: Graph, image: str, factor: int, channels: int) -> str:
    """Add bicubic enlargement, see `bicubic.enlarge`."""
    padded = graph.pad(image, BICUBIC_REACH, BICUBIC_REACH, "replicate")
    pixels = graph.convolve(padded, enlargement_weights(factor, channels))
    return graph.add("DepthToSpace", pixels, blocksize=factor, mode="CRD")


def _encoded(graph: Graph, image: str, pixels: PixelConvention) -> str:
    coding = pixels.input
    values = image if coding == UNIT else graph.affine(image, coding.scale, coding.offset)
    return _reordered(graph, values, pixels)


def _decoded(graph: Graph, values: str, pixels: PixelConvention) -> str:
    inverse = _inverse(pixels.output)
    return graph.affine(_reordered(graph, values, pixels), inverse.scale, inverse.offset)


def _reordered(graph: Graph, values: str, pixels: PixelConvention) -> str:
    """Turn red, green and blue around if the network's order is another one."""
    return graph.add("Gather", values, graph.constant([2, 1, 0]), axis=1) if pixels.order == "bgr" else values


def _inverse(coding: Coding) -> Coding:
    scale = [1 / each for each in coding.scale]
    offset = [-shift / each for shift, each in zip(coding.offset, coding.scale, strict=True)]
    return Coding((scale[0], scale[1], scale[2]), (offset[0], offset[1], offset[2]))
