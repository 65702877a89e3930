"""What a training of styles begins with, and what becomes of it at the end.

A new network, or a trained one, with a row for each painting; or, where styles are added to a trained network, its frozen
convolutions with new rows, which are put after the rows that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.own_format import load_network
from ..errors import CheckpointError, InputError
from ..network.arch import ArchSpec
from ..network.styles import is_name, name_from, own_facts, rows_of, select, split, styles_in, with_rows
from ..network.transform_net import TransformNet, build_network


@dataclass(frozen=True)
class Start:
    """network: what is trained, on the CPU, with a row for each of ``names``, and requires_grad where it learns

    base: the network that styles are added to, and ``kept``, what is known of its styles; None where all is trained
    """

    network: TransformNet
    names: Sequence[str]
    base: TransformNet | None = None
    kept: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def result(self, network: TransformNet) -> TransformNet:
        """The network to write, from the trained one."""
        if self.base is None:
            return network
        new = [{key: value.cpu() for key, value in row.items()} for row in rows_of(network)]
        return with_rows(self.base, [*rows_of(self.base), *new])

    def facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the file says of itself, with what the user said (title, license, credit, ...) at its place."""
        if self.base is None:
            named = {"styles": [{"name": name} for name in self.names]} if len(self.names) > 1 else {}
            return {**given, **named}
        own = {key: given[key] for key in ("title", "license", "credit") if key in given}
        styles = [*self.kept, *({"name": name, **own} for name in self.names)]
        return {key: value for key, value in given.items() if key not in own} | {"styles": styles}


def begin(
    arch: str, names: Sequence[str], seed: int, *, init_from: str | Path | None, add_to: str | Path | None
) -> Start:
    """The start of a training of styles with these names; arguments are those of style_training.StyleTraining.

    Raises CheckpointError, InputError.
    """
    if add_to is None:
        return new_start(arch, names, seed) if init_from is None else trained_start(init_from, names)
    if init_from is not None:
        raise InputError("a training starts from a style (init_from) or adds to one (add_to), not both")
    return added_start(add_to, names)


def new_start(arch: str, names: Sequence[str], seed: int) -> Start:
    """A new network with equal rows, initialized from ``seed``. Raises ArchError, InputError."""
    spec = ArchSpec.parse(arch)
    if spec.styles not in (1, len(names)):
        raise InputError(f"the architecture is for {spec.styles} styles, and there are {len(names)} style images")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed other devices for good
        network = build_network(spec.with_options(styles=1))
    return Start(_spread(network, len(names)).requires_grad_(True), names)


def trained_start(source: str | Path, names: Sequence[str]) -> Start:
    """A trained style, FILE or FILE#STYLE, or as many as there are names. Raises CheckpointError, InputError."""
    path, style = split(source)
    network, facts = _ours(path)
    if style is not None:
        network, _ = select(network, facts, style)
    if network.spec.styles not in (1, len(names)):
        known = ", ".join(each["name"] for each in styles_in(facts))
        raise InputError(f"{path} holds {network.spec.styles} styles: {known}; start from one, as {path}#NAME")
    if network.spec.styles == 1:
        network = _spread(network, len(names))
    return Start(network.requires_grad_(True), names)


def added_start(source: str | Path, names: Sequence[str]) -> Start:
    """New rows for a trained network of one or more styles, FILE; they begin as the mean of its rows, or as those of
    FILE#STYLE.

    Raises CheckpointError, InputError; ArchError when the network has no rows.
    """
    path, style = split(source)
    base, facts = _ours(path)
    known = styles_in(facts) or [{"name": name_from(str(facts.get("name", Path(path).stem)))}]
    kept = [own_facts(facts, each) for each in known]
    here = [each["name"] for each in kept]
    if twice := sorted(set(here) & set(names)):
        raise InputError(f"{path} has a style named {twice[0]} already; choose another name")
    base.spec.with_options(styles=len(kept) + len(names))  # which says what is in the way
    if style is None and base.spec.styles > 1:
        style = dict.fromkeys(here, 1.0)
    plain = base if style is None else select(base, facts, style)[0]
    network = with_rows(plain, rows_of(plain) * len(names))
    learning = rows_of(network)[0].keys()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in learning)
    return Start(network, names, base, kept)


def names_of(names: Sequence[str]) -> list[str]:
    """Names for the styles of a file. Raises InputError where there is none, one cannot be used, or comes twice."""
    if not names:
        raise InputError("there is no style image; expected one, or several by the names of their styles")
    for name in names:
        if not is_name(name):
            raise InputError(f"a style cannot be named {name!r}; expected up to 80 characters, none of them # = , / \\")
    if len(set(names)) < len(names):
        raise InputError(f"two styles would have one name in {', '.join(names)}; give each its own")
    return list(names)


def _spread(network: TransformNet, styles: int) -> TransformNet:
    return with_rows(network, rows_of(network) * styles) if styles > 1 else network


def _ours(path: str | Path) -> tuple[TransformNet, dict[str, Any]]:
    network, facts = load_network(path)
    if "pixels" in facts:
        raise CheckpointError(f"{path} takes pixels as {facts['pixels']}; training starts from our own styles")
    return network, facts
