"""What to say about a file that no family accepts: the family that is nearest to it, or what kind of network it holds."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import zip_longest

from ...errors import listed, shortened
from .family import Family
from .layout import Shapes, fit

_NEAR = 0.7  # share of tensors that a file and a family have in common
_FEWEST_NUMBERS = 100_000  # of a network for which spandrel is imported, which takes seconds
_UPSCALERS = {
    "ESRGAN": r"model\.1\.sub\.\d+\.RDB\d|RRDB_trunk\.\d+\.RDB\d|body\.\d+\.rdb\d\.conv\d",
    "SwinIR": r"layers\.\d+\.residual_group\.blocks\.\d+\.",
    "EDSR": r"body\.\d+\.body\.\d+\.weight|head\.0\.weight.*tail\.0\.0\.weight",
    "DAT": r"layers\.\d+\.blocks\.\d+\.attn\.",
}
_OTHERS = {
    r"(^|[._])lora_|\.lora[._]": "is a LoRA for an image generator, which belongs in ComfyUI's models/loras",
    r"^(model\.)?diffusion_model\.|^first_stage_model\.|^cond_stage_model\.": "is a checkpoint of an image generator, which "
    "belongs in ComfyUI's models/checkpoints",
    r"^control_model\.": "is a ControlNet, which belongs in ComfyUI's models/controlnet",
}


def nearest(namings: Iterable[Shapes], families: Sequence[Family]) -> str | None:
    """Return the family that a file nearly fits, with the difference, or None if none is near.

    Args:
        namings: shapes by key, under the names that a wrapper may have given them
        families: the families
    """
    found = [
        (difference[0], f"nearly that of {family.name}, but {difference[1]}")
        for shapes in namings
        for family in families
        if (difference := _difference(family, shapes)) is not None and difference[0] >= _NEAR
    ]
    return max(found, key=lambda each: each[0])[1] if found else None  # the first of equals


def _difference(family: Family, shapes: Shapes) -> tuple[float, str] | None:
    """Return how much of a file fits a family, from 0 to 1, and the first thing that does not."""
    slots = family.slots(shapes)
    if not slots:
        return None
    wanted, allowed = set(), set()
    for slot in slots:
        for conv, norm in zip_longest(slot.convs, slot.norms):
            if conv:
                wanted.add(f"{conv}.weight")
                allowed.add(f"{conv}.bias")
            if norm:
                names = family.names
                wanted |= {f"{norm}.{part}" for part in (names.scale, names.shift, *names.statistics)}
                allowed |= {f"{norm}.{part}" for part in names.unused}
    for prefix in family.extra:
        allowed |= {f"{prefix}.{part}" for part in (family.names.scale, family.names.shift, *family.names.unused)}
    missing, more = sorted(wanted - set(shapes)), sorted(set(shapes) - wanted - allowed)
    share = len(wanted & set(shapes)) / max(len(wanted | set(more)), 1)
    if missing:
        return share, f"{_some(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if more:
        return share, f"it also holds {_some(more)}"
    problems: list[str] = []
    if fit(slots, shapes, family.names, family.extra, problems) is None and problems:
        return share, problems[0]
    return share, "its channels are not those of this family"


def _some(keys: list[str]) -> str:
    return listed([shortened(key, 60) for key in keys], 3)


def other_network(namings: Iterable[Shapes]) -> str | None:
    """Return what kind of other network a file holds and where it belongs, or None if that is unknown."""
    for shapes in namings:
        for pattern, what in _OTHERS.items():
            if any(re.search(pattern, key) for key in shapes):
                return what
        name = next(
            (name for name, pattern in _UPSCALERS.items() if any(re.search(pattern, key) for key in shapes)), None
        )
        if name := name or _compact(shapes) or _asked_spandrel(shapes):
            return (
                f"is a general upscaler ({name}), which cannot be used here; put it into ComfyUI's models/upscale_models and "
                f"load it with the node Load Upscale Model"
            )
    return None


def _compact(shapes: Shapes) -> str | None:
    """Recognize Real-ESRGAN's Compact: a list of convolutions with PReLUs of one slope for each channel between."""
    first, second = shapes.get("body.0.weight", ()), shapes.get("body.1.weight", ())
    return "Compact" if len(first) == 4 and first[1] == 3 and second == first[:1] else None


def _asked_spandrel(shapes: Shapes) -> str | None:
    """Return the architecture that the package spandrel, which ComfyUI loads upscalers with, recognizes by the keys."""
    if "spandrel" not in sys.modules and (
        sum(map(math.prod, shapes.values())) < _FEWEST_NUMBERS or find_spec("spandrel") is None
    ):
        return None
    with suppress(Exception):  # another program's code, which may change
        keys = dict.fromkeys(shapes)
        for each in import_module("spandrel").MAIN_REGISTRY.architectures("detection"):
            if each.architecture.detect(keys):
                return str(each.architecture.name)
    return None
