"""The command ``download``."""

from __future__ import annotations

import argparse

from huggingface_hub.utils import logging

from .. import errors
from ..exporting import web_runtime
from ..hub.fetch import fetch
from ..hub.loss_networks import DEFAULT_LAYER, fetch_tensors
from ..hub.manifest import entries, find_entry
from ..hub.repositories import fetch_repository, is_repository
from .options import prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``download``."""
    command.description = (
        "Download a network from the Hugging Face Hub and verify it. Only the needed layers of a loss network are "
        "downloaded. An interrupted download resumes when you run the same command again. The environment variables "
        "HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as in huggingface_hub. The name onnxruntime-web stands for the "
        f"files that web pages of the command export need ({web_runtime.SIZE / 1e6:.0f} MB from registry.npmjs.org)."
    )
    command.add_argument(
        "name",
        metavar="NAME",
        help='a network that `perceptual-style list` shows as "to download", '
        "or USER/NAME, a style that somebody has pushed to the Hub",
    )
    command.add_argument("--folder", metavar="DIR", help="folder to download into (default: the Hub's cache)")
    command.add_argument(
        "--layer", help=f"for a loss network, the deepest layer that you need (default: {DEFAULT_LAYER})"
    )
    command.set_defaults(run=prints(_download))


def _download(arguments: argparse.Namespace) -> str:
    if arguments.name == web_runtime.NAME:
        with progress_bar("B", unit_scale=True, desc=arguments.name) as show:
            return str(web_runtime.fetch_runtime(arguments.folder, show))
    logging.set_verbosity_error()  # this command reports errors itself
    if is_repository(arguments.name):
        if arguments.layer:
            raise errors.InputError(f"--layer is for loss networks; {arguments.name} is a style")
        with progress_bar("B", unit_scale=True, desc=arguments.name) as show:
            return str(fetch_repository(arguments.name, folder=arguments.folder, progress=show))
    entry = find_entry(arguments.name)
    if entry is None:
        known = ", ".join(each.id for each in entries() if not each.is_bundled)
        raise errors.InputError(f"there is no network named {arguments.name!r} to download; expected {known}")
    if arguments.layer and entry.task != "loss-network":
        kind = {"upscale": "an upscaler"}.get(entry.task, f"a {entry.task}")
        raise errors.InputError(f"--layer is for loss networks; {entry.id} is {kind}")
    with progress_bar("B", unit_scale=True, desc=entry.id) as show:
        if entry.task == "loss-network":
            path = fetch_tensors(entry, arguments.layer or DEFAULT_LAYER, folder=arguments.folder, progress=show)
        else:
            path = fetch(entry, folder=arguments.folder, progress=show)
    return str(path)
