"""The command ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import errors
from ..exporting.onnx_file import LAYOUTS, Exported, export
from ..exporting.web_page import write_page
from ..models.any_model import load_model
from ..models.style_model import StyleModel
from ..models.upscale_model import UpscaleModel
from .options import add_overrides, check_not_read, prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    command.description = (
        "Export networks for other programs: one network as an ONNX file (-o), or several as a web page that stylizes photos "
        "in the browser (--web). The networks take pictures of any size. docs/export.md says what to do in which program."
    )
    command.add_argument(
        "networks", metavar="NAME|FILE", nargs="+",
        help="a style or an upscaler by name, or a file of any supported program; FILE#wave for one style of a file with "
        "several, FILE#wave=0.7,candy=0.3 for a mixture",
    )  # fmt: skip
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--output", metavar="OUT", help="the file to write, ending in .onnx")
    target.add_argument("--web", metavar="FOLDER", help="folder to write a web page into")
    command.add_argument(
        "--half", action="store_true",
        help="let the network compute in float16: half the size, faster on most GPUs; input and output stay the same",
    )  # fmt: skip
    command.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUTS[0],
        help="form of the pictures that go in and come out: floats from 0 to 1, or bytes (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--fidelity", type=float, metavar="F",
        help="of an upscaler with a partner, from 0 to 1 (default: the command upscale's)",
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
    if arguments.web and arguments.layout != LAYOUTS[0]:
        raise errors.InputError(f"--layout is for -o; the page needs {LAYOUTS[0]}")
    if arguments.output:
        check_not_read(Path(arguments.output), *arguments.networks)
    models = [_open(name, arguments) for name in arguments.networks]
    if arguments.output:
        return _stated(export(models[0], arguments.output, layout=arguments.layout, half=arguments.half))
    with progress_bar("network") as show:
        page = write_page(arguments.web, models, runtime=arguments.runtime, half=arguments.half, progress=show)
    return f"{page}\nto open it: python -m http.server --bind 127.0.0.1 -d {page.parent}, then http://127.0.0.1:8000"


def _open(name: str, arguments: argparse.Namespace) -> StyleModel | UpscaleModel:
    model = load_model(name, channel_order=arguments.channel_order, output=arguments.output_function)
    if isinstance(model, UpscaleModel):
        return model.blended(arguments.fidelity)
    if arguments.fidelity is not None:
        raise errors.InputError(f"--fidelity is for upscalers; {model.name} is a style")
    return model


def _stated(exported: Exported) -> str:
    if exported.difference is None:
        said = 'not compared: ONNX Runtime is not installed (pip install "perceptual-style[onnx]")'
    else:
        said = f"largest difference in ONNX Runtime: {255 * exported.difference:.3f} of 255"
    return f"{exported.path}\n{said}\nsmallest side of pictures: {exported.smallest_side} px"
