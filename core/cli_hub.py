"""The commands about networks that have a name: ``list`` and ``download``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from . import errors
from .progress import Progress


def add_hub_commands(commands: Any, show: Callable[[Callable[[argparse.Namespace], str]], Any]) -> None:
    """Add ``list`` and ``download``. ``show`` makes of a function that answers in text a command that prints it."""
    command = commands.add_parser("list", help="name the networks: bundled, downloaded, and to download")
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.set_defaults(run=show(_list))

    command = commands.add_parser(
        "download",
        help="download a network by its name, and verify it",
        description="Download a network that `list` names from the Hugging Face Hub, and verify it. Of a loss network only "
        "the layers that are needed are downloaded. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean "
        "to huggingface_hub.",
    )
    command.add_argument("name", metavar="NAME")
    command.add_argument("--folder", metavar="DIR", help="where to put it (default: the Hub's cache)")
    command.add_argument("--layer", help="of a loss network: the deepest layer needed (default: relu4_3)")
    command.set_defaults(run=show(_download))


def _list(arguments: argparse.Namespace) -> str:
    from .manifest import entries

    states = {
        e.id: "bundled" if e.is_bundled else "downloaded" if e.is_downloaded() else "to download" for e in entries()
    }
    if arguments.json:
        return json.dumps([{**entry.as_json(), "state": states[entry.id]} for entry in entries()], indent=2)
    lines, wide = [], max(len(entry.id) for entry in entries())
    for entry in entries():
        artist = f", {entry.credit.get('artist', 'unknown')}" if entry.task == "style" else ""
        lines.append(f"{entry.id:{wide}} {states[entry.id]:12} {entry.task:13} {entry.title}{artist} ({entry.license})")
    return "\n".join(lines)


def _download(arguments: argparse.Namespace) -> str:
    from huggingface_hub.utils import logging
    from tqdm import tqdm

    from .hub import fetch
    from .hub_tensors import DEFAULT_LAYER, fetch_tensors
    from .manifest import entries, find_entry

    entry = find_entry(arguments.name)
    if entry is None:
        known = ", ".join(each.id for each in entries() if not each.is_bundled)
        raise errors.InputError(f"there is no network named {arguments.name!r} to download; expected {known}")
    if arguments.layer and entry.task != "loss-network":
        raise errors.InputError(f"--layer is for loss networks; {entry.id} is a {entry.task}")
    logging.set_verbosity_error()  # what goes wrong is said once, by this command
    with tqdm(total=None, unit="B", unit_scale=True, desc=entry.id, delay=1e-3) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        if entry.task == "loss-network":
            path = fetch_tensors(entry, arguments.layer or DEFAULT_LAYER, folder=arguments.folder, progress=show)
        else:
            path = fetch(entry, folder=arguments.folder, progress=show)
    return str(path)
