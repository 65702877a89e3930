"""The command ``evaluate upscale``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import errors
from ..devices import pick_device
from ..evaluation.upscaler_figures import write_figures
from ..evaluation.upscaler_report import as_json, markdown, write_report
from ..evaluation.upscalers import evaluate_upscalers, find_test_sets
from ..hub.loss_networks import loss_weights_file
from ..losses.loss_network import LossNetwork
from ..losses.metrics import Lpips, StructureTexture
from ..models.upscale_model import UpscaleModel, load_upscaler
from .options import add_device, add_json, output_folder, prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate upscale``."""
    command.description = (
        "Measure upscalers and bicubic interpolation by the published protocol. Writes table.md, table.json and pictures "
        "of crops side by side."
    )
    command.add_argument(
        "--data", required=True, metavar="DIR", help="folder of high resolution images; each folder in it is a test set"
    )
    command.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write into")
    command.add_argument("--models", nargs="+", default=[], metavar="NAME|FILE", help="upscalers to measure")
    command.add_argument(
        "--factors",
        nargs="+",
        type=int,
        default=[4, 8],
        metavar="N",
        help="upscaling factors to measure (default: 4 8)",
    )
    command.add_argument(
        "--loss-weights",
        metavar="FILE",
        help="weights of VGG-16 down to relu2_2; needed to measure the perceptual distance",
    )
    command.add_argument(
        "--lpips",
        metavar="FILE",
        help="linear weights of LPIPS 0.1 for SqueezeNet or VGG-16 (AlexNet is not supported); needed to measure LPIPS",
    )
    command.add_argument(
        "--lpips-network",
        metavar="FILE",
        help="weights of the network that --lpips belongs to; SqueezeNet's cannot be downloaded by name (default for VGG-16: "
        "the weights downloaded with `perceptual-style download vgg16 --layer relu5_3`)",
    )
    command.add_argument(
        "--structure-texture",
        metavar="FILE",
        help="weights of SqueezeNet 1.1, or of VGG-16 down to relu4_3; needed to measure a distance like DISTS",
    )
    command.add_argument(
        "--examples",
        type=int,
        default=3,
        metavar="N",
        help="number of example pictures for each test set (default: %(default)s)",
    )
    add_device(command)
    add_json(command)
    command.set_defaults(run=prints(_evaluate_upscale))


def _evaluate_upscale(arguments: argparse.Namespace) -> str:
    output = output_folder(arguments)
    if arguments.examples < 0:
        raise errors.InputError(f"--examples is {arguments.examples}; expected 0 or more")
    if arguments.lpips_network and not arguments.lpips:
        raise errors.InputError("--lpips-network needs the linear weights, too; give them with --lpips FILE")
    test_sets = find_test_sets(arguments.data)
    models = _open_models(arguments.models)
    network = LossNetwork("vgg16", arguments.loss_weights, ["relu2_2"]) if arguments.loss_weights else None
    lpips = None
    if arguments.lpips:
        lpips = Lpips.load(
            arguments.lpips, arguments.lpips_network or loss_weights_file(*Lpips.network_for(arguments.lpips))
        )
    with progress_bar("image") as show:
        rows, examples = evaluate_upscalers(
            test_sets, models, list(dict.fromkeys(arguments.factors)), loss_network=network, lpips=lpips,
            structure_texture=StructureTexture.load(weights) if (weights := arguments.structure_texture) else None,
            examples=arguments.examples, device=pick_device(arguments.device), progress=show,
        )  # fmt: skip
    write_report(rows, output)
    write_figures(examples, rows, output)
    return json.dumps(as_json(rows), indent=2) if arguments.json else markdown(rows).rstrip()


def _open_models(names: list[str]) -> dict[str, UpscaleModel]:
    """Return upscalers by the names they get in the table: their own, or as given if that name is taken."""
    models: dict[str, UpscaleModel] = {}
    for given in dict.fromkeys(names):
        model = load_upscaler(given)
        name = getattr(model, "name", Path(given).stem)
        models[given if name in models else name] = model
    return models
