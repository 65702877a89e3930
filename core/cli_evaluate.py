"""The command ``evaluate``: what it measures is its first argument."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import errors
from .cli_options import add_device, add_loss_weights
from .files import check_writable


def add_evaluate_command(commands: Any, show: Callable[[Callable[[argparse.Namespace], str]], Any]) -> None:
    """Add ``evaluate``. ``show`` makes of a function that answers in text a command that prints it."""
    command = commands.add_parser("evaluate", help="measure networks as the papers do")
    kinds = command.add_subparsers(title="what to measure", required=True, metavar="KIND")
    _add_upscale(kinds, show)
    _add_style(kinds, show)


def _add_upscale(kinds: Any, show: Callable[[Callable[[argparse.Namespace], str]], Any]) -> None:
    command = kinds.add_parser(
        "upscale",
        help="PSNR, SSIM and perceptual distances of upscalers on test sets",
        description="Measure upscalers beside bicubic interpolation, by the published protocol. Writes table.md, "
        "table.json and pictures of crops side by side.",
    )
    command.add_argument(
        "--data", required=True, metavar="DIR", help="high resolution images; each folder in it is a test set"
    )
    command.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write into")
    command.add_argument("--models", nargs="+", default=[], metavar="NAME|FILE", help="upscalers to measure")
    command.add_argument(
        "--factors", nargs="+", type=int, default=[4, 8], metavar="N", help="factors to measure (default: 4 8)"
    )
    command.add_argument(
        "--loss-weights", metavar="FILE", help="weights of VGG-16 up to relu2_2, for the perceptual distance"
    )
    command.add_argument(
        "--lpips", metavar="FILE", help="linear weights of LPIPS 0.1 for SqueezeNet or VGG-16 (AlexNet is not offered)"
    )
    command.add_argument(
        "--lpips-network", metavar="FILE", help="weights of that network (default: those downloaded by name)"
    )
    command.add_argument(
        "--examples", type=int, default=3, metavar="N", help="pictures for each test set (default: %(default)s)"
    )
    add_device(command)
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.set_defaults(run=show(_evaluate_upscale))


def _evaluate_upscale(arguments: argparse.Namespace) -> str:
    from .devices import pick_device
    from .evaluate import evaluate_upscalers, find_test_sets
    from .evaluation_figures import write_figures
    from .evaluation_report import as_json, markdown, write_report
    from .loss_network import LossNetwork
    from .metrics import Lpips

    output = _folder(arguments)
    if arguments.examples < 0:
        raise errors.InputError(f"--examples is {arguments.examples}; expected 0 or more")
    if arguments.lpips_network and not arguments.lpips:
        raise errors.InputError("--lpips-network needs the linear weights, too; give them with --lpips")
    test_sets = find_test_sets(arguments.data)
    models = _open_models(arguments.models)
    network = LossNetwork("vgg16", arguments.loss_weights, ["relu2_2"]) if arguments.loss_weights else None
    lpips = Lpips.load(arguments.lpips, arguments.lpips_network) if arguments.lpips else None
    with _bar("image") as show:
        rows, examples = evaluate_upscalers(
            test_sets, models, list(dict.fromkeys(arguments.factors)), loss_network=network, lpips=lpips,
            examples=arguments.examples, device=pick_device(arguments.device), progress=show,
        )  # fmt: skip
    write_report(rows, output)
    write_figures(examples, rows, output)
    return json.dumps(as_json(rows), indent=2) if arguments.json else markdown(rows).rstrip()


def _add_style(kinds: Any, show: Callable[[Callable[[argparse.Namespace], str]], Any]) -> None:
    command = kinds.add_parser(
        "style",
        help="how many iterations of optimization one pass of a style is worth, and how much faster it is",
        description="Measure a style on photos that it was not trained on: its training objective, beside that of image "
        "optimization after each iteration (the paper's figure 5), and times (its table 1). Writes style.md, style.json, "
        "style.png (needs matplotlib) and pictures side by side. Optimization takes long: with the defaults, hours on a CPU.",
    )
    command.add_argument("style", metavar="STYLE", help="a style by name or a file of this project")
    command.add_argument("--data", required=True, nargs="+", metavar="DIR|FILE", help="photos it was not trained on")
    command.add_argument("--style-image", required=True, metavar="FILE", help="the painting it was trained on")
    command.add_argument("-o", "--output", required=True, metavar="OUTDIR", help="folder to write into")
    command.add_argument("--photos", type=int, metavar="N", help="so many of the photos, evenly spread (default: all)")
    command.add_argument(
        "--size", type=int, default=256, metavar="PX", help="side of the photos (default: %(default)s)"
    )
    command.add_argument(
        "--iterations", type=int, default=500, metavar="N", help="of optimization (default: %(default)s)"
    )
    command.add_argument(
        "--start", default="noise", choices=("noise", "content"), help="of optimization (default: noise, the paper's)"
    )
    command.add_argument(
        "--sizes", nargs="*", type=int, default=[256, 512, 1024], metavar="PX",
        help="sides of the images to measure time with, if any (default: 256 512 1024)",
    )  # fmt: skip
    command.add_argument("--recipe", help="instead of the file's own: standard, paper or authors")
    add_loss_weights(command)
    command.add_argument("--examples", type=int, default=3, metavar="N", help="pictures (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    add_device(command)
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.set_defaults(run=show(_evaluate_style))


def _evaluate_style(arguments: argparse.Namespace) -> str:
    from .devices import pick_device
    from .evaluate_style import evaluate_style, spread
    from .evaluate_style_figures import plotting, write_figures
    from .evaluate_style_report import as_json, markdown, write_report
    from .images import find_images, read_image
    from .models import load_style
    from .recipes import get_recipe, recipe_of

    output = _folder(arguments)
    plotting(output)
    model = load_style(arguments.style)
    recipe = get_recipe(arguments.recipe) if arguments.recipe else recipe_of(model.facts, arguments.style)
    photos = spread(find_images(arguments.data), arguments.photos)
    with _bar("iteration") as show:
        evaluation = evaluate_style(
            model, read_image(arguments.style_image).pixels, photos, recipe=recipe, loss_weights=arguments.loss_weights,
            size=arguments.size, iterations=arguments.iterations, start=arguments.start, sizes=arguments.sizes,
            examples=arguments.examples, seed=arguments.seed, device=pick_device(arguments.device), progress=show,
        )  # fmt: skip
    write_report(evaluation, output)
    write_figures(evaluation, output)
    return json.dumps(as_json(evaluation), indent=2) if arguments.json else markdown(evaluation).rstrip()


def _folder(arguments: argparse.Namespace) -> Path:
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise errors.InputError(f"{output} is a file; expected a folder to write into")
    check_writable(output / "table.md")
    return output


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[Any], None]]:
    from tqdm import tqdm

    with tqdm(total=None, unit=unit, delay=1e-3) as bar:  # no bar where arguments are refused

        def show(progress: Any) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        yield show


def _open_models(names: list[str]) -> dict[str, Any]:
    """Upscalers by the names that the table gives them: their own, or that of the file where it is taken."""
    if not names:
        return {}
    from .upscale import load_upscaler

    models: dict[str, Any] = {}
    for given in dict.fromkeys(names):
        model = load_upscaler(given)
        name = getattr(model, "name", Path(given).stem)
        models[given if name in models else name] = model
    return models
