"""Several styles in one network: rows of scale and shift that make a style, their names, and the choice of one.

In conditional instance normalization (Dumoulin, Shlens and Kudlur 2017, "A learned representation for artistic style",
section 2.2) all convolutions are shared, and a style is one row of scale and shift in each instance norm. Rows blend
linearly (their section 3.4), and a style is added by learning its row alone (section 3.3).

Inference always uses a single-style network. `select` builds it: the shared convolutions with one row, or with a mixture
of rows, in its norms.

A file of several styles names them in its facts: ``styles`` is a list of objects in the order of the rows. Each has a
``name`` and may have facts of its own: title, license, credit, recipe, figures.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError, listed, quoted
from .arch import MAX_STYLES, ArchSpec
from .stages import InstanceNorm
from .transform_net import TransformNet, with_weights

#: One style: the scale and shift (C) of each instance norm, by their names in the network
Rows = Mapping[str, Tensor]
#: The name of a style, or the amounts of a mixture by name
Style = str | Mapping[str, float]

_STYLE_FACTS = ("title", "license", "credit", "recipe", "figures")  # each style of a file may have its own
_FILE_FACTS = ("styles", "run", "loss curve")  # true of the file as a whole, not of a style
_NOT_IN_NAMES = r"#=,/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"


def rows_of(network: TransformNet) -> list[dict[str, Tensor]]:
    """Return the rows of a network, one for each style. They share the network's memory."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, InstanceNorm)}
    tables = {
        f"{name}.{part}": getattr(norm, part).detach() for name, norm in norms.items() for part in ("weight", "bias")
    }
    if network.spec.styles == 1:
        return [tables]
    return [{key: table[i] for key, table in tables.items()} for i in range(network.spec.styles)]


def with_rows(network: TransformNet, new: Sequence[Rows]) -> TransformNet:
    """Return a copy of the network, in eval mode, with these rows in place of its own.

    A single row makes a network of one style.

    Raises:
        ArchError: there are several rows and the network has no instance norms to hold them.
    """
    spec = network.spec.with_options(styles=len(new))
    tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}
    for key in new[0]:
        tensors[key] = torch.stack([row[key] for row in new]) if len(new) > 1 else new[0][key].clone()
    return with_weights(spec, tensors)


def mixed(all_rows: Sequence[Rows], amounts: Sequence[float]) -> dict[str, Tensor]:
    """Return the sum of amount times row over all rows."""
    used = [(amount, row) for amount, row in zip(amounts, all_rows, strict=True) if amount]
    return {key: reduce(torch.add, (amount * row[key] for amount, row in used)) for key in all_rows[0]}


def select(network: TransformNet, facts: Mapping[str, Any], style: Style) -> tuple[TransformNet, dict[str, Any]]:
    """Build the single-style network of one style or of a mixture, and its facts.

    Args:
        network: a network of several styles
        facts: the facts of its file
        style: a name, or amounts by name, each 0 or more; only their proportions count

    Raises:
        InputError: the network has no style of that name, or the amounts make no mixture. A network of a single style has
            no names.
    """
    known = styles_in(facts)
    amounts = _amounts([each["name"] for each in known], style)
    plain = with_rows(network, [mixed(rows_of(network), amounts)])
    of_file = {key: value for key, value in facts.items() if key not in _FILE_FACTS}
    used = [own_facts(facts, each) for each, amount in zip(known, amounts, strict=True) if amount]
    # A mixture has only the facts that all its parts share.
    shared = {key: value if all(each.get(key) == value for each in used) else None for key, value in used[0].items()}
    if len(used) > 1:
        parts = zip((each["name"] for each in known), amounts, strict=True)
        shared["name"] = " + ".join(f"{amount:.3g} {name}" for name, amount in parts if amount)
    merged = of_file | shared | {"arch": str(plain.spec)}
    return plain, {key: value for key, value in merged.items() if value is not None}


def _amounts(names: Sequence[str], style: Style) -> list[float]:
    """Amount of each style, in the order of the rows; they add up to 1."""
    wanted = {style: 1.0} if isinstance(style, str) else dict(style)
    known = listed(names) or "one style only, without a name, so give none"
    for name, amount in wanted.items():
        if name not in names:
            raise InputError(f"there is no style named {name!r} in this network; it has {known}")
        if not 0 <= amount < math.inf:
            raise InputError(f"the amount of {name} is {amount}; expected 0 or more")
    total = sum(wanted.values())
    if not 0 < total < math.inf:
        raise InputError(f"the amounts of the mixture add up to {total}; expected numbers above 0 for some of {known}")
    return [wanted.get(name, 0.0) / total for name in names]


def styles_in(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the facts of each style of a network. The list is empty for a network of a single style.

    Raises:
        CheckpointError: they are not a list of objects with different names.
    """
    found = facts.get("styles", [])
    named = isinstance(found, list) and len(found) <= MAX_STYLES
    named = named and all(isinstance(each, dict) and is_name(each.get("name")) for each in found)
    if not named or len({each["name"] for each in found}) < len(found):
        raise CheckpointError(f"its styles are {quoted(found, 80)}; expected a list of objects with different names")
    return found


def check_styles(facts: Mapping[str, Any], spec: ArchSpec) -> None:
    """Raise CheckpointError unless the facts name each style of a network of several styles."""
    found = len(styles_in(facts))
    if found != (spec.styles if spec.styles > 1 else 0):
        raise CheckpointError(f"the network holds {spec.styles} styles, and the facts name {found or 'none'}")


def own_facts(facts: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of one style: its entry, completed from the facts of the whole file. None means unknown.

    Args:
        facts: the facts of the file
        entry: one of `styles_in`, or only the name for a file of a single style
    """
    return {key: facts.get(key) for key in _STYLE_FACTS} | dict(entry)


def is_name(name: object) -> bool:
    """Return whether a style in a file may have this name.

    A name has 1 to 80 characters without blanks at the ends, no # = , / or backslash, and no control characters.
    """
    return (
        isinstance(name, str) and re.fullmatch(f"[^{_NOT_IN_NAMES}]{{1,80}}", name) is not None and name.strip() == name
    )


def name_from(text: str) -> str:
    """Make a style's name from a file's name: characters that are not allowed become dashes."""
    return re.sub(f"[{_NOT_IN_NAMES}]", "-", text).strip()[:80].strip() or "style"


def split(text: str | Path) -> tuple[str | Path, Style | None]:
    """Split ``FILE#STYLE``, the notation for one style of a file (or of a network with a name).

    Returns:
        The file and the style: a name, a mixture for a STYLE such as ``wave=0.7,candy=0.3``, or None without a STYLE.
        If a file exists whose name is the whole text, the text is that file.

    Raises:
        InputError: an amount is not a number.
    """
    base, mark, style = str(text).rpartition("#")
    if not mark or os.path.exists(text):
        return text, None
    if "=" not in style:
        return base, style
    amounts: dict[str, float] = {}
    for part in style.split(","):
        name, _, amount = part.partition("=")
        try:
            amounts[name.strip()] = float(amount)
        except ValueError:
            raise InputError(f"cannot read {part!r} in {style!r}; expected something like wave=0.7,candy=0.3") from None
    return base, amounts
