"""The commands about files of weights: ``describe`` and ``convert``, and the options for what such a file cannot tell."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import errors


def add_checkpoint_commands(commands: Any, show: Callable[[Callable[[argparse.Namespace], str]], Any]) -> None:
    """Add ``describe`` and ``convert``. ``show`` makes of a function that answers in text a command that prints it."""
    command = commands.add_parser("describe", help="say what a file of weights holds, also another program's")
    command.add_argument("file", metavar="NAME|FILE", help="FILE#STYLE for one style of a file of several")
    command.add_argument("--json", action="store_true", help="answer as JSON")
    add_overrides(command)
    command.set_defaults(run=show(_describe))

    command = commands.add_parser("convert", help="write another program's checkpoint as one of ours")
    command.add_argument("file", metavar="FILE", help="a checkpoint of any known family")
    command.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write, .safetensors")
    command.add_argument("--half", action="store_true", help="write float16: half the size, the same picture to 1/255")
    add_overrides(command)
    command.set_defaults(run=show(_convert))


def add_overrides(command: Any) -> None:
    """Add ``--channel-order`` and ``--output-function``, which take the place of what a file's family usually has."""
    group = command.add_argument_group("what a checkpoint cannot tell")
    group.add_argument("--channel-order", choices=("rgb", "bgr"), help="instead of the usual one of the file's family")
    group.add_argument(
        "--output-function",
        metavar="NAME",
        help="linear, sigmoid, tanh150, ...: instead of the usual one of the family",
    )


def _describe(arguments: argparse.Namespace) -> str:
    from .manifest import find_entry
    from .models import network_file, open_network
    from .styles import split, styles_in

    name, style = split(arguments.file)
    entry = find_entry(name)
    if entry is not None and (entry.task == "loss-network" or not entry.is_downloaded()):
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
        answer |= {"bytes": path.stat().st_size, "sha256": _sha256(path)}
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
    from .hub import find

    path = find(entry)
    answer = entry.as_json() | {"state": "to download" if path is None else "downloaded"}
    if path is not None:
        answer["file"] = str(path)
    if as_json:
        return json.dumps(answer, indent=2)
    return "\n".join(
        f"{key}: {json.dumps(value) if isinstance(value, dict) else value}" for key, value in answer.items()
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _convert(arguments: argparse.Namespace) -> str:
    from .checkpoint import save_network
    from .models import open_network
    from .styles import split

    name, style = split(arguments.file)
    source, target = Path(name), Path(arguments.output)
    if target.suffix != ".safetensors":
        raise errors.InputError(f"{target} does not end in .safetensors, which is what is written")
    if target.exists() and source.exists() and target.samefile(source):
        raise errors.InputError(f"{target} would replace the file itself; choose another output")
    network, pixels, facts = open_network(
        source, style=style, channel_order=arguments.channel_order, output=arguments.output_function
    )
    save_network(target, network, facts, half=arguments.half, pixels=pixels)
    return str(target)
