"""Layouts: how a family of checkpoints names the layers of a network, checked key by key and shape by shape.

A family gives its layers in order as `Slot`s; `fit` finds every tensor of them in a file, reads the channels off the
shapes, and fails unless the file holds exactly these tensors. Strides are in no file: they are the family's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor

from ...network.arch import ArchSpec
from ...network.layers import Layer
from ...network.transform_net import TransformNet

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Slot:
    """One layer. kind as in `Layer`; convs and norms: the prefixes of its keys, one each, or two in a residual block."""

    kind: str
    convs: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    kernel: int = 3
    stride: int = 1


def conv(name: str, norm: str = "", kernel: int = 3, stride: int = 1, kind: str = "conv") -> Slot:
    """A convolution, and its norm if it has one."""
    return Slot(kind, (name,), (norm,) if norm else (), kernel, stride)


def transposed(name: str, norm: str) -> Slot:
    """A 3x3 transposed convolution of stride 2."""
    return conv(name, norm, 3, 2, "transposed")


def residual(first: str, first_norm: str, second: str, second_norm: str) -> Slot:
    """A residual block: two 3x3 convolutions with their norms."""
    return Slot("residual", (first, second), (first_norm, second_norm))


def nearest(factor: int = 2) -> Slot:
    """Nearest-neighbor upsampling, nothing after it."""
    return Slot("nearest", stride=factor)


@dataclass(frozen=True)
class Names:
    """What the tensors of a norm are called, and what else may lie beside a norm without being used."""

    scale: str = "weight"
    shift: str = "bias"
    statistics: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """layers: what the shapes say; keys: TransformNet's key, without its stage's number, of (slot, key) -> the file's key"""

    layers: tuple[Layer, ...]
    keys: Mapping[tuple[int, str], str] = field(default_factory=dict)


def fit(slots: list[Slot], shapes: Shapes, names: Names, extra: tuple[str, ...] = ()) -> Fit | None:
    """Match a file's tensors with a family's layers; None unless each fits and none is left over.

    extra: further prefixes whose norm tensors may be there unused. A convolution's bias may be missing: it is zero.
    """
    layers: list[Layer] = []
    keys: dict[tuple[int, str], str] = {}
    left = set(shapes)
    channels = 3

    def take(slot: int, ours: str, theirs: str, shape: tuple[int, ...]) -> bool:
        keys[slot, ours] = theirs
        left.discard(theirs)  # tied weights are taken more than once
        return shapes.get(theirs) == shape

    def ignore(theirs: str, channels: int) -> bool:
        left.discard(theirs)
        return shapes.get(theirs) in (None, () if theirs.endswith("num_batches_tracked") else (channels,))

    def take_conv(i: int, part: str, name: str) -> int:
        """The output's channels, 0 when it does not fit."""
        slot, shape = slots[i], shapes.get(f"{name}.weight", ())
        if len(shape) != 4 or 0 in shape:
            return 0
        out = shape[1] if slot.kind == "transposed" else shape[0]
        order = (channels, out) if slot.kind == "transposed" else (out, channels)
        fits = take(i, f"{part}conv.weight", f"{name}.weight", (*order, slot.kernel, slot.kernel))
        if f"{name}.bias" in shapes:
            fits &= take(i, f"{part}conv.bias", f"{name}.bias", (out,))
        return out if fits and (slot.kind != "residual" or out == channels) else 0

    def take_norm(i: int, part: str, name: str) -> bool:
        wanted = {"weight": names.scale, "bias": names.shift} | {s: s for s in names.statistics}
        fits = [take(i, f"{part}norm.{ours}", f"{name}.{theirs}", (channels,)) for ours, theirs in wanted.items()]
        others = [other for other in names.unused if other not in names.statistics]
        return all(fits) and all(ignore(f"{name}.{other}", channels) for other in others)

    for i, slot in enumerate(slots):
        for n, (name, norm) in enumerate(zip_longest(slot.convs, slot.norms)):
            part = ("first.", "second.")[n] if slot.kind == "residual" else ""
            if name and not (channels := take_conv(i, part, name)):
                return None
            if norm and not take_norm(i, part, norm):
                return None
        layers.append(Layer(slot.kind, channels if slot.convs else 0, slot.kernel, slot.stride))
    for prefix in extra:
        if not all(ignore(f"{prefix}.{other}", channels) for other in (names.scale, names.shift, *names.unused)):
            return None
    return None if left else Fit(tuple(layers), keys)


def build(spec: ArchSpec, found: Fit, tensors: Mapping[str, Tensor]) -> TransformNet:
    """The network of ``spec`` holding the file's ``tensors``, as float32, in eval mode."""
    with torch.device("meta"):
        network = TransformNet(spec)
    shift = 1 if spec.start_padding else 0
    state = {
        f"stages.{slot + shift}.{ours}": tensors[theirs].detach().to("cpu", torch.float32).contiguous()
        for (slot, ours), theirs in found.keys.items()
    }
    for key, expected in network.state_dict().items():
        if key.endswith("conv.bias") and key not in state:
            state[key] = torch.zeros(expected.shape)
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=expected.dtype)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def doubles(layers: tuple[Layer, ...]) -> bool:
    """Whether the channels go w, 2w, 4w, ..., 2w, w, 3: as in every network with two strides of 2 and two upsamplings."""
    channels = [layer.channels for layer in layers if layer.kind in ("conv", "transposed")]
    w = channels[0]
    return channels == [w, 2 * w, 4 * w, 2 * w, w, 3]


def numbered(shapes: Shapes, prefix: str, start: int = 1) -> list[str]:
    """Prefixes ``prefix1``, ``prefix2``, ... as far as the file's keys go without a gap."""
    found: list[str] = []
    heads = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
    while str(len(found) + start) in heads:
        found.append(f"{prefix}{len(found) + start}")
    return found
