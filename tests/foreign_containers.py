"""Writers of other programs' containers: Torch7, ONNX, Keras, raw variables, with tiny random networks.

Each writes a network and returns the forward of its program in plain torch functions, from an image in [0, 1] to one
that is not clamped. The ONNX writer returns the state instead.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from foreign_files import State, convolve, make, normalize
from torch import Tensor

CAFFE = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)  # blue, green, red
Run = Callable[[Tensor], Tensor]


class Torch7Writer:
    """A writer of Lua values in Torch7's binary format.

    A module is (class, fields). Each tensor is a view into a storage of its own, at an offset.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.index = 0

    def write(self, value: Any) -> Torch7Writer:
        if isinstance(value, bool):
            self.data += struct.pack("<ii", 5, value)
        elif isinstance(value, (int, float)):
            self.data += struct.pack("<id", 1, value)
        elif isinstance(value, str):
            self.data += struct.pack("<i", 2) + self.text(value)
        elif isinstance(value, dict):
            self.data += struct.pack("<iii", 3, self.number(), len(value))
            for key, item in value.items():
                self.write(key).write(item)
        elif isinstance(value, Tensor):
            self.tensor(value)
        elif value is None:
            self.data += struct.pack("<i", 0)
        else:
            kind, fields = value
            self.data += struct.pack("<ii", 4, self.number()) + self.text("V 1") + self.text(kind)
            self.write(fields)
        return self

    def number(self) -> int:
        self.index += 1
        return self.index

    @staticmethod
    def text(text: str) -> bytes:
        return struct.pack("<i", len(text)) + text.encode("latin-1")

    def tensor(self, value: Tensor, offset: int = 3) -> None:
        n = value.ndim
        self.data += struct.pack("<ii", 4, self.number()) + self.text("V 1") + self.text("torch.FloatTensor")
        self.data += struct.pack(f"<i{2 * n + 1}q", n, *value.shape, *value.stride(), offset + 1)
        self.data += struct.pack("<ii", 4, self.number()) + self.text("V 1") + self.text("torch.FloatStorage")
        numbers = [7.0] * offset + value.flatten().tolist()
        self.data += struct.pack(f"<q{len(numbers)}f", len(numbers), *numbers)


def torch7_modules(state: State, norm: str) -> Any:
    """Return jcjohnson's network as modules, from a state with rrmina's keys (the same layers in the same order)."""

    def conv(name: str, k: int, s: int, pad: int, full: bool = False) -> Any:
        fields = {"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"], "train": False}
        fields |= {"kW": k, "kH": k, "dW": s, "dH": s, "padW": pad, "padH": pad}
        fields |= {"adjW": 1, "adjH": 1} if full else {}
        return ("nn.SpatialFullConvolution" if full else "nn.SpatialConvolution", fields)

    def normed(name: str) -> Any:
        fields = {"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"], "eps": 1e-5}
        if norm == "instance":
            return ("nn.InstanceNormalization", fields)
        means = {"running_mean": state[f"{name}.running_mean"], "running_var": state[f"{name}.running_var"]}
        return ("nn.SpatialBatchNormalization", fields | means)

    def listed(kind: str, *children: Any) -> Any:
        return (kind, {"modules": {n + 1: child for n, child in enumerate(children)}, "train": False})

    relu = ("nn.ReLU", {"inplace": True})
    layers: list[Any] = [("nn.SpatialReflectionPadding", dict.fromkeys(("pad_l", "pad_r", "pad_t", "pad_b"), 40))]
    for n, (k, s) in ((0, (9, 1)), (2, (3, 2)), (4, (3, 2))):
        layers += [conv(f"ConvBlock.{n}.conv_layer", k, s, k // 2), normed(f"ConvBlock.{n}.norm_layer"), relu]
    for n in range(5):
        first, second = f"ResidualBlock.{n}.conv1", f"ResidualBlock.{n}.conv2"
        branch = listed(
            "nn.Sequential", conv(f"{first}.conv_layer", 3, 1, 0), normed(f"{first}.norm_layer"), relu,
            conv(f"{second}.conv_layer", 3, 1, 0), normed(f"{second}.norm_layer"),
        )  # fmt: skip
        table = listed("nn.ConcatTable", branch, ("nn.ShaveImage", {"size": 2}))
        layers.append(listed("nn.Sequential", table, ("nn.CAddTable", {})))
    for n in (0, 2):
        layers += [
            conv(f"DeconvBlock.{n}.conv_transpose", 3, 2, 1, full=True),
            normed(f"DeconvBlock.{n}.norm_layer"),
            relu,
        ]
    layers += [conv("DeconvBlock.4.conv_layer", 9, 1, 4), ("nn.Tanh", {}), ("nn.MulConstant", {"constant_scalar": 150})]
    return listed("nn.Sequential", *layers, ("nn.TotalVariation", {"strength": 1e-6}))


def write_torch7(path: Path, norm: str = "instance", wrapped: bool = True) -> Run:
    """Write jcjohnson's .t7: {opt, model}, or the bare model."""
    state = make("rrmina")
    generator = torch.Generator().manual_seed(1)
    for key in [key for key in state if key.endswith("norm_layer.weight")]:
        name = key.removesuffix(".weight")
        state[f"{name}.running_mean"] = torch.randn(len(state[key]), generator=generator)
        state[f"{name}.running_var"] = torch.rand(len(state[key]), generator=generator) * 20 + 1
    model = torch7_modules(state, norm)
    content = {"opt": {"preprocessing": "vgg", "style_image": "muse.jpg"}, "model": model} if wrapped else model
    path.write_bytes(Torch7Writer().write(content).data)

    def normed(name: str, x: Tensor) -> Tensor:
        if norm == "instance":
            return normalize(state, name, x)
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-5)

    def layer(name: str, x: Tensor, stride: int = 1, pad: bool = True) -> Tensor:
        weight, bias = state[f"{name}.conv_layer.weight"], state[f"{name}.conv_layer.bias"]
        return normed(f"{name}.norm_layer", F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2 if pad else 0))

    def run(image: Tensor) -> Tensor:
        x = F.pad(image.flip(1) * 255 - CAFFE, (40,) * 4, mode="reflect")
        for n in (0, 2, 4):
            x = F.relu(layer(f"ConvBlock.{n}", x, 2 if n else 1))
        for n in range(5):
            y = F.relu(layer(f"ResidualBlock.{n}.conv1", x, pad=False))
            x = x[..., 2:-2, 2:-2] + layer(f"ResidualBlock.{n}.conv2", y, pad=False)
        for n in (0, 2):
            name = f"DeconvBlock.{n}.conv_transpose"
            x = F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], 2, 1, 1)
            x = F.relu(normed(f"DeconvBlock.{n}.norm_layer", x))
        x = F.conv2d(x, state["DeconvBlock.4.conv_layer.weight"], state["DeconvBlock.4.conv_layer.bias"], padding=4)
        return (150 * torch.tanh(x) + CAFFE).flip(1) / 255

    return run


def write_variables(folder: Path, width: int = 4) -> Run:
    """Write lengstrom's folder: raw little-endian float32 and manifest.json."""
    random = torch.Generator().manual_seed(2)
    w = width
    layers = [
        (9, 3, w),
        (3, w, 2 * w),
        (3, 2 * w, 4 * w),
        *[(3, 4 * w, 4 * w)] * 10,
        (3, 2 * w, 4 * w),
        (3, w, 2 * w),
        (9, w, 3),
    ]
    variables: list[Tensor] = []
    for i, (k, a, b) in enumerate(layers):
        out = a if i in (13, 14) else b  # transposed kernels are (height, width, out, in)
        variables.append(torch.randn(k, k, a, b, generator=random) / (k * (a if out == b else b) ** 0.5))
        variables.append(torch.randn(out, generator=random) * 0.3)
        variables.append(1 + torch.randn(out, generator=random) * 0.3)
    folder.mkdir(exist_ok=True)
    names = ["Variable", *(f"Variable_{n}" for n in range(1, len(variables)))]
    for name, value in zip(names, variables, strict=True):
        (folder / name).write_bytes(value.numpy().astype("<f4").tobytes())
    manifest = {name: {"filename": name, "shape": list(v.shape)} for name, v in zip(names, variables, strict=True)}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    def same(x: Tensor, k: int, s: int) -> Tensor:
        edges = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // s) - 1) * s + k - side, 0)
            edges += [total // 2, total - total // 2]
        return F.pad(x, edges)

    def normed(i: int, x: Tensor) -> Tensor:
        state = {"n.weight": variables[3 * i + 2], "n.bias": variables[3 * i + 1]}
        return normalize(state, "n", x, eps=1e-3)

    def layer(i: int, x: Tensor, s: int = 1) -> Tensor:
        kernel = variables[3 * i].permute(3, 2, 0, 1)
        return normed(i, F.conv2d(same(x, kernel.shape[-1], s), kernel, stride=s))

    def up(i: int, x: Tensor) -> Tensor:
        # The gradient of a SAME convolution of stride 2 from twice the size, which pads nothing at the top and left.
        height, width = x.shape[-2:]
        big = torch.zeros(1, variables[3 * i].shape[2], 2 * height, 2 * width, requires_grad=True)
        down = F.conv2d(same(big, 3, 2), variables[3 * i].permute(3, 2, 0, 1), stride=2)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(down, big, x)
        return normed(i, gradient)

    def run(image: Tensor) -> Tensor:
        with torch.enable_grad():
            x = F.relu(layer(0, image * 255))
            x = F.relu(layer(2, F.relu(layer(1, x, 2)), 2))
            for i in range(3, 13, 2):
                x = x + layer(i + 1, F.relu(layer(i, x)))
            x = F.relu(up(14, F.relu(up(13, x))))
            return ((150 * torch.tanh(layer(15, x)) + 127.5) / 255).detach()

    return run


def write_keras(path: Path, width: int = 4) -> Run:
    """Write rajatdv's .h5 with only weights."""
    import h5py

    random = torch.Generator().manual_seed(3)
    names, state = ["input_1"], {}
    counts = {"conv2d": 0, "batch_normalization": 0, "activation": 0, "merge": 0, "up_sampling2d": 0}

    def add(kind: str) -> str:
        counts[kind] += 1
        names.append(f"{kind}_{counts[kind]}")
        return names[-1]

    def conv(k: int, inner: int, out: int, norm: bool = True, relu: bool = True) -> None:
        name = add("conv2d")
        state[f"{name}/kernel:0"] = torch.randn(k, k, inner, out, generator=random) / (k * inner**0.5)
        state[f"{name}/bias:0"] = torch.randn(out, generator=random)
        if norm:
            name = add("batch_normalization")
            for field in ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0"):
                state[f"{name}/{field}"] = torch.rand(out, generator=random) + 0.1
        if relu:
            add("activation")

    conv(9, 3, width)
    state["conv2d_1/kernel:0"] /= 255  # pixels are 0..255; unscaled, tanh would saturate and amplify rounding
    for _ in range(4):
        conv(3, width, width)
        conv(3, width, width, relu=False)
        add("merge")
    for _ in range(2):
        add("up_sampling2d")
        conv(3, width, width)
    conv(9, width, 3, norm=False, relu=False)
    names.append("lambda_1")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            mine = [key for key in state if key.startswith(f"{name}/")]
            group.attrs["weight_names"] = [key.encode() for key in mine]
            for key in mine:
                group[key] = state[key].numpy()

    def layer(n: int, x: Tensor) -> Tensor:
        x = convolve(
            {"c.weight": state[f"conv2d_{n}/kernel:0"].permute(3, 2, 0, 1), "c.bias": state[f"conv2d_{n}/bias:0"]},
            "c",
            x,
            mode="constant",
        )
        if n == 12:
            return x
        parts = (
            state[f"batch_normalization_{n}/{f}"] for f in ("moving_mean:0", "moving_variance:0", "gamma:0", "beta:0")
        )
        return F.batch_norm(x, *parts, eps=1e-3)

    def run(image: Tensor) -> Tensor:
        x = F.relu(layer(1, image * 255))
        for n in (2, 4, 6, 8):
            x = x + layer(n + 1, F.relu(layer(n, x)))
        for n in (10, 11):
            x = F.relu(layer(n, F.interpolate(x, scale_factor=2, mode="nearest")))
        return (torch.tanh(layer(12, x)) + 1) * 127.5 / 255

    return run


def write_onnx(path: Path, family: str, named: bool = True, residual: str = "plain") -> State:
    """Write pytorch/examples' network, or one that differs in ``residual``, as current exporters do; return its state."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    state = make(family)
    rename = {key: key if named else str(n + 1) for n, key in enumerate(state)}
    nodes, blocks = [], [f"res{n + 1}" for n in range(5)]
    ups = [
        key.removesuffix(".weight")
        for key in state
        if key.startswith(("deconv", "upsample_conv")) and key.endswith("weight")
    ]
    current, count = "image", 0

    def add(operation: str, inputs: list[str], **attributes: Any) -> None:
        nonlocal current, count
        count += 1
        current = f"value{count}"
        nodes.append(helper.make_node(operation, inputs, [current], **attributes))

    def layer(conv: str, norm: str = "", stride: int = 1, relu: bool = True) -> None:
        k = state[f"{conv}.weight"].shape[-1]
        p = k // 2
        nodes.append(
            helper.make_node(
                "Constant",
                [],
                [f"pads{count}"],
                value=helper.make_tensor("p", TensorProto.INT64, [8], [0, 0, p, p] * 2),
            )
        )
        add("Pad", [current, f"pads{count}"], mode="reflect")
        weights = [rename[f"{conv}.weight"], rename[f"{conv}.bias"]]
        add("Conv", [current, *weights], kernel_shape=[k, k], strides=[stride] * 2, pads=[0] * 4)
        if norm:
            add("InstanceNormalization", [current, rename[f"{norm}.weight"], rename[f"{norm}.bias"]], epsilon=1e-5)
        if norm and relu:
            add("Relu", [current])

    def double() -> None:
        scales = helper.make_tensor("s", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
        nodes.append(helper.make_node("Constant", [], [f"scales{count}"], value=scales))
        add(
            "Resize",
            [current, "", f"scales{count}"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    layer("conv1.conv2d", "in1")
    layer("conv2.conv2d", "in2", 2)
    layer("conv3.conv2d", "in3", 2)
    for block in blocks:
        skip = current
        layer(f"{block}.conv1.conv2d", f"{block}.in1")
        layer(f"{block}.conv2.conv2d", f"{block}.in2", relu=False)
        add("Add", [current, skip])
        if residual == "twice":
            add("Add", [current, skip])
        if residual == "relu":
            add("Relu", [current])
    double()
    layer(ups[0], "in4")
    double()
    layer(ups[1], "in5")
    layer(ups[2])
    shape = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value.numpy(), rename[key]) for key, value in state.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return state
