"""jcjohnson, fast-neural-style: the authors' own networks, Torch7 files of an nn.Sequential or of {opt, model}.

The modules record everything: kernels, strides, paddings, eps, tanh's constant. Pixels are Caffe's (BGR, 0..255 minus
the mean) unless ``opt.preprocessing`` is resnet, which means torchvision's. Batch norms use their running statistics.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import ArchError, CheckpointError, quoted, shortened
from ...network.arch import ArchSpec
from ...network.pixels import PixelConvention
from .family import Foreign
from .layout import Names, Slot, build, fit
from .torch7 import Module, read_torch7

NAME, SOURCE = "jcjohnson", "https://github.com/jcjohnson/fast-neural-style"
_MAX_MODULES = 1000
_NORMS = {"nn.InstanceNormalization": "instance", "nn.SpatialBatchNormalization": "batch"}
_CONVOLUTIONS = {
    "nn.SpatialConvolution": "conv",
    "nn.SpatialConvolutionMM": "conv",
    "nn.SpatialFullConvolution": "transposed",
}
_PIXELS = {"vgg": "bgr in=caffe out=caffe", "resnet": "rgb in=imagenet out=imagenet"}


def read(path: Any) -> Foreign:
    """Read a .t7 file.

    Raises:
        CheckpointError: if the file holds another network than Johnson's; the message names the module that differs
    """
    content = read_torch7(path)
    options = content.get("opt") if isinstance(content, dict) else None
    model = content.get("model") if isinstance(content, dict) else content
    options = options if isinstance(options, dict) else {}
    if not isinstance(model, Module):
        raise CheckpointError(f"{path} holds no network: expected an nn.Sequential, alone or as 'model' of a table")
    try:
        return _convert(model, options)
    except (CheckpointError, ArchError) as error:
        raise CheckpointError(f"{path} is not a fast-neural-style network: {error}") from None
    except Exception as error:  # fields of the wrong kind end in TypeError, KeyError, ValueError, ...
        raise CheckpointError(
            f"{path} is damaged: {type(error).__name__} {shortened(str(error), 100)} in a module"
        ) from None


def _convert(model: Module, options: dict) -> Foreign:
    preprocessing = options.get("preprocessing", "vgg")
    pixels = _PIXELS.get(preprocessing) if isinstance(preprocessing, str) else None
    if pixels is None:
        raise CheckpointError(f"its preprocessing is {quoted(preprocessing)}; expected vgg or resnet")
    walk = _Walk()
    modules = _children(model)
    padded = bool(modules) and modules[0].kind == "nn.SpatialReflectionPadding"
    start = _sides(modules.pop(0)) if padded else 0
    slots = walk.layers(modules)
    spec_options = {
        "norm": walk.one(walk.norms, "none"),
        "padding": "reflect-start" if walk.unpadded else "zero",
        "output": walk.output,
        "last": "norm" if slots[-1].norms else "plain",
        "eps": walk.one(walk.eps, 1e-5),
    }
    statistics = ("running_mean", "running_var") if spec_options["norm"] == "batch" else ()
    shapes = {key: tuple(tensor.shape) for key, tensor in walk.tensors.items()}
    found = fit(slots, shapes, Names(statistics=statistics, unused=("running_mean", "running_var")))
    if found is None:
        raise CheckpointError("its tensors do not fit its modules")
    spec = ArchSpec(found.layers, **spec_options)
    if spec.start_padding != start:
        raise CheckpointError(f"it pads {start} px at the start, but its blocks take off {spec.start_padding}")
    facts = {"family": NAME, "source": SOURCE}
    if isinstance(options.get("style_image"), str):
        facts["style_image"] = shortened(options["style_image"])
    return Foreign(build(spec, found, walk.tensors), PixelConvention.parse(pixels), facts)


class _Walk:
    """A walk over modules that collects slots, and tensors under new names (a number for each layer)."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.norms: set[str] = set()
        self.eps: set[float] = set()
        self.unpadded = False
        self.output = "linear"

    def one(self, values: set, default: Any) -> Any:
        if len(values) > 1:
            raise CheckpointError(f"its norms differ: {quoted(sorted(map(str, values)))}")
        return next(iter(values), default)

    def layers(self, modules: list[Module]) -> list[Slot]:
        slots: list[Slot] = []
        if len(modules) > _MAX_MODULES:
            raise CheckpointError(f"it has {len(modules)} modules, far more than any network needs")
        while modules:
            module = modules.pop(0)
            if module.kind == "nn.Tanh":
                self.end([module, *modules])
                break
            if module.kind == "nn.TotalVariation" and all(other.kind == module.kind for other in modules):
                break
            if module.kind == "nn.Sequential":
                slots.append(self.block(module))
            elif module.kind == "nn.SpatialUpSamplingNearest":
                norm = self.norm(modules)
                self.relu(modules)
                slots.append(Slot("upsample", (), (norm,) if norm else (), stride=int(module.number("scale_factor"))))
            else:
                slots.append(self.conv(module, modules))
        if not slots:
            raise CheckpointError("it has no layers")
        return slots

    def conv(self, module: Module, rest: list[Module]) -> Slot:
        kind = _CONVOLUTIONS.get(module.kind)
        if kind is None:
            raise CheckpointError(f"it has a {shortened(module.kind, 60)!r} instead of a layer")
        name = self.store(module, ("weight", "bias"))
        kernel, stride = self.geometry(module, (module.number("kW") - 1) / 2)
        if kind == "transposed" and {module.number("adjW"), module.number("adjH")} != {stride - 1}:
            raise CheckpointError("the output of a transposed convolution is not a multiple of its input's size")
        weight = self.tensors[f"{name}.weight"]
        if module.kind == "nn.SpatialConvolutionMM" and weight.ndim == 2:
            self.tensors[f"{name}.weight"] = weight.reshape(-1, int(module.number("nInputPlane")), kernel, kernel)
        last = not rest or rest[0].kind in ("nn.Tanh", "nn.TotalVariation", "nn.MulConstant")
        norm = self.norm(rest)
        if not last:
            self.relu(rest)
        return Slot(kind, (name,), (norm,) if norm else (), kernel, stride)

    def block(self, module: Module) -> Slot:
        """Read Sequential(ConcatTable(Sequential(conv, norm, ReLU, conv, norm), skip), CAddTable)."""
        table, add = _children(module)
        branch, skip = _children(table)
        crops = skip.kind == "nn.ShaveImage" and skip.number("size", 0) == 2
        if (table.kind, add.kind) != ("nn.ConcatTable", "nn.CAddTable") or not (crops or skip.kind == "nn.Identity"):
            raise CheckpointError("it has a block that is not one of Johnson's residual blocks")
        self.unpadded |= crops
        names, norms, modules = [], [], _children(branch)
        for place in range(2):
            convolution = modules.pop(0)
            if convolution.kind != "nn.SpatialConvolution":
                raise CheckpointError(
                    f"its residual block has a {shortened(convolution.kind, 60)!r}; padding modes are not supported"
                )
            names.append(self.store(convolution, ("weight", "bias")))
            if self.geometry(convolution, 0 if crops else 1) != (3, 1):
                raise CheckpointError("its residual block has convolutions other than 3x3 of stride 1")
            norm = self.norm(modules)
            norms += [norm] if norm else []
            if place == 0:
                self.relu(modules)
        if modules:
            raise CheckpointError(f"its residual block continues with a {shortened(modules[0].kind, 60)!r}")
        return Slot("residual", tuple(names), tuple(norms))

    def norm(self, rest: list[Module]) -> str:
        """Store the norm that comes next, if any. An InstanceNormalization contains a batch norm that does its work."""
        if not rest or rest[0].kind not in _NORMS:
            return ""
        module = rest.pop(0)
        self.norms.add(_NORMS[module.kind])
        self.eps.add(float(module.number("eps", 1e-5)))
        return self.store(
            module, ("weight", "bias", *(("running_mean", "running_var") if "Batch" in module.kind else ()))
        )

    def relu(self, rest: list[Module]) -> None:
        if not rest or rest.pop(0).kind != "nn.ReLU":
            raise CheckpointError("a ReLU is missing")

    def end(self, modules: list[Module]) -> None:
        constant = 1.0
        for module in modules[1:]:
            if module.kind == "nn.MulConstant":
                constant *= module.number("constant_scalar")
            elif module.kind != "nn.TotalVariation":
                raise CheckpointError(f"it continues with a {shortened(module.kind, 60)!r} after its tanh")
        self.output = f"tanh{constant:.15g}"

    def geometry(self, module: Module, padding: float) -> tuple[int, int]:
        values = [module.number(key) for key in ("kW", "dW", "padW")]
        if values != [module.number(key) for key in ("kH", "dH", "padH")] or values[2] != padding:
            raise CheckpointError(
                f"a convolution has kernel, stride and padding {values}; expected {padding:g} px of padding"
            )
        return int(values[0]), int(values[1])

    def store(self, module: Module, fields: tuple[str, ...]) -> str:
        name = str(len(self.tensors))
        for field in fields:
            tensor = module.fields.get(field)
            if isinstance(tensor, Tensor):
                self.tensors[f"{name}.{field}"] = tensor
            elif field != "bias":
                raise CheckpointError(f"a {shortened(module.kind, 60)!r} has no {field}")
        return name


def _children(module: Module) -> list[Module]:
    table = module.fields.get("modules")
    if not isinstance(table, dict):
        raise CheckpointError(f"a {shortened(module.kind, 60)!r} has no modules")
    children = [child for n in range(len(table)) if isinstance(child := table.get(float(n + 1)), Module)]
    if len(children) != len(table):
        raise CheckpointError(f"a {shortened(module.kind, 60)!r} has damaged modules")
    return children


def _sides(module: Module) -> int:
    first, *others = (module.number(f"pad_{side}") for side in "lrtb")
    if any(other != first for other in others):
        raise CheckpointError("it pads its sides differently")
    return int(first)
