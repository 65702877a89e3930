"""The command ``list``."""

from __future__ import annotations

import argparse
import json

from ..hub.fetch import is_downloaded
from ..hub.manifest import entries
from .options import prints


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``list``."""
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.set_defaults(run=prints(_list))


def _list(arguments: argparse.Namespace) -> str:
    states = {
        e.id: "bundled" if e.is_bundled else "downloaded" if is_downloaded(e) else "to download" for e in entries()
    }
    if arguments.json:
        return json.dumps([{**entry.as_json(), "state": states[entry.id]} for entry in entries()], indent=2)
    lines, wide = [], max(len(entry.id) for entry in entries())
    for entry in entries():
        artist = f", {entry.credit.get('artist', 'unknown')}" if entry.task == "style" else ""
        lines.append(f"{entry.id:{wide}} {states[entry.id]:12} {entry.task:13} {entry.title}{artist} ({entry.license})")
    return "\n".join(lines)
