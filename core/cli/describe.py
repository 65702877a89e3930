"""The command ``describe``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ..checkpoints.own_format import read_header
from ..files import sha256_of
from ..hub.fetch import find, is_downloaded
from ..hub.manifest import Entry, find_entry
from ..models.loading import network_file, open_network
from ..models.predictor_file import TASK as PREDICTOR
from ..models.predictor_file import load_predictor
from ..network.styles import split, styles_in
from .options import add_json, add_overrides, prints


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``describe``."""
    command.description = "Show the architecture, size, license and other facts of a network."
    command.add_argument(
        "file",
        metavar="NAME|FILE",
        help="a network by name, or a file; FILE#STYLE for one style of a file with several",
    )
    add_json(command)
    add_overrides(command)
    command.set_defaults(run=prints(_describe))


def _describe(arguments: argparse.Namespace) -> str:
    name, style = split(arguments.file)
    entry = find_entry(name)
    if entry is not None and (entry.task == "loss-network" or not is_downloaded(entry)):
        return _as_text(_facts_of_entry(entry), arguments.json)
    path = network_file(name)
    if read_header(path).get("task") == PREDICTOR:
        predictor, pixels, facts = load_predictor(path)
        network, parameters = predictor.trunk, predictor.parameters()
    else:
        network, pixels, facts = open_network(
            path, style=style, channel_order=arguments.channel_order, output=arguments.output_function
        )
        parameters = network.parameters()
    answer = {
        "name": facts.get("name", path.stem),
        "task": facts.get("task"),
        "family": facts.get("family", "perceptual-style"),
        "arch": str(network.spec),
        "width": network.spec.width,
        "scale": network.spec.scale,
        "parameters": sum(p.numel() for p in parameters),
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
    if network.spec.styles > 1 and not arguments.json:
        answer["styles"] = ", ".join(each["name"] for each in styles_in(facts))
    return _as_text(answer, arguments.json, left_out=("loss curve", "run", "recipe"))


def _facts_of_entry(entry: Entry) -> dict[str, Any]:
    """Return the manifest's facts of a network that this command does not open."""
    path = find(entry)
    answer = entry.as_json() | {"state": "to download" if path is None else "downloaded"}
    if path is not None:
        answer["file"] = str(path)
    return answer


def _as_text(answer: dict[str, Any], as_json: bool, left_out: Sequence[str] = ()) -> str:
    """Return an answer as JSON, or as lines without the facts that are too long to read."""
    if as_json:
        return json.dumps(answer, indent=2)
    return "\n".join(
        f"{key}: {json.dumps(value) if isinstance(value, dict | list) else value}"
        for key, value in answer.items()
        if key not in left_out
    )
