"""Folding of the constant parts of an ONNX graph: shapes, paddings and reshaped weights that exporters write as nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_MAX_ELEMENTS = 2**16


def fold(node: Any, attributes: dict[str, Any], constants: dict[str, Any], to_array: Callable[[Any], Any]) -> None:
    """Add a node's result to ``constants`` if its inputs are constants and its operation is supported.

    Args:
        node: the node
        attributes: its attributes by name
        constants: arrays by name, extended here
        to_array: converts an ONNX tensor to an array
    """
    operation = _OPERATIONS.get(node.op_type)
    names = [name for name in node.input if name]
    if operation is None or not all(name in constants for name in names):
        return
    try:
        result = operation([constants[name] for name in names], attributes, to_array)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError):
        return  # using it reports that it is not a constant
    constants[node.output[0]] = result


def _constant(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    if "value" in attributes:
        return to_array(attributes["value"])
    return np.asarray(
        next(attributes[key] for key in ("value_float", "value_floats", "value_int", "value_ints") if key in attributes)
    )


def _constant_of_shape(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    shape = [int(n) for n in inputs[0].ravel()]
    if len(shape) > 4 or any(not 0 <= n <= 64 for n in shape):
        raise ValueError("too large")
    return np.full(shape, to_array(attributes["value"]).ravel()[0] if "value" in attributes else 0.0)


def _slice(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    data, starts, ends, *rest = inputs
    axes = rest[0].ravel().tolist() if rest else range(len(starts))
    steps = rest[1].ravel().tolist() if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts.ravel().tolist(), ends.ravel().tolist(), steps, strict=True):
        # an end before the first element: numpy has no number for it
        index[axis] = slice(start, None if end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def _reshape(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    data, shape = inputs
    shape = [int(n) for n in shape.ravel()]
    if len(shape) > 8:
        raise ValueError("too many axes")
    return data.reshape([data.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _concat(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    if sum(data.size for data in inputs) > _MAX_ELEMENTS:
        raise ValueError("too large")
    return np.concatenate(inputs, axis=attributes["axis"])


def _unsqueeze(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    axes = attributes.get("axes") or inputs[1].ravel().tolist()
    return np.expand_dims(inputs[0], tuple(int(axis) for axis in axes))


_OPERATIONS: dict[str, Callable[[list[Any], dict[str, Any], Callable[[Any], Any]], Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Concat": _concat,
    "Slice": _slice,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Transpose": lambda inputs, attributes, _: inputs[0].transpose(attributes.get("perm")),
    "Cast": lambda inputs, attributes, _: inputs[0],
    "Identity": lambda inputs, attributes, _: inputs[0],
}
