"""Folding of the constant parts of an ONNX graph: shapes, paddings and reshaped weights that exporters write as nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import CheckpointError
from ..budget import Budget

_MAX_ELEMENTS = 2**16  # of a result that is larger than what it is made of
_MAX_AXES = 8


def array_of(onnx: Any, tensor: Any) -> np.ndarray:
    """Return an ONNX tensor as an array. Raise CheckpointError if its values are in another file."""
    if tensor.data_location or tensor.external_data:
        raise CheckpointError("its weights are in another file; save it with the weights inside")
    return onnx.numpy_helper.to_array(tensor)


def fold(
    node: Any, attributes: dict[str, Any], constants: dict[str, Any], to_array: Callable[[Any], Any], budget: Budget
) -> None:
    """Add a node's result to ``constants`` if its inputs are constants and its operation is supported.

    Args:
        node: the node
        attributes: its attributes by name
        constants: arrays by name, extended here
        to_array: converts an ONNX tensor to an array
        budget: what reading the file may still take

    Raises:
        CheckpointError: if the constants take more than the budget
    """
    budget.spend(1 + len(node.input))
    operation = _OPERATIONS.get(node.op_type)
    names = [name for name in node.input if name]
    if operation is None or not all(name in constants for name in names):
        return
    try:
        result = operation([constants[name] for name in names], attributes, to_array)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError):
        return  # using it reports that it is not a constant
    # Each step may copy: a hundred small nodes would fill the memory.
    budget.spend(size=0 if any(result is constants[name] for name in names) else result.nbytes)
    constants[node.output[0]] = result


def _constant(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    if "value" in attributes:
        return to_array(attributes["value"])
    return np.asarray(
        next(attributes[key] for key in ("value_float", "value_floats", "value_int", "value_ints") if key in attributes)
    )


def _constant_of_shape(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    shape = _numbers(inputs[0])
    if any(n < 0 for n in shape) or math.prod(shape) > _MAX_ELEMENTS:
        raise ValueError("too large")
    return np.full(shape, to_array(attributes["value"]).ravel()[0] if "value" in attributes else 0.0)


def _slice(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    data, starts, ends, *rest = inputs
    starts, ends = _numbers(starts), _numbers(ends)
    axes = _numbers(rest[0]) if rest else range(len(starts))
    steps = _numbers(rest[1]) if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # an end before the first element: numpy has no number for it
        index[axis] = slice(start, None if end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def _reshape(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    data, shape = inputs
    shape = _numbers(shape)
    return data.reshape([data.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _concat(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    if sum(data.size for data in inputs) > _MAX_ELEMENTS:
        raise ValueError("too large")
    return np.concatenate(inputs, axis=attributes["axis"])


def _unsqueeze(inputs: list[Any], attributes: dict[str, Any], to_array: Callable[[Any], Any]) -> Any:
    axes = attributes.get("axes") or _numbers(inputs[1])
    if inputs[0].ndim + len(axes) > _MAX_AXES:
        raise ValueError("too many axes")
    return np.expand_dims(inputs[0], tuple(axes))


def _numbers(array: Any) -> list[int]:
    """Return the elements of a short vector of integers, one for each axis."""
    if array.size > _MAX_AXES:
        raise ValueError("too many axes")
    return [int(n) for n in array.ravel()]


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
