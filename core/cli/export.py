"""The command ``export``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from .. import errors
from ..exporting.any_file import FORMATS, LAYOUTS, Exported, export
from ..exporting.web_page import write_page
from ..models.any_model import load_model
from ..models.style_model import StyleModel
from ..models.upscale_model import UpscaleModel
from .options import add_overrides, check_not_read, prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    command.description = (
        "Export networks for other programs: one network as a file (-o) in the format that its suffix names, ONNX, Core ML or "
        "LiteRT, or several as a web page that stylizes photos in the browser (--web). docs/export.md says what to do in "
        "which program."
    )
    command.add_argument(
        "networks", metavar="NAME|FILE", nargs="+",
        help="a style or an upscaler by name, or a file of any supported program; FILE#wave for one style of a file with "
        "several, FILE#wave=0.7,candy=0.3 for a mixture",
    )  # fmt: skip
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "-o", "--output", metavar="OUT",
        help="the file to write, ending in .onnx, .mlpackage (Core ML) or .tflite (LiteRT)",
    )  # fmt: skip
    target.add_argument("--web", metavar="FOLDER", help="folder to write a web page into")
    command.add_argument(
        "--half", action="store_true",
        help="let the network compute in float16: half the size, faster on most GPUs; input and output stay the same. LiteRT "
        "files store float16, and the device chooses what it computes in",
    )  # fmt: skip
    command.add_argument(
        "--layout", choices=LAYOUTS,
        help="form of the pictures that go in and come out: floats from 0 to 1, bytes, or for Core ML images "
        f"({'; '.join(f'{suffix}: {_choices(kind.layouts)}' for suffix, kind in FORMATS.items())})",
    )  # fmt: skip
    command.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT",
        help="make the file for pictures of this size only, px (.tflite: always, default 512x512; .mlpackage: default any "
        "size; .onnx: always any size)",
    )  # fmt: skip
    command.add_argument(
        "--fidelity", type=float, metavar="F",
        help="of an upscaler with a partner, from 0 to 1 (default: the command upscale's)",
    )  # fmt: skip
    command.add_argument(
        "--denoise", type=float, metavar="D",
        help="of a restorer, from 0 to 1 (default: the command upscale's)",
    )  # fmt: skip
    command.add_argument(
        "--runtime", metavar="FOLDER",
        help="for --web: folder with the files of onnxruntime-web, such as node_modules/onnxruntime-web/dist (default: the "
        "files downloaded with `perceptual-style download onnxruntime-web`)",
    )  # fmt: skip
    add_overrides(command)
    command.set_defaults(run=prints(_export))


def _export(arguments: argparse.Namespace) -> str:
    if arguments.output and len(arguments.networks) > 1:
        raise errors.InputError(
            f"-o is for one network, and there are {len(arguments.networks)}; export each on its own"
        )
    if arguments.output and arguments.runtime:
        raise errors.InputError("--runtime is for --web")
    if arguments.web and arguments.layout not in (None, LAYOUTS[0]):
        raise errors.InputError(f"--layout is for -o; the page needs {LAYOUTS[0]}")
    if arguments.web and arguments.size:
        raise errors.InputError("--size is for -o; the page takes pictures of any size")
    if arguments.output:
        check_not_read(Path(arguments.output), *arguments.networks)
    models = [_open(name, arguments) for name in arguments.networks]
    if arguments.output:
        options = {"layout": arguments.layout, "half": arguments.half, "size": arguments.size}
        return _stated(export(models[0], arguments.output, **options))
    with progress_bar("network") as show:
        page = write_page(arguments.web, models, runtime=arguments.runtime, half=arguments.half, progress=show)
    return f"{page}\nto open it: python -m http.server --bind 127.0.0.1 -d {page.parent}, then http://127.0.0.1:8000"


def _open(name: str, arguments: argparse.Namespace) -> StyleModel | UpscaleModel:
    model = load_model(name, channel_order=arguments.channel_order, output=arguments.output_function)
    if isinstance(model, UpscaleModel):
        return model.blended(arguments.fidelity, arguments.denoise)
    for dial in ("fidelity", "denoise"):
        if getattr(arguments, dial) is not None:
            raise errors.InputError(f"--{dial} is for upscalers; {model.name} is a style")
    return model


def _stated(exported: Exported) -> str:
    said = exported.unverified
    if exported.difference is not None:
        said = f"largest difference in {exported.program}: {255 * exported.difference:.3f} of 255"
    sides = f"smallest side of pictures: {exported.smallest_side} px"
    if exported.size:
        sides = f"size of pictures: {_text(exported.size)} px"
    return f"{exported.path}\n{said}\n{sides}"


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected something like 640x480")
    return int(match[1]), int(match[2])


def _text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _choices(layouts: tuple[str, ...]) -> str:
    return f"{layouts[0]} (default) or {', '.join(layouts[1:])}"
