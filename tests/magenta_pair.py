"""A small pair of ONNX files like Magenta's: names, structure and weights of 8 bits as the converter wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
LINK, NUMBERS = "mobilenet_conv/Conv/BiasAdd", 5
OPSET = [helper.make_opsetid("", 21)]


class Writer:
    """Nodes and weights of a graph, written as the converter wrote the original: weights in 8 bits."""

    def __init__(self, seed: int) -> None:
        self.random, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(to_tensor(array, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def bytes(self, name: str, shape: tuple[int, ...], scale: float, kind=np.int8) -> str:
        codes = self.random.integers(-127, 128, shape).astype(kind)
        inputs = [self.constant(name, codes), self.constant(f"{name}_s", np.float32(scale))]
        return self.node(
            "DequantizeLinear", [*inputs, self.constant(f"{name}_z", np.zeros((), kind))], f"{name}_dequant"
        )

    def convolution(self, value: str, name: str, shape: tuple[int, ...], output: str, **attributes) -> str:
        scale = 1 / (127 * np.sqrt(np.prod(shape[1:]) / 4))
        weight, bias = self.bytes(f"{name}weights", shape, scale), self.bytes(f"{name}bias", shape[:1], 2e-3, np.int32)
        return self.node("Conv", [value, weight, bias], output, **attributes)

    def save(self, path, inputs: dict[str, tuple], output: str) -> None:
        described = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()
        ]
        result = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "main", described, [result], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=OPSET), path)


def write_predict(path, seed: int = 1) -> None:
    """Write a small network that looks at paintings, with values of 8 bits."""
    writer = Writer(seed)
    scale, zero = writer.constant("s", np.float32(1 / 64)), writer.constant("z", np.int8(-3))
    writer.node("QuantizeLinear", ["style_image", scale, zero], "q")
    writer.node("DequantizeLinear", ["q", scale, zero], "d")
    writer.node("Transpose", ["d"], "t", perm=[0, 3, 1, 2])
    writer.convolution("t", "a/", (4, 3, 3, 3), "a", strides=[2, 2], pads=[0, 0, 1, 1])
    writer.node("Clip", ["a", writer.constant("0", np.float32(0)), writer.constant("6", np.float32(6))], "c")
    writer.convolution("c", "b/", (4, 1, 3, 3), "b", group=4, pads=[1, 1, 1, 1])
    writer.node("Add", ["b", "c"], "e")
    writer.node("GlobalAveragePool", ["e"], "g")
    writer.convolution("g", "f/", (NUMBERS, 4, 1, 1), "f")
    writer.node("Reshape", ["f", writer.constant("shape", np.array([1, 1, 1, NUMBERS]))], LINK)
    writer.save(path, {"style_image": (1, 256, 256, 3)}, LINK)


def write_transform(path, seed: int = 2, side: int = 32) -> None:
    """Write a small network that paints, with the names and the structure of the original."""
    writer = Writer(seed)
    writer.constant("vector_shape", np.array([1, NUMBERS, 1, 1]))
    writer.node("Reshape", [LINK, "vector_shape"], "vector")
    writer.constant("eps", np.float32(1e-5))
    value = writer.node("Transpose", ["content_image"], "image", perm=[0, 3, 1, 2])

    def padded(value: str, name: str, pad: int) -> str:
        amounts = writer.constant(f"{name}pads", np.array([0, 0, pad, pad, 0, 0, pad, pad]))
        return writer.node("Pad", [value, amounts], f"{name}padded", mode="reflect")

    def normed(value: str, name: str, channels: int) -> str:
        rows = [
            writer.convolution(
                "vector", f"style_params/{name}{part}/", (channels, NUMBERS, 1, 1), f"style_params/{name}{part}/BiasAdd"
            )
            for part in ("StyleNorm/Conv", "StyleNorm/Conv_1")
        ]
        mean = writer.node("GlobalAveragePool", [value], f"{name}mean")
        difference = writer.node("Sub", [value, mean], f"{name}difference")
        square = writer.node("Mul", [difference, difference], f"{name}square")
        variance = writer.node("GlobalAveragePool", [square], f"{name}variance")
        root = writer.node("Sqrt", [writer.node("Add", [variance, "eps"], f"{name}sum")], f"{name}root")
        scaled = writer.node("Mul", [writer.node("Div", [difference, root], f"{name}unit"), rows[1]], f"{name}scaled")
        return writer.node("Add", [scaled, rows[0]], f"{name}normed")

    channels = 3
    for i, (out, kernel, stride) in enumerate([(4, 9, 1), (6, 3, 2), (8, 3, 2)], 1):
        name = f"transformer/contract/conv{i}/"
        value = padded(value, name, kernel // 2)
        value = writer.convolution(
            value, name, (out, channels, kernel, kernel), f"{name}Relu_prequant", strides=[stride, stride]
        )
        value, channels = writer.node("Relu", [value], f"{name}Relu"), out
    for block in (1, 2):
        skip = value
        for i in (1, 2):
            name = f"transformer/residual/residual{block}/conv{i}/"
            value = writer.convolution(padded(value, name, 1), name, (8, 8, 3, 3), f"{name}Conv2D")
            value = normed(value, name, 8)
            value = writer.node("Relu", [value], f"{name}Relu") if i == 1 else value
        value = writer.node("Add", [skip, value], f"block{block}")
    for i, (out, kernel, scale) in enumerate([(6, 3, 2), (4, 3, 2), (3, 9, 1)], 1):
        name = f"transformer/expand/conv{i}/conv/"
        factors = writer.constant(f"{name}factors", np.array([1, 1, scale, scale], np.float32))
        value = writer.node(
            "Resize", [value, "", factors], f"{name}large", mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip
        value = padded(value, name, kernel // 2)
        value = writer.convolution(value, name, (out, channels, kernel, kernel), f"{name}Conv2D")
        value, channels = normed(value, name, out), out
        value = writer.node("Relu" if i < 3 else "Sigmoid", [value], f"{name}out")
    writer.node("Transpose", [value], "result", perm=[0, 2, 3, 1])
    writer.save(path, {"content_image": (1, side, side, 3), LINK: (1, 1, 1, NUMBERS)}, "result")


def write_pair(folder: Path) -> Path:
    """Write both files into a folder, and return the one that predicts."""
    write_transform(folder / "arbitrary_transform.onnx")
    write_predict(folder / "arbitrary_predict.onnx")
    return folder / "arbitrary_predict.onnx"
