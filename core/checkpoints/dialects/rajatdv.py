"""rajatdv, SuperResolution-with-Perceptual-loss: the paper's x4 super-resolution, as a weights-only Keras .h5 file.

The file lists its layers in order, which gives the number of residual blocks and upsamplings. Kernels are (height,
width, in, out). Batch norms have Keras's eps 1e-3 and use their moving statistics. Pixels go in as 0..255 and come out
as (tanh + 1) * 127.5. pyfive reads the file in plain Python, because the HDF5 library crashes on damaged ones.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, shortened
from ...network.arch import ArchSpec
from ...network.pixels import PixelConvention
from ...optional import need
from .a_jacobson import one_width
from .family import Foreign
from .layout import Names, Slot, build, conv, fit, nearest, residual

NAME, SOURCE = "rajatdv", "https://github.com/rajatdv/SuperResolution-with-Perceptual-loss"
_OPTIONS: dict[str, Any] = {"norm": "batch", "padding": "zero", "output": "tanh", "eps": 1e-3}
_PIXELS = "rgb in=255 out=unit"
_LETTERS = {
    "input": "I", "conv2d": "C", "batch_normalization": "B", "activation": "A", "merge": "M", "add": "M",
    "up_sampling2d": "U", "lambda": "L",
}  # fmt: skip
_FIELDS = {
    "kernel:0": "weight", "bias:0": "bias", "gamma:0": "weight", "beta:0": "bias", "moving_mean:0": "running_mean",
    "moving_variance:0": "running_var",
}  # fmt: skip
_MAX_LAYERS, _MAX_WEIGHTS, _MAX_NAME = 500, 8, 200


def read(path: Path) -> Foreign:
    """Read an .h5 file.

    Raises:
        CheckpointError: for another network, or if pyfive is missing, with the command that installs it
    """
    pyfive = need("pyfive", "hdf5", f"{path} is an HDF5 file", CheckpointError)
    try:
        with warnings.catch_warnings(), pyfive.File(str(path)) as file:
            warnings.simplefilter("ignore")  # about attributes of unknown types, which it leaves out
            root = file.get("model_weights", file)  # a whole model, or only its weights
            layers = _layer_names(root)
            slots = _slots(layers)
            tensors = _tensors(root, layers, path.stat().st_size) if slots else {}
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be opened: {error}") from None
    except Exception as error:  # the reader fails on damaged data in many ways, and when it runs out of memory
        reason = shortened(str(error))
        raise CheckpointError(f"{path} is a damaged HDF5 file ({type(error).__name__} {reason})") from None
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    found = fit(slots, shapes, Names(statistics=("running_mean", "running_var"))) if slots else None
    if found is None or not one_width(found.layers) or found.layers[-1].channels != 3:
        raise CheckpointError(f"{path} holds Keras weights of an unknown network ({shortened(', '.join(layers))})")
    spec = ArchSpec(found.layers, **_OPTIONS)
    return Foreign(build(spec, found, tensors), PixelConvention.parse(_PIXELS), {"family": NAME, "source": SOURCE})


def _layer_names(file: Any) -> list[str]:
    names = file.attrs.get("layer_names")
    if names is None or len(names) > _MAX_LAYERS:
        raise CheckpointError("it holds no Keras weights (no list of layers)")
    return [_text(name) for name in names]


def _text(name: Any) -> str:
    """Return a name. Many names can refer to the same long text, so its length is checked before it is copied."""
    if not isinstance(name, (bytes, str)) or len(name) > _MAX_NAME:
        raise CheckpointError("the name of a layer or of its weights is not a short text")
    return name.decode() if isinstance(name, bytes) else str(name)


def _slots(layers: list[str]) -> list[Slot] | None:
    """Return the layers if their kinds are in this network's order, else None."""
    letters = "".join(_LETTERS.get(re.sub(r"_\d+$", "", name), "?") for name in layers)
    match = re.fullmatch(r"I(CBA)((?:CBACBM)+)((?:UCBA)+)CL?", letters)
    if not match:
        return None
    weighted = iter([name for name, letter in zip(layers, letters, strict=True) if letter in "CB"])
    return [
        conv(next(weighted), next(weighted), 9),
        *[residual(*(next(weighted) for _ in range(4))) for _ in range(len(match[2]) // 6)],
        *[slot for _ in range(len(match[3]) // 4) for slot in (nearest(), conv(next(weighted), next(weighted)))],
        conv(next(weighted), kernel=9),
    ]


def _tensors(file: Any, layers: list[str], size: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    claimed = 0
    for layer in layers:
        names = file[layer].attrs["weight_names"]
        if len(names) > _MAX_WEIGHTS:
            raise CheckpointError(f"the layer {shortened(layer, 60)} has {len(names)} weights")
        for name in map(_text, names):
            data = file[layer][name]
            if data.chunks is not None:  # a part of a few bytes can be compressed from gigabytes
                raise CheckpointError(
                    f"the weights of {shortened(layer, 60)} are compressed; save them without compression"
                )
            claimed += int(data.size) * data.dtype.itemsize
            if claimed > size or len(data.shape) > 4:
                raise CheckpointError(f"its weights claim more than the {size} bytes of the file")
            if data.dtype.kind != "f":
                raise CheckpointError(
                    f"the weights of {shortened(layer, 60)} are {data.dtype}, not floating-point numbers"
                )
            tensor = torch.from_numpy(data[...].astype("float32"))
            field = _FIELDS.get(name.rpartition("/")[2], name)
            tensors[f"{layer}.{field}"] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
    return tensors
