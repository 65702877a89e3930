"""Tiny checkpoints of every family that is a dict of tensors, and the forward of their programs.

Each family has two functions: ``state`` makes its keys with random weights. ``run`` is its program's forward in plain
torch functions, from an image in [0, 1] to one that is not clamped. Neither uses the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
WIDTH, BLOCKS = 4, 5
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Program:
    """The program of a family.

    Attributes:
        state: makes a checkpoint's tensors
        run: forward of the program, from tensors and an image to an image
        scale: factor of upscaling
    """

    state: Callable[[torch.Generator], State]
    run: Callable[[State, Tensor], Tensor]
    scale: int = 1


def conv_keys(name: str, out: int, inner: int, kernel: int, random: torch.Generator, transposed: bool = False) -> State:
    shape = (inner, out) if transposed else (out, inner)
    weight = torch.randn(*shape, kernel, kernel, generator=random) / (inner**0.5 * kernel)
    return {f"{name}.weight": weight, f"{name}.bias": torch.randn(out, generator=random)}


def norm_keys(name: str, channels: int, random: torch.Generator, *more: str, names=("weight", "bias")) -> State:
    keys = {
        f"{name}.{names[0]}": 1 + 0.3 * torch.randn(channels, generator=random),
        f"{name}.{names[1]}": 0.3 * torch.randn(channels, generator=random),
    }
    for other in more:
        count = () if other == "num_batches_tracked" else (channels,)
        keys[f"{name}.{other}"] = torch.rand(count, generator=random) + 0.5
    return keys


def merge(parts: Iterable[State]) -> State:
    return {key: value for part in parts for key, value in part.items()}


def convolve(state: State, name: str, x: Tensor, stride: int = 1, mode: str = "reflect", up: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    if up > 1:
        x = x.repeat_interleave(up, 2).repeat_interleave(up, 3)
    pad = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (pad,) * 4, mode=mode), weight, state[f"{name}.bias"], stride)


def normalize(state: State, name: str, x: Tensor, eps: float = 1e-5, names=("weight", "bias")) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)
    scale, shift = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in names)
    return (x - mean) / (variance + eps).sqrt() * scale + shift


def transformer(
    ups=("deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"),
    downs=("in1", "in2", "in3"),
    up_norms=("in4", "in5"),
    blocks=tuple(f"res{n + 1}" for n in range(BLOCKS)),
    unused=(),
    names=("weight", "bias"),
    widths=(WIDTH, 2 * WIDTH, 4 * WIDTH),
    never: State | None = None,
) -> Callable[[torch.Generator], State]:
    """Return a function that makes the tensors of pytorch/examples' TransformerNet, or of its relatives."""

    def state(random: torch.Generator) -> State:
        a, b, c = widths
        norm = lambda name, n: norm_keys(name, n, random, *unused, names=names)  # noqa: E731
        parts = [conv_keys("conv1.conv2d", a, 3, 9, random), norm(downs[0], a)]
        parts += [conv_keys("conv2.conv2d", b, a, 3, random), norm(downs[1], b)]
        parts += [conv_keys("conv3.conv2d", c, b, 3, random), norm(downs[2], c)]
        for block in blocks:
            for n in (1, 2):
                parts += [conv_keys(f"{block}.conv{n}.conv2d", c, c, 3, random), norm(f"{block}.in{n}", c)]
        parts += [conv_keys(ups[0], b, c, 3, random), norm(up_norms[0], b)]
        parts += [conv_keys(ups[1], a, b, 3, random), norm(up_norms[1], a)]
        parts += [conv_keys(ups[2], 3, a, 9, random), never or {}]
        return merge(parts)

    return state


def transform(
    s: State, x: Tensor, ups=("deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"), downs=("in1", "in2", "in3"),
    up_norms=("in4", "in5"), add=lambda branch, x: branch + x, eps=1e-5, names=("weight", "bias"), strides=True,
) -> Tensor:  # fmt: skip
    """Run pytorch/examples' TransformerNet; arguments are what its relatives do differently."""
    stride, up = (2, 2) if strides else (1, 1)
    norm = lambda name, x: normalize(s, name, x, eps, names)  # noqa: E731
    y = F.relu(norm(downs[0], convolve(s, "conv1.conv2d", x)))
    y = F.relu(norm(downs[1], convolve(s, "conv2.conv2d", y, stride)))
    y = F.relu(norm(downs[2], convolve(s, "conv3.conv2d", y, stride)))
    for block in dict.fromkeys(key.split(".")[0] for key in s if key.startswith("res")):
        branch = F.relu(norm(f"{block}.in1", convolve(s, f"{block}.conv1.conv2d", y)))
        y = add(norm(f"{block}.in2", convolve(s, f"{block}.conv2.conv2d", branch)), y)
    y = F.relu(norm(up_norms[0], convolve(s, ups[0], y, up=up)))
    y = F.relu(norm(up_norms[1], convolve(s, ups[1], y, up=up)))
    return convolve(s, ups[2], y)


def relu_after(branch: Tensor, x: Tensor) -> Tensor:
    return F.relu(branch + x)


def on_255(run: Callable[[State, Tensor], Tensor]) -> Callable[[State, Tensor], Tensor]:
    return lambda s, image: run(s, image * 255) / 255


def on_bgr_255(run: Callable[[State, Tensor], Tensor]) -> Callable[[State, Tensor], Tensor]:
    return lambda s, image: run(s, image[:, [2, 1, 0]] * 255)[:, [2, 1, 0]] / 255


def on_imagenet(run: Callable[[State, Tensor], Tensor]) -> Callable[[State, Tensor], Tensor]:
    return lambda s, image: run(s, (image - MEAN) / STD) * STD + MEAN


def sequential_state(random: torch.Generator) -> State:
    """Return tensors with eriklindernoren's keys."""
    w = WIDTH
    block = lambda n, out, inner, k: merge(  # noqa: E731
        [conv_keys(f"model.{n}.block.1", out, inner, k, random), norm_keys(f"model.{n}.norm", out, random)]
    )
    parts = [block(0, w, 3, 9), block(1, 2 * w, w, 3), block(2, 4 * w, 2 * w, 3)]
    for n in range(3, 3 + BLOCKS):
        parts += [block(f"{n}.block.{i}", 4 * w, 4 * w, 3) for i in (0, 1)]
    n = 3 + BLOCKS
    parts += [
        block(n, 2 * w, 4 * w, 3),
        block(n + 1, w, 2 * w, 3),
        conv_keys(f"model.{n + 2}.block.1", 3, w, 9, random),
    ]
    return merge(parts)


def run_sequential(s: State, x: Tensor) -> Tensor:
    layer = lambda n, x, **how: normalize(s, f"model.{n}.norm", convolve(s, f"model.{n}.block.1", x, **how))  # noqa: E731
    y = F.relu(layer(0, x))
    y = F.relu(layer(1, y, stride=2))
    y = F.relu(layer(2, y, stride=2))
    for n in range(3, 3 + BLOCKS):
        y = y + layer(f"{n}.block.1", F.relu(layer(f"{n}.block.0", y)))
    y = F.relu(layer(3 + BLOCKS, y, up=2))
    y = F.relu(layer(4 + BLOCKS, y, up=2))
    return convolve(s, f"model.{5 + BLOCKS}.block.1", y)


def layers_state(random: torch.Generator) -> State:
    """Return tensors with igreat's keys."""
    w, up = WIDTH, 9 + BLOCKS
    parts = []
    for n, out, inner, k in ((0, w, 3, 9), (3, 2 * w, w, 3), (6, 4 * w, 2 * w, 3)):
        parts += [conv_keys(f"layers.{n}.conv", out, inner, k, random), norm_keys(f"layers.{n + 1}", out, random)]
    for n in range(9, up):
        for i in (1, 2):
            parts.append(conv_keys(f"layers.{n}.conv{i}.conv", 4 * w, 4 * w, 3, random))
            parts.append(norm_keys(f"layers.{n}.instance_norm{i}", 4 * w, random))
    for n, out in ((up, 2 * w), (up + 3, w)):
        parts += [
            conv_keys(f"layers.{n}.conv.conv", out, 2 * out, 3, random),
            norm_keys(f"layers.{n + 1}", out, random),
        ]
    return merge([*parts, conv_keys(f"layers.{up + 6}.conv", 3, w, 9, random)])


def run_layers(s: State, x: Tensor) -> Tensor:
    for n in (0, 3, 6):
        x = F.relu(normalize(s, f"layers.{n + 1}", convolve(s, f"layers.{n}.conv", x, 2 if n else 1)))
    up = 9 + BLOCKS
    for n in range(9, up):
        y = F.relu(normalize(s, f"layers.{n}.instance_norm1", convolve(s, f"layers.{n}.conv1.conv", x)))
        x = x + normalize(s, f"layers.{n}.instance_norm2", convolve(s, f"layers.{n}.conv2.conv", y))
    for n in (up, up + 3):
        x = F.relu(normalize(s, f"layers.{n + 1}", convolve(s, f"layers.{n}.conv.conv", x, up=2)))
    return convolve(s, f"layers.{up + 6}.conv", x)


def rrmina_state(random: torch.Generator) -> State:
    w, parts = WIDTH, []

    def layer(name: str, out: int, inner: int, k: int, conv: str = "conv_layer") -> None:
        parts.append(conv_keys(f"{name}.{conv}", out, inner, k, random, transposed=conv == "conv_transpose"))
        parts.append(norm_keys(f"{name}.norm_layer", out, random))

    layer("ConvBlock.0", w, 3, 9)
    layer("ConvBlock.2", 2 * w, w, 3)
    layer("ConvBlock.4", 4 * w, 2 * w, 3)
    for n in range(BLOCKS):
        layer(f"ResidualBlock.{n}.conv1", 4 * w, 4 * w, 3)
        layer(f"ResidualBlock.{n}.conv2", 4 * w, 4 * w, 3)
    layer("DeconvBlock.0", 2 * w, 4 * w, 3, "conv_transpose")
    layer("DeconvBlock.2", w, 2 * w, 3, "conv_transpose")
    return merge([*parts, conv_keys("DeconvBlock.4.conv_layer", 3, w, 9, random)])


def run_rrmina(s: State, x: Tensor) -> Tensor:
    layer = lambda name, x, stride=1: normalize(  # noqa: E731
        s, f"{name}.norm_layer", convolve(s, f"{name}.conv_layer", x, stride)
    )
    for n in (0, 2, 4):
        x = F.relu(layer(f"ConvBlock.{n}", x, 2 if n else 1))
    for n in range(BLOCKS):
        x = x + layer(f"ResidualBlock.{n}.conv2", F.relu(layer(f"ResidualBlock.{n}.conv1", x)))
    for n in (0, 2):
        weight, bias = s[f"DeconvBlock.{n}.conv_transpose.weight"], s[f"DeconvBlock.{n}.conv_transpose.bias"]
        x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
        x = F.relu(normalize(s, f"DeconvBlock.{n}.norm_layer", x))
    return convolve(s, "DeconvBlock.4.conv_layer", x)


def tied_state(random: torch.Generator) -> State:
    """Return tensors with A-Jacobson's keys."""
    w, statistics = WIDTH, ("running_mean", "running_var")
    parts = [conv_keys("conv_in.conv", w, 3, 9, random), norm_keys("conv_in.batchnorm", w, random, *statistics)]
    parts += [conv_keys("resblock.conv3x3", w, w, 3, random), norm_keys("resblock.batchnorm", w, random, *statistics)]
    parts += [conv_keys("upblock.conv", w, w, 3, random), norm_keys("upblock.batchnorm", w, random, *statistics)]
    return merge([*parts, conv_keys("conv_out", 3, w, 9, random)])


def run_tied(s: State, x: Tensor) -> Tensor:
    zero = {"mode": "constant"}
    x = F.relu(normalize(s, "conv_in.batchnorm", convolve(s, "conv_in.conv", x, **zero)))
    block = lambda x: normalize(s, "resblock.batchnorm", convolve(s, "resblock.conv3x3", x, **zero))  # noqa: E731
    for _ in range(4):
        x = x + block(F.relu(block(x)))
    for _ in range(2):
        x = F.relu(normalize(s, "upblock.batchnorm", convolve(s, "upblock.conv", x, up=2, **zero)))
    return torch.tanh(convolve(s, "conv_out", x, **zero))


_OLD = ("running_mean", "running_var")
_NEVER = {f"in1_d.{part}": torch.ones(3) for part in ("weight", "bias", *_OLD)}
_UP, _UPSAMPLE = (
    ("up1.conv2d.conv2d", "up2.conv2d.conv2d", "up3.conv2d"),
    tuple(f"upsample_conv{n}.conv2d" for n in (1, 2, 3)),
)
_DXYANG = {
    "ups": ("deconv3.conv2d", "deconv2.conv2d", "deconv1.conv2d"),
    "downs": ("in1_e", "in2_e", "in3_e"),
    "up_norms": ("in3_d", "in2_d"),
}
_SCALE = {"names": ("scale", "shift")}

PROGRAMS = {
    "pytorch/examples": Program(transformer(), on_255(transform)),
    "joshbrew": Program(transformer(blocks=("resblock",)), on_255(lambda s, x: transform(s, x, add=relu_after))),
    "kleinicke": Program(
        transformer(blocks=("res1", "res2"), widths=(WIDTH,) * 3), on_255(lambda s, x: transform(s, x, strides=False))
    ),
    "yakhyo": Program(
        transformer(ups=_UPSAMPLE), on_255(lambda s, x: transform(s, x, ups=_UPSAMPLE, add=lambda branch, x: branch + x + x))
    ),
    "gordicaleksa": Program(transformer(ups=_UP), on_imagenet(lambda s, x: transform(s, x, ups=_UP))),
    "abhiskk": Program(transformer(**_SCALE), on_bgr_255(lambda s, x: transform(s, x, eps=1e-9, **_SCALE))),
    "dxyang": Program(
        transformer(**_DXYANG, unused=_OLD, never=_NEVER), on_imagenet(lambda s, x: transform(s, x, add=relu_after, **_DXYANG))
    ),
    "eriklindernoren": Program(sequential_state, on_imagenet(run_sequential)),
    "igreat": Program(layers_state, on_imagenet(run_layers)),
    "rrmina": Program(rrmina_state, on_bgr_255(run_rrmina)),
    "A-Jacobson": Program(tied_state, run_tied, scale=4),
}  # fmt: skip


def make(family: str, seed: int = 0) -> State:
    """Return a checkpoint of ``family`` with random weights."""
    return PROGRAMS[family].state(torch.Generator().manual_seed(seed))
