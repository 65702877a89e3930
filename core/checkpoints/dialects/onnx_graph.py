"""ONNX exports of these networks: the graph records everything but the pixel convention.

Nodes are read in order, as exporters write them: pad, convolve, normalize (in one node or several), activate, add. If
the weights kept their names, the family that they belong to defines the pixel convention. Otherwise it is
pytorch/examples' RGB 0..255.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ArchError, CheckpointError, shortened
from ...network.arch import ArchSpec
from ...network.pixels import PixelConvention
from ...optional import need
from ..budget import Budget
from .family import Family, Foreign
from .layout import Names, Slot, build, fit
from .onnx_nodes import Nodes
from .onnx_size import count_parts

NAME = "ONNX"
_PIXELS = "rgb in=255 out=255"


def read(path: Path, families: list[Family]) -> Foreign:
    """Read an ONNX file.

    Args:
        path: the file
        families: those whose names of weights are recognized

    Raises:
        CheckpointError: for the graph of another network, with the node, or if the package onnx is missing
    """
    onnx = need("onnx", "onnx", f"{path} is an ONNX file", CheckpointError)
    try:
        budget, data = Budget.of(path), path.read_bytes()
        count_parts(data, budget)
        walk = _Walk(onnx, onnx.load_model_from_string(data).graph, budget)
        slots = walk.layers()
        shapes = {key: tuple(tensor.shape) for key, tensor in walk.tensors.items()}
        found = fit(slots, shapes, Names(statistics=("running_mean", "running_var") if walk.batch else ()))
        if found is None:
            raise CheckpointError("its weights do not fit its nodes")
        spec = ArchSpec(found.layers, **walk.options(slots))
        if walk.guessed and spec.scale != 1:
            raise CheckpointError("the factors of its resizes are computed, and cannot be 2")
        facts = {"family": NAME}
        pixels = _PIXELS
        for family in families:
            recognized = family.recognize(walk.used)
            if recognized and recognized[0] == spec:
                pixels = family.pixels
                facts = {"family": f"{family.name} ({NAME})", "source": family.source}
        return Foreign(build(spec, found, walk.tensors), PixelConvention.parse(pixels), facts)
    except (CheckpointError, ArchError) as error:
        raise CheckpointError(f"{path} is not a supported style network: {error}") from None
    except Exception as error:  # protobuf's errors, and whatever a damaged graph leads to
        reason = shortened(str(error))
        raise CheckpointError(
            f"{path} is a damaged or incomplete ONNX file ({type(error).__name__} {reason}); copy or download it again"
        ) from None


class _Walk(Nodes):
    """A walk over the nodes that collects the layers in order."""

    def __init__(self, onnx: Any, graph: Any, budget: Budget) -> None:
        super().__init__(onnx, graph, budget)
        self.residuals: set[str] = set()
        self.output = "linear"
        self.guessed = False

    @property
    def batch(self) -> bool:
        return self.norms == {"batch"}

    def options(self, slots: list[Slot]) -> dict[str, Any]:
        for what, values in (("paddings", self.paddings), ("norms", self.norms), ("residual blocks", self.residuals)):
            if len(values) > 1:
                raise CheckpointError(f"its {what} differ: {', '.join(sorted(values))}")
        if len(self.eps) > 1:
            raise CheckpointError("the eps of its norms differ")
        return {
            "norm": next(iter(self.norms), "none"),
            "padding": next(iter(self.paddings), "zero"),
            "residual": next(iter(self.residuals), "plain"),
            "output": self.output,
            "last": "norm" if slots[-1].norms else "plain",
            "eps": next(iter(self.eps), 1e-5),
        }

    def layers(self) -> list[Slot]:
        slots: list[Slot] = []
        while operation := self.peek():
            if operation in ("Resize", "Upsample"):
                slots.append(self.resize(self.step()))
            elif operation == "Reshape" and self.doubles_by_concat():
                slots.append(Slot("nearest", stride=2))
                self.side *= 2
            elif operation in ("Tanh", "Sigmoid", "Mul") and slots:
                self.finish()
            elif operation in ("Pad", "Conv", "ConvTranspose"):
                slots.append(self.residual() if self.begins_block() else self.layer())
            else:
                node = self.nodes[self.place]
                name = shortened(node.name, 60)
                raise CheckpointError(f"the node {shortened(node.op_type, 40)} {name!r} is not expected at its place")
        if not slots or self.current != self.end:
            raise CheckpointError("its nodes do not lead from the input image to the output image")
        return slots

    def begins_block(self) -> bool:
        """Return whether the current value starts a residual block: it is also added to something later."""
        return self.last_added.get(self.current, -1) >= self.place

    def layer(self) -> Slot:
        slot = self.convolution()
        if self.peek() == "Relu":
            self.step()
        elif self.place < len(self.nodes) and self.peek() not in ("Tanh", "Sigmoid", "Mul"):
            raise CheckpointError("a layer before the last has no ReLU")
        return slot

    def residual(self) -> Slot:
        skip = self.current
        first = self.convolution()
        if self.peek() != "Relu":
            raise CheckpointError("a residual block has no ReLU between its convolutions")
        self.step()
        second = self.convolution()
        if {(slot.kind, slot.kernel, slot.stride) for slot in (first, second)} != {("conv", 3, 1)}:
            raise CheckpointError("a residual block has convolutions other than 3x3 of stride 1")
        kind = "none"
        while self.peek() == "Add" and skip in self.nodes[self.place].input:
            self.step()
            kind = {"none": "plain", "plain": "twice"}.get(kind, "more")
        if self.peek() == "Relu":
            self.step()
            kind = "relu" if kind == "plain" else "other"
        if kind not in ("plain", "twice", "relu"):
            raise CheckpointError("a residual block adds its input in an unsupported way")
        self.residuals.add(kind)
        return Slot("residual", first.convs + second.convs, first.norms + second.norms)

    def convolution(self) -> Slot:
        """Read [Pad,] Conv or ConvTranspose [, norm]."""
        padding: tuple[int, ...] = (0, 0, 0, 0)
        mode = ""
        if self.peek() == "Pad":
            padding, mode = self.padding(self.step())
        if self.peek() not in ("Conv", "ConvTranspose"):
            raise CheckpointError(f"a convolution is expected before {self.peek() or 'the end'!r}")
        node = self.step()
        name, values = str(len(self.tensors)), self.attributes(node)
        weight = self.store(f"{name}.weight", node.input[1], flat=False)
        if len(node.input) > 2 and node.input[2]:
            self.store(f"{name}.bias", node.input[2])
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            raise CheckpointError(f"a convolution has weights {tuple(weight.shape)}")
        kernel, strides = weight.shape[-1], values.get("strides", [1, 1])
        own = tuple(values.get("pads", [0] * 4))
        usual = values.get("group", 1) == 1 and set(values.get("dilations", [1])) == {1} and len(set(strides)) == 1
        if not usual or values.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise CheckpointError("a convolution is grouped, dilated or padded in an unsupported way")
        half, stride = (kernel - 1) // 2, int(strides[0])
        if node.op_type == "ConvTranspose":
            if mode or set(own) != {half} or set(values.get("output_padding", [0])) != {stride - 1}:
                raise CheckpointError("the output of a transposed convolution is not a multiple of its input's size")
            self.side *= stride
        else:
            if any(own) and mode or set(padding if mode else own) != {half}:
                raise CheckpointError(f"a convolution of {kernel} x {kernel} is not padded by {half} px")
            self.paddings.add(mode or "zero")
            self.side = -(-self.side // stride)
        norm = self.norm(len(weight) if node.op_type == "Conv" else weight.shape[1])
        kind = "conv" if node.op_type == "Conv" else "transposed"
        return Slot(kind, (name,), (norm,) if norm else (), kernel, stride)

    def resize(self, node: Any) -> Slot:
        values = self.attributes(node)
        factor = 0.0
        if values.get("mode", b"nearest") == b"nearest":
            found = [self.numbers(self.constants[name]) for name in node.input[1:] if name in self.constants]
            known = [numbers for numbers in [values.get("scales"), *found] if numbers is not None and len(numbers) == 4]
            for numbers in known:
                is_size = numbers[2] > 8
                factor = numbers[2] / self.side if is_size and self.side else numbers[2]
                if numbers[3] != numbers[2] and not is_size:
                    factor = 0.0
            if not known:  # exporters of networks for any size compute it from the size
                factor, self.guessed = 2.0, True
        if factor != int(factor) or not 1 <= factor <= 8:
            raise CheckpointError("a resize that is not a nearest-neighbor enlargement by a fixed factor")
        self.side *= int(factor)
        return Slot("nearest", stride=int(factor))

    def doubles_by_concat(self) -> bool:
        """Skip nearest-neighbor doubling as early exporters wrote it: columns, then rows, each joined with a copy plus 0.

        Returns:
            Whether the nodes were such a doubling.
        """
        nodes = self.nodes[self.place : self.place + 7]
        if [n.op_type for n in nodes] != ["Reshape", "Add", "Concat", "Reshape", "Add", "Concat", "Reshape"]:
            return False
        added = [self.constants.get(name) for node in (nodes[1], nodes[4]) for name in node.input]
        if sum(value is not None and value.size == 1 and float(value) == 0 for value in added) != 2:
            return False
        self.place, self.current = self.place + 7, nodes[-1].output[0]
        return True

    def finish(self) -> None:
        """Read the output function: tanh, sigmoid, or a multiple of tanh."""
        node = self.step()
        if node.op_type == "Mul":
            raise CheckpointError("it multiplies its output without a tanh before")
        if node.op_type == "Sigmoid":
            self.output = "sigmoid"
            return
        constant = 1.0
        while self.peek() == "Mul":
            other = [name for name in self.nodes[self.place].input if name != self.current]
            constant *= float(self.constant(other[0]))
            self.step()
        self.output = f"tanh{constant:.10g}"
