"""The command ``list``."""

from __future__ import annotations

import argparse
import json

from ..hub.fetch import is_downloaded
from ..hub.manifest import Entry, entries
from .options import add_json, prints


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``list``."""
    command.description = (
        "List the networks that other commands know by name: id, state (bundled, downloaded or to download), task, title, "
        "artist and license."
    )
    add_json(command)
    command.set_defaults(run=prints(_list))


def _list(arguments: argparse.Namespace) -> str:
    states = {entry.id: _state(entry) for entry in entries()}
    if arguments.json:
        return json.dumps([{**entry.as_json(), "state": states[entry.id]} for entry in entries()], indent=2)
    lines, width = [], max(map(len, states))
    for entry in entries():
        artist = f", {entry.credit.get('artist', 'unknown')}" if entry.task == "style" else ""
        replaced = f", replaced by {entry.replaced_by}" if entry.replaced_by else ""
        lines.append(
            f"{entry.id:{width}} {states[entry.id]:12} {entry.task:13} {entry.title}{artist} ({entry.license}){replaced}"
        )
    return "\n".join(lines)


def _state(entry: Entry) -> str:
    if entry.is_bundled:
        return "bundled"
    return "downloaded" if is_downloaded(entry) else "to download"
