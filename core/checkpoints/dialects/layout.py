"""Layouts: how a family of checkpoints names the layers of a network, checked key by key and shape by shape.

A family lists its layers in order as `Slot`s. `fit` finds all their tensors in a file, and takes the channels from the
shapes. It fails unless the file holds exactly these tensors. No file records strides: the family defines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...network.arch import ArchSpec
from ...network.layers import Layer
from ...network.transform_net import TransformNet

Shapes = Mapping[str, tuple[int, ...]]
_MOST_SLOTS, _LARGEST_STRIDE = 1000, 8
_MOST_USES = 16  # of each tensor, on average; A-Jacobson's network uses one eight times


@dataclass(frozen=True)
class Slot:
    """One layer.

    Attributes:
        kind: as in `Layer`
        convs: prefixes of its convolutions' keys, two in a residual block
        norms: prefixes of its norms' keys, likewise
        kernel: side of its kernel
        stride: of its convolution, or factor of its upsampling
    """

    kind: str
    convs: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    kernel: int = 3
    stride: int = 1


def conv(name: str, norm: str = "", kernel: int = 3, stride: int = 1, kind: str = "conv") -> Slot:
    """Return the slot of a convolution, with its norm if it has one."""
    return Slot(kind, (name,), (norm,) if norm else (), kernel, stride)


def transposed(name: str, norm: str) -> Slot:
    """Return the slot of a 3x3 transposed convolution of stride 2."""
    return conv(name, norm, 3, 2, "transposed")


def residual(first: str, first_norm: str, second: str, second_norm: str) -> Slot:
    """Return the slot of a residual block: two 3x3 convolutions with their norms."""
    return Slot("residual", (first, second), (first_norm, second_norm))


def nearest(factor: int = 2) -> Slot:
    """Return the slot of a nearest-neighbor upsampling with nothing after it."""
    return Slot("nearest", stride=factor)


@dataclass(frozen=True)
class Names:
    """Names of the tensors of a norm.

    Attributes:
        scale: of the scale
        shift: of the shift
        statistics: of running statistics that are used
        unused: of tensors that may be stored but are not used
    """

    scale: str = "weight"
    shift: str = "bias"
    statistics: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """A match of a file with a family's layers.

    Attributes:
        layers: the layers with their channels
        keys: (slot, key of TransformNet without its stage's number) -> key of the file
    """

    layers: tuple[Layer, ...]
    keys: Mapping[tuple[int, str], str] = field(default_factory=dict)


def fit(
    slots: list[Slot], shapes: Shapes, names: Names, extra: tuple[str, ...] = (), problems: list[str] | None = None
) -> Fit | None:
    """Match a file's tensors with a family's layers.

    A convolution's bias may be missing, which means zero.

    Args:
        slots: the layers
        shapes: shapes of the file's tensors by key
        names: names of the tensors of norms
        extra: further prefixes of norms that may be stored but are not used
        problems: a list to which tensors are added whose shapes do not fit

    Returns:
        The match, or None unless every tensor fits and none is left over.
    """
    if len(slots) > _MOST_SLOTS or any(not 1 <= slot.stride <= _LARGEST_STRIDE for slot in slots):
        return None
    layers: list[Layer] = []
    keys: dict[tuple[int, str], str] = {}
    left = set(shapes)
    channels = 3

    def take(slot: int, ours: str, theirs: str, shape: tuple[int, ...]) -> bool:
        keys[slot, ours] = theirs
        left.discard(theirs)  # tied weights are used more than once
        if shapes.get(theirs) != shape and problems is not None:
            problems.append(f"{theirs} is {shapes.get(theirs)} instead of {shape}")
        return shapes.get(theirs) == shape

    def ignore(theirs: str, channels: int) -> bool:
        left.discard(theirs)
        return shapes.get(theirs) in (None, () if theirs.endswith("num_batches_tracked") else (channels,))

    def take_conv(i: int, part: str, name: str) -> int:
        """Return the channels of the output, 0 if it does not fit."""
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
    """Return the network of ``spec`` with the file's ``tensors``, float32, in eval mode.

    Raises:
        CheckpointError: the network repeats a few tensors so often that it would be far larger than its file
    """
    _check_uses([tensors[key] for key in found.keys.values()])
    with torch.device("meta"):
        network = TransformNet(spec)
    shift = 1 if spec.start_padding else 0
    state = {
        f"stages.{slot + shift}.{ours}": tensors[theirs].detach().to("cpu", torch.float32).contiguous()
        for (slot, ours), theirs in found.keys.items()
    }
    for key, expected in network.state_dict().items():
        if key.endswith("conv.bias") and key not in state:
            state[key] = torch.zeros(expected.shape, dtype=torch.float32, device="cpu")
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=expected.dtype, device="cpu")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _check_uses(used: list[Tensor]) -> None:
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in used}
    if sum(tensor.nbytes for tensor in used) > _MOST_USES * sum(stored.values()):
        raise CheckpointError("it is damaged: its layers use the same few tensors again and again")


def doubles(layers: tuple[Layer, ...]) -> bool:
    """Return whether the channels are w, 2w, 4w, ..., 2w, w, 3.

    That holds for every network with two strides of 2 and two upsamplings.
    """
    channels = [layer.channels for layer in layers if layer.kind in ("conv", "transposed")]
    w = channels[0]
    return channels == [w, 2 * w, 4 * w, 2 * w, w, 3]


def numbered(shapes: Shapes, prefix: str, start: int = 1) -> list[str]:
    """Return prefixes ``prefix1``, ``prefix2``, ... up to the first that the file's keys lack."""
    found: list[str] = []
    heads = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
    while str(len(found) + start) in heads:
        found.append(f"{prefix}{len(found) + start}")
    return found
