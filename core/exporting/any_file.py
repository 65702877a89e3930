"""Export a style or an upscaler for other programs: as ONNX, Core ML or LiteRT, by the suffix of the file."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, InputError
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from .model_graph import LARGEST_SIDE, smallest_side


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: Its name.
        module: The module of this package that writes it.
        layouts: The forms of pictures that it can have, the usual one first.
        takes_size: Whether its files can be made for pictures of one size.
        size: Width and height if no size is given. If it is None, such files take pictures of any size.
    """

    name: str
    module: str
    layouts: tuple[str, ...]
    takes_size: bool = True
    size: tuple[int, int] | None = None


#: By suffix
FORMATS = {
    ".onnx": Format("ONNX", "onnx_file", ("float-nchw", "uint8-nhwc"), takes_size=False),
    ".mlpackage": Format("Core ML", "coreml_file", ("float-nchw", "image")),
    ".tflite": Format("LiteRT", "litert_file", ("float-nhwc", "uint8-nhwc"), size=(512, 512)),
}
#: float-nchw: (N, 3, H, W) float32 RGB in [0, 1] | float-nhwc: (N, H, W, 3), the same numbers | uint8-nhwc: (N, H, W, 3)
#: bytes | image: a picture of the system
LAYOUTS = tuple(dict.fromkeys(layout for each in FORMATS.values() for layout in each.layouts))


@dataclass(frozen=True)
class Exported:
    """A file that `export` wrote.

    Attributes:
        path: The file.
        smallest_side: Smallest side of the pictures that it takes, px.
        difference: Largest difference between what another program computes from the file and the model's own result, for
            values in [0, 1]. None if that program is not available here.
        program: Name of that program.
        unverified: Why there is no difference, in one line, or "".
        size: Width and height of the pictures that it takes. None if they are free.
    """

    path: Path
    smallest_side: int
    difference: float | None
    program: str
    unverified: str = ""
    size: tuple[int, int] | None = None


def export(
    model: BaseStyle | UpscaleModel,
    path: str | Path,
    *,
    layout: str | None = None,
    half: bool = False,
    size: tuple[int, int] | None = None,
) -> Exported:
    """Write a model as a file for other programs.

    The input ``image`` and the output ``result`` are RGB. Pixel conventions, padding and cropping are part of the file.
    If a program that runs such files is available, it is compared with the model before the file takes its place.

    Args:
        model: A style, also another program's, a mixture or a blend of styles, or an upscaler.
        path: The file to write. It ends in .onnx, .mlpackage (Core ML, which is a folder) or .tflite (LiteRT).
        layout: Form of the pictures, one of the format's in FORMATS. If it is None, the first one there.
        half: Whether the networks compute in float16, in half the bytes. Input and output stay the same. LiteRT files only
            store float16; the device chooses what it computes in.
        size: Width and height of the pictures, px. LiteRT files take one size, (512, 512) if it is None. Core ML files
            take any size if it is None. ONNX files always do.

    Returns:
        What was written. The file's metadata include name, title, license and credit.

    Raises:
        InputError: If an argument is wrong, if the model has regions, or if the format's package is missing.
        CheckpointError: If the file cannot be written, or does not compute what the model computes.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        raise InputError(f"the output is {target}; expected a name that ends in {', '.join(FORMATS)}")
    kind = FORMATS[target.suffix]
    layout = kind.layouts[0] if layout is None else layout
    if layout not in kind.layouts:
        raise InputError(f"the layout is {layout!r}; expected one of {', '.join(kind.layouts)} for {kind.name}")
    least = smallest_side(model)
    size = _checked_size(kind, size, least)
    module = importlib.import_module(f".{kind.module}", __package__)
    try:
        difference = module.write(model, target, layout, half, size)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from None
    unverified = module.why_not_compared() if difference is None else ""
    return Exported(target, least, difference, module.PROGRAM, unverified, size)


def _checked_size(kind: Format, size: tuple[int, int] | None, least: int) -> tuple[int, int] | None:
    """Return the size that a file is made for: the given one or the format's."""
    if size is not None and not kind.takes_size:
        raise InputError(f"{kind.name} files take pictures of any size; leave the size out")
    size = kind.size if size is None else size
    if size is not None and (len(size) != 2 or min(size) < least or max(size) > LARGEST_SIDE):
        text = "x".join(map(str, size))
        raise InputError(f"the size is {text}; expected WIDTHxHEIGHT with {least} to {LARGEST_SIDE} px each")
    return size
