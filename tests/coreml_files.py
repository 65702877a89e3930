"""Run Core ML packages without Core ML: an interpreter of the operators that this project writes, by their documentation."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

with contextlib.redirect_stderr(io.StringIO()):
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load

KINDS = {"fp16": torch.float16, "fp32": torch.float32}
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "maximum": torch.maximum,
}  # fmt: skip
UNARY = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "sqrt": torch.sqrt, "round": torch.round,
    "identity": lambda x: x,
}  # fmt: skip


class CoreMLModel:
    """A package as it lies on the disk, ready to run."""

    def __init__(self, path: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            self._model = coremltools.models.MLModel(str(path), skip_model_load=True)
            self.spec = self._model.get_spec()
            program = load(self.spec, self.spec.specificationVersion, self._model.weights_dir)
        self._operations = list(program.functions["main"].operations)
        self.kinds = {operation.op_type for operation in self._operations}

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._model.user_defined_metadata)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the result for the numbers of an image, (1, 3, H, W), as Core ML reads them."""
        self._values: dict[str, Any] = {"image": image}
        for operation in self._operations:
            if operation.op_type == "const":
                continue
            inputs = {name: self._value(variable) for name, variable in operation.inputs.items()}
            results = run(operation.op_type, inputs)
            for variable, value in zip(operation.outputs, results, strict=True):
                self._values[variable.name] = value
        return self._values["result"]

    def _value(self, variable: Any) -> Any:
        if isinstance(variable, list | tuple):
            return [self._value(each) for each in variable]
        if variable is None or variable.name in self._values:
            return None if variable is None else self._values[variable.name]
        value = variable.val
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray | np.number) else value


def run(kind: str, given: dict[str, Any]) -> list[Any]:
    """Return the results of one operator."""
    x = given.get("x")
    if kind == "conv":
        return [convolved(**given)]
    if kind == "pad":
        sides = given["pad"].tolist()
        mode = "constant" if given["mode"] == "constant" else given["mode"]
        return [F.pad(x, [*sides[-2:], *sides[-4:-2]], mode=mode)]
    if kind == "instance_norm":
        assert x.dtype == torch.float32
        return [F.instance_norm(x, weight=given["gamma"], bias=given["beta"], eps=float(given["epsilon"]))]
    if kind == "batch_norm":  # coremltools makes one of a scale and a shift
        mean, variance, eps = given["mean"], given["variance"], float(given["epsilon"])
        return [F.batch_norm(x, mean, variance, given["gamma"], given["beta"], eps=eps)]
    if kind == "slice_by_index":
        return [sliced(x, given)]
    if kind == "concat":
        return [torch.cat([each.to(given["values"][-1].dtype) for each in given["values"]], int(given["axis"]))]
    if kind == "split":
        return list(torch.chunk(x, int(given["num_splits"]), int(given["axis"])))
    if kind == "depth_to_space":  # TensorFlow's order
        side, (n, _, height, width) = int(given["block_size"]), x.shape
        return [
            x.view(n, side, side, -1, height, width)
            .permute(0, 3, 4, 1, 5, 2)
            .reshape(n, -1, height * side, width * side)
        ]
    if kind == "upsample_nearest_neighbor":
        return [F.interpolate(x, scale_factor=int(given["scale_factor_height"]), mode="nearest")]
    if kind == "cast":
        return [x.to(KINDS[given["dtype"]])]
    if kind == "clip":
        return [x.clamp(float(given["alpha"]), float(given["beta"]))]
    if kind == "gather":
        return [x.index_select(int(given["axis"]), given["indices"].long())]
    if kind == "reduce_mean":
        return [x.mean([int(each) for each in given["axes"]], keepdim=bool(given["keep_dims"]))]
    if kind == "shape":
        return [torch.tensor(x.shape, dtype=torch.int32)]
    if kind in BINARY:
        y = given["y"]
        assert x.dtype == y.dtype
        return [BINARY[kind](x, y)]
    return [UNARY[kind](x)]


def convolved(x, weight, strides, pad_type, pad, groups, dilations=None, bias=None) -> torch.Tensor:
    """Return a convolution. SAME divides the padding that it needs as TensorFlow does."""
    stride, kernel = int(strides[0]), weight.shape[2:]
    edges = [0] * 4 if pad_type == "valid" else pad.tolist()
    if pad_type == "same":
        wanted = [max((-(-s // stride) - 1) * stride + k - s, 0) for s, k in zip(x.shape[2:], kernel, strict=True)]
        edges = [part for total in wanted for part in (total // 2, total - total // 2)]
    return F.conv2d(F.pad(x, [*edges[2:], *edges[:2]]), weight, bias, stride, groups=int(groups))


def sliced(x: torch.Tensor, given: dict[str, Any]) -> torch.Tensor:
    """Return a part of a tensor. Where a mask is true, it extends to the end."""
    assert given.get("stride") is None or set(given["stride"].tolist()) <= {1}
    mask = given.get("end_mask")
    masked = [False] * x.dim() if mask is None else mask.tolist()
    for axis, (begin, end, whole) in enumerate(
        zip(given["begin"].tolist(), given["end"].tolist(), masked, strict=True)
    ):
        side = x.shape[axis]
        stop = side if whole else end + side if end < 0 else end
        assert 0 <= begin < stop <= side
        x = x.narrow(axis, begin, stop - begin)
    return x
