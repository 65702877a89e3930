"""The command ``download``."""

from __future__ import annotations

import argparse

from huggingface_hub.utils import logging

from .. import errors
from ..hub.fetch import fetch
from ..hub.loss_networks import DEFAULT_LAYER, fetch_tensors
from ..hub.manifest import entries, find_entry
from .options import prints, progress_bar


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``download``."""
    command.description = (
        "Download a network that `list` names from the Hugging Face Hub, and verify it. Of a loss network only the layers "
        "that are needed are downloaded. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as in huggingface_hub."
    )
    command.add_argument("name", metavar="NAME")
    command.add_argument("--folder", metavar="DIR", help="where to put it (default: the Hub's cache)")
    command.add_argument("--layer", help="of a loss network: the deepest layer needed (default: relu4_3)")
    command.set_defaults(run=prints(_download))


def _download(arguments: argparse.Namespace) -> str:

    entry = find_entry(arguments.name)
    if entry is None:
        known = ", ".join(each.id for each in entries() if not each.is_bundled)
        raise errors.InputError(f"there is no network named {arguments.name!r} to download; expected {known}")
    if arguments.layer and entry.task != "loss-network":
        raise errors.InputError(f"--layer is for loss networks; {entry.id} is a {entry.task}")
    logging.set_verbosity_error()  # what goes wrong is said once, by this command
    with progress_bar("B", unit_scale=True, desc=entry.id) as show:
        if entry.task == "loss-network":
            path = fetch_tensors(entry, arguments.layer or DEFAULT_LAYER, folder=arguments.folder, progress=show)
        else:
            path = fetch(entry, folder=arguments.folder, progress=show)
    return str(path)
