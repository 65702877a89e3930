"""The initial network of style training, and the final network to save.

Training starts from a new or a trained network, with a row for each painting. When styles are added to a trained network,
its convolutions are frozen, and the new rows are saved after the existing ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, listed
from ..models.loading import open_network
from ..models.predict import open_predictor
from ..models.predictor_file import is_predictor
from ..network.arch import ArchSpec
from ..network.pixels import OURS, PixelConvention
from ..network.styles import is_name, name_from, own_facts, rows_of, select, split, styles_in, with_rows
from ..network.transform_net import TransformNet, build_network, with_weights
from .state import StyleImages


@dataclass(frozen=True)
class Start:
    """The start of a style training run.

    Attributes:
        network: the network to train, on the CPU, with a row for each of ``names``. Parameters to learn require gradients.
        names: names of the styles to train.
        base: the network that styles are added to, or None if the whole network is trained.
        kept: facts of the base's styles.
        pixels: pixel convention of the network, which is another program's if it started from a network of that program.
        origin: facts to keep of the network that it started from: the family and source of another program's.
    """

    network: TransformNet
    names: Sequence[str]
    base: TransformNet | None = None
    kept: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    pixels: PixelConvention = OURS
    origin: Mapping[str, Any] = field(default_factory=dict)

    def result(self, network: TransformNet) -> TransformNet:
        """Return the network to save, made from the trained one."""
        if self.base is None:
            return network
        new = [{key: value.cpu() for key, value in row.items()} for row in rows_of(network)]
        return with_rows(self.base, [*rows_of(self.base), *new])

    def facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts to save. Each of the given facts (title, license, credit, ...) belongs to network or style."""
        if self.base is None:
            named = {"styles": [{"name": name} for name in self.names]} if len(self.names) > 1 else {}
            return {**self.origin, **given, **named}
        own = {key: given[key] for key in ("title", "license", "credit") if key in given}
        styles = [*self.kept, *({"name": name, **own} for name in self.names)]
        return {**self.origin, **{key: value for key, value in given.items() if key not in own}, "styles": styles}


def begin(
    arch: str,
    names: Sequence[str],
    seed: int,
    *,
    init_from: str | Path | None,
    add_to: str | Path | None,
    paintings: Sequence[StyleImages] = (),
) -> Start:
    """Return the start of a training run of styles with these names.

    Args:
        arch: arch string of a new network. A trained one only takes over its blurs.
        names: names of the styles.
        seed: random seed of a new network.
        init_from: trained style or predictor to start from, see `train_style.StyleTraining`.
        add_to: trained network to add the styles to, see `train_style.StyleTraining`.
        paintings: the style images of each style, for a start from a predictor.

    Raises:
        CheckpointError: A file cannot be used.
        InputError: The arguments do not fit together.
    """
    if add_to is None and init_from is not None and is_predictor(init_from):
        return predicted_start(init_from, names, arch, paintings)
    if add_to is None:
        return new_start(arch, names, seed) if init_from is None else trained_start(init_from, names, arch)
    if init_from is not None:
        raise InputError("a training run starts from a style (init_from) or adds to one (add_to), not both")
    return added_start(add_to, names)


def new_start(arch: str, names: Sequence[str], seed: int) -> Start:
    """Return the start with a new network, initialized from ``seed``, whose rows are equal.

    Raises:
        ArchError: The arch string is invalid.
        InputError: The arch string has another number of styles.
    """
    spec = ArchSpec.parse(arch)
    if spec.styles not in (1, len(names)):
        raise InputError(f"the architecture is for {spec.styles} styles, and there are {len(names)} style images")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed other devices, permanently
        network = build_network(spec.with_options(styles=1))
    return Start(_spread(network, len(names)).requires_grad_(True), names)


def trained_start(source: str | Path, names: Sequence[str], arch: str) -> Start:
    """Return the start from one trained style, FILE or FILE#STYLE, or from as many as there are names.

    The network gets the blurs of ``arch`` in addition to its own, see `ArchSpec.with_blurs_of`.

    Raises:
        CheckpointError: The file cannot be used.
        InputError: It has no such style, or another number of styles.
        ArchError: The arch string is invalid, or the network cannot take over its blurs.
    """
    path, style = split(source)
    network, pixels, facts = _load(path)
    if style is not None:
        network, _ = select(network, facts, style)
    if network.spec.styles not in (1, len(names)):
        known = listed([each["name"] for each in styles_in(facts)])
        raise InputError(f"{path} holds {network.spec.styles} styles: {known}; start from one, as {path}#NAME")
    if network.spec.styles == 1:
        network = _spread(network, len(names))
    network = with_weights(network.spec.with_blurs_of(ArchSpec.parse(arch)), network.state_dict())
    return Start(network.requires_grad_(True), names, pixels=pixels, origin=_origin(facts))


def predicted_start(source: str | Path, names: Sequence[str], arch: str, paintings: Sequence[StyleImages]) -> Start:
    """Return the start with the rows that a predictor finds for the paintings, in its shared network.

    Raises:
        CheckpointError: The file cannot be used.
        ImageError: A painting is no image.
        InputError: A painting is too small.
        ArchError: The arch string is invalid, or the network cannot take over its blurs.
    """
    predictor = open_predictor(source)
    predicted = [rows_of(predictor.predict(painting).network)[0] for painting in paintings]
    network = with_rows(predictor.network.trunk, predicted)
    network = with_weights(network.spec.with_blurs_of(ArchSpec.parse(arch)), network.state_dict())
    return Start(network.requires_grad_(True), names, pixels=predictor.pixels)


def added_start(source: str | Path, names: Sequence[str]) -> Start:
    """Return the start that adds rows to a trained network of one or more styles.

    The rows start as the mean of the network's rows (FILE), or as the row of one of its styles (FILE#STYLE).

    Raises:
        CheckpointError: The file cannot be used.
        InputError: It has no such style, or already has a style of one of the names.
        ArchError: The network has no rows.
    """
    path, style = split(source)
    base, pixels, facts = _load(path)
    known = styles_in(facts) or [{"name": name_from(str(facts.get("name", Path(path).stem)))}]
    kept = [own_facts(facts, each) for each in known]
    here = [each["name"] for each in kept]
    if twice := sorted(set(here) & set(names)):
        raise InputError(f"{path} has a style named {twice[0]} already; choose another name")
    base.spec.with_options(styles=len(kept) + len(names))  # raises if the network cannot have several styles
    if style is None and base.spec.styles > 1:
        style = dict.fromkeys(here, 1.0)
    plain = base if style is None else select(base, facts, style)[0]
    network = with_rows(plain, rows_of(plain) * len(names))
    learning = rows_of(network)[0].keys()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in learning)
    return Start(network, names, base, kept, pixels, _origin(facts))


def check_fit(spec: ArchSpec, size: int) -> None:
    """Raise InputError for a network that does not return crops of ``size`` px in their own size."""
    if spec.scale != 1 or spec.out_channels != 3:
        raise InputError(f"{spec} gives {spec.out_channels} channels at {spec.scale} times the size; expected 3 and 1")
    if size % spec.multiple_of or size < spec.smallest_side:
        raise InputError(
            f"size is {size}; for {spec} expected a multiple of {spec.multiple_of} and at least {spec.smallest_side} px"
        )


def names_of(names: Sequence[str]) -> list[str]:
    """Return the names for the styles of a file.

    Raises:
        InputError: There are no names, or one is invalid or repeated.
    """
    if not names:
        raise InputError("there is no style image; expected one, or several by the names of their styles")
    for name in names:
        if not is_name(name):
            raise InputError(f"a style cannot be named {name!r}; expected up to 80 characters, none of them # = , / \\")
    if len(set(names)) < len(names):
        raise InputError(f"the names of the styles are {', '.join(names)}; give each its own name")
    return list(names)


def _spread(network: TransformNet, styles: int) -> TransformNet:
    return with_rows(network, rows_of(network) * styles) if styles > 1 else network


def _load(path: str | Path) -> tuple[TransformNet, PixelConvention, dict[str, Any]]:
    """Open a trained network of any program. Its tensors are copies: those of a file can share memory, or be its pages."""
    network, pixels, facts = open_network(path)
    network.load_state_dict({key: value.clone() for key, value in network.state_dict().items()}, assign=True)
    return network, pixels, facts


def _origin(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("family", "source") if key in facts}
