"""Export a style or an upscaler as an ONNX file: for pictures of any size, RGB in, RGB out, nothing else to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, InputError
from ..files import atomic_write
from ..models.blend import BlendedStyle
from ..models.image_model import ImageModel
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..optional import need
from ..version import version

if TYPE_CHECKING:
    import onnx

    from .graph import Graph

#: float-nchw: (N, 3, H, W) float32 RGB in [0, 1] | uint8-nhwc: (N, H, W, 3) bytes
LAYOUTS = ("float-nchw", "uint8-nhwc")
_SIDES: dict[str, tuple[int | str, ...]] = {
    "float-nchw": ("N", 3, "height", "width"),
    "uint8-nhwc": ("N", "height", "width", 3),
}


@dataclass(frozen=True)
class Exported:
    """A file that `export` wrote.

    Attributes:
        path: The file.
        smallest_side: Smallest side of the pictures that it takes, px.
        difference: Largest difference between what ONNX Runtime computes from the file and the model's own result, for
            values in [0, 1]. None if ONNX Runtime is not installed.
    """

    path: Path
    smallest_side: int
    difference: float | None


def export(
    model: BaseStyle | UpscaleModel, path: str | Path, *, layout: str = "float-nchw", half: bool = False
) -> Exported:
    """Write a model as an ONNX file (operator set 17) for pictures of any height and width.

    The input ``image`` and the output ``result`` are RGB. Pixel conventions, padding and cropping are part of the graph.
    Where ONNX Runtime is installed, the file is compared with the model before it takes its place.

    Args:
        model: A style, also another program's, a mixture or a blend of styles, or an upscaler.
        path: The file to write, ending in .onnx.
        layout: One of LAYOUTS.
        half: Whether the networks compute in float16, in half the bytes. Input and output stay the same.

    Returns:
        What was written. The file's metadata include name, title, license and credit.

    Raises:
        InputError: If an argument is wrong, if the model has regions, or if the package onnx is missing.
        CheckpointError: If the file cannot be written, or does not compute what the model computes.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise InputError(f"the output is {target}; expected a name that ends in .onnx")
    built = build(model, layout=layout, half=half)
    try:
        with atomic_write(target) as temporary:
            temporary.write_bytes(built.SerializeToString())
            difference = _checked(model, temporary, layout, half)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from None
    return Exported(target, smallest_side(model), difference)


def build(model: BaseStyle | UpscaleModel, *, layout: str = "float-nchw", half: bool = False) -> onnx.ModelProto:
    """Return a model as an ONNX model; arguments and errors as `export`."""
    if layout not in LAYOUTS:
        raise InputError(f"the layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    need("onnx", "onnx", f"{model.name} becomes an ONNX file")
    from onnx import TensorProto, helper

    from .graph import Graph

    graph = Graph(half)
    image = "image"
    if layout == "uint8-nhwc":
        image = graph.add("Transpose", graph.cast(image, TensorProto.FLOAT), perm=[0, 3, 1, 2])
        with graph.float32():
            image = graph.add("Mul", image, graph.constant(1 / 255))
    result = _added(graph, model.blended() if isinstance(model, UpscaleModel) else model, image)
    if layout == "uint8-nhwc":
        with graph.float32():
            result = graph.add("Round", graph.add("Mul", result, graph.constant(255.0)))
        result = graph.add("Transpose", graph.cast(result, TensorProto.UINT8), perm=[0, 2, 3, 1])
    number = TensorProto.UINT8 if layout == "uint8-nhwc" else TensorProto.FLOAT
    factor, sides = model.spec.scale, _SIDES[layout]
    return graph.model(
        helper.make_tensor_value_info("image", number, sides),
        helper.make_tensor_value_info("result", number, [_scaled(side, factor) for side in sides]),
        result,
        facts_of(model) | {"layout": layout},
    )


def _scaled(side: int | str, factor: int) -> int | str:
    """Return the name of a side of the result."""
    return f"{factor} * {side}" if factor > 1 and side in ("height", "width") else side


def facts_of(model: BaseStyle | UpscaleModel) -> dict[str, str]:
    """Return what a file says about its model, as texts: name, title, license, credit, scale and smallest side."""
    facts: Mapping[str, Any] = getattr(model, "facts", {})
    known = {key: facts.get(key) for key in ("title", "license", "arch", "family")} | {"credit": credit_of(facts)}
    if isinstance(model, BlendedStyle):
        parts = [facts_of(model.first), facts_of(model.second)]
        for key in ("license", "credit"):
            known[key] = " + ".join(dict.fromkeys(part.get(key, "unknown") for part in parts))
    texts = {key: str(value) for key, value in known.items() if value}
    made = {"scale": str(model.spec.scale), "smallest_side": str(smallest_side(model)), "version": version()}
    return {"name": model.name, "license": "unknown"} | texts | made


def credit_of(facts: Mapping[str, Any]) -> str:
    """Return a model's credit in one line, such as "Vincent van Gogh, The Starry Night, 1889", or ""."""
    credit = facts.get("credit")
    if not isinstance(credit, Mapping):
        return str(credit or "")
    first = [str(credit[key]) for key in ("artist", "painting", "network", "year") if credit.get(key)]
    rest = [f"{key}: {value}" for key, value in credit.items() if key not in ("artist", "painting", "network", "year")]
    return ", ".join(first + rest)


def smallest_side(model: BaseStyle | UpscaleModel) -> int:
    """Return the smallest side of the pictures that the exported model takes, px."""
    return max(network.spec.smallest_side for network in model.networks)


def _added(graph: Graph, model: BaseStyle | UpscaleModel, image: str) -> str:
    """Add a model to a graph and return the name of its result."""
    from .mixing_graph import add_mix
    from .network_graph import add_network

    if isinstance(model, BlendedStyle):
        return add_mix(graph, _added(graph, model.first, image), _added(graph, model.second, image), model.amount)
    if isinstance(model, ImageModel):
        return add_network(graph, model.network, model.pixels, image)
    raise InputError(f"{model.name} has regions, whose masks fit one size of pictures; export its styles one by one")


def _checked(model: BaseStyle | UpscaleModel, path: Path, layout: str, half: bool) -> float | None:
    from .comparison import compare, tolerance

    difference = compare(model, path, layout)
    if difference is not None and difference > tolerance(layout, half):
        raise CheckpointError(
            f"the exported file differs from {model.name} by {255 * difference:.2f}/255 in ONNX Runtime, expected at most "
            f"{255 * tolerance(layout, half):.0f}/255" + ("; export without half" if half else "; please report this")
        )
    return difference
