"""The command ``describe``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..files import sha256_of
from ..hub.fetch import find, is_downloaded
from ..hub.manifest import find_entry
from ..models.loading import network_file, open_network
from ..network.styles import split, styles_in
from .options import add_overrides, prints


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``describe``."""
    command.add_argument("file", metavar="NAME|FILE", help="FILE#STYLE for one style of a file of several")
    command.add_argument("--json", action="store_true", help="answer as JSON")
    add_overrides(command)
    command.set_defaults(run=prints(_describe))


def _describe(arguments: argparse.Namespace) -> str:
    name, style = split(arguments.file)
    entry = find_entry(name)
    if entry is not None and (entry.task == "loss-network" or not is_downloaded(entry)):
        return _describe_entry(entry, arguments.json)
    path = network_file(name)
    network, pixels, facts = open_network(
        path, style=style, channel_order=arguments.channel_order, output=arguments.output_function
    )
    answer = {
        "name": facts.get("name", path.stem),
        "task": facts.get("task"),
        "family": facts.get("family", "perceptual-style"),
        "arch": str(network.spec),
        "width": network.spec.width,
        "scale": network.spec.scale,
        "parameters": sum(p.numel() for p in network.parameters()),
        "pixels": str(pixels),
        "license": facts.get("license", entry.license if entry else "unknown"),
    }
    if entry is not None and not entry.is_bundled:
        answer |= entry.as_json() | {"name": entry.id, "file": str(path), "state": "downloaded"}
        if arguments.channel_order or arguments.output_function:
            answer |= {"pixels": str(pixels)}
    if path.is_file():
        answer |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    answer |= {key: value for key, value in facts.items() if key not in answer}
    if arguments.json:
        return json.dumps(answer, indent=2)
    if network.spec.styles > 1:
        answer["styles"] = ", ".join(each["name"] for each in styles_in(facts))
    return "\n".join(
        f"{key}: {json.dumps(value) if isinstance(value, dict | list) else value}"
        for key, value in answer.items()
        if key not in ("loss curve", "run", "recipe")
    )


def _describe_entry(entry: Any, as_json: bool) -> str:
    """What the manifest says of a network that is not opened here."""
    path = find(entry)
    answer = entry.as_json() | {"state": "to download" if path is None else "downloaded"}
    if path is not None:
        answer["file"] = str(path)
    if as_json:
        return json.dumps(answer, indent=2)
    return "\n".join(
        f"{key}: {json.dumps(value) if isinstance(value, dict) else value}" for key, value in answer.items()
    )
