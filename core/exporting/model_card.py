"""What a style is published with: its weights, a model card that says how it was made and how to use it, and pictures."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.own_format import save_network
from ..errors import InputError, shortened
from ..hub.repositories import WEIGHTS
from ..images.filters import fitted
from ..images.reading import ImageFile
from ..images.writing import encode_images
from ..models.style_model import StyleModel
from ..progress import Progress, ProgressCallback
from .model_graph import credit_of

_SIDE, _GAP = 512, 16  # px, of the pictures
#: Licenses that the Hub knows, by the names that this project's files use
_LICENSES = {"CC0": "cc0-1.0", "public domain": "cc0-1.0", "BSD-3-Clause": "bsd-3-clause"}
_KNOWN = re.compile(
    r"(mit|apache-2\.0|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.0|bsd-[23]-clause|unlicense|(l|a)?gpl-[23]\.0)"
)
_LOSSES = "final losses"


def package(
    model: StyleModel,
    repository: str,
    *,
    license_name: str | None = None,
    title: str | None = None,
    painting: Tensor | None = None,
    photos: Sequence[Tensor] = (),
    measures: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, bytes]:
    """Return the files of a style's repository by their paths: weights, model card and pictures.

    Args:
        model: The style.
        repository: USER/NAME, for the examples in the card.
        license_name: License of the weights. If it is None, the license in the style's facts.
        title: Title of the style. If it is None, the title in the facts, or the model's name.
        painting: (1, 3, H, W) picture of the painting, to be shown in the card.
        photos: (1, 3, H, W) each, to be shown before and after.
        measures: The style's entry in the yardstick.json of ``evaluate style``.
        progress: Called after each picture.

    Raises:
        InputError: If no license is known.
        NetworkError: If the network gives nan or infinite values.
    """
    facts = dict(model.facts)
    facts |= {"license": license_name} if license_name else {}
    facts |= {"title": title} if title else {}
    if not facts.get("license") or facts["license"] == "unknown":
        raise InputError(f"{model.name} does not say its license; name it, as in --license cc0-1.0")
    model = replace(model, facts=facts)
    files = {WEIGHTS: _weights(model)}
    if painting is not None:
        files["painting.jpg"] = _encoded(fitted(painting.float(), _SIDE))
    for number, photo in enumerate(photos, start=1):
        small = fitted(photo.float(), _SIDE)
        picture = model.stylize(small, precision="fp32")
        files[f"picture_{number}.jpg"] = _encoded(
            torch.cat((small, small.new_ones(1, 3, small.shape[2], _GAP), picture), -1)
        )
        if progress is not None:
            progress(Progress(number, len(photos), preview=picture))
    pictures = [name for name in files if name.endswith(".jpg")]
    return {"README.md": model_card(model, repository, pictures, measures).encode()} | files


def model_card(
    model: StyleModel, repository: str, pictures: Sequence[str] = (), measures: Mapping[str, Any] | None = None
) -> str:
    """Return a style's model card in Markdown; arguments as for `package`, ``pictures`` are names of files."""
    facts = model.facts
    title = _text(facts.get("title") or model.name)
    credit = _text(credit_of(facts))
    parts = [
        _front_matter(str(facts.get("license"))),
        f"# {title}",
        f"A style for photos and videos{f', after {credit}' if credit else ''}. It applies the painting's style in a single "
        f"pass of a network of {sum(p.numel() for p in model.network.parameters()):,} parameters, for "
        "[Perceptual Style](https://github.com/perceptual-style/perceptual-style), which works in ComfyUI, Python and on the "
        "command line.",
        *map(_picture, pictures),
        _usage(repository),
        "## Painting and license\n\n" + _table(_origin(facts, credit)),
    ]  # fmt: skip
    if rows := _recipe(facts.get("recipe")):
        parts.append("## Recipe\n\n" + _table([*rows, ("architecture", f"`{model.spec}`")]))
    if rows := _figures(facts.get("figures")):
        parts.append("Losses at the end of the training run:\n\n" + _table(rows))
    if measures is not None:
        parts.append("## Yardstick\n\n" + _yardstick(measures))
    return "\n\n".join(parts) + "\n"


def _front_matter(license_name: str) -> str:
    """Return what the Hub itself reads."""
    known = _LICENSES.get(license_name, license_name.lower())
    lines = [f"license: {known}"] if _KNOWN.fullmatch(known) else [
        "license: other", f"license_name: {json.dumps(shortened(license_name, 60))}",
    ]  # fmt: skip
    lines += ["library_name: perceptual-style", "pipeline_tag: image-to-image", "tags:"]
    lines += [f"- {tag}" for tag in ("style-transfer", "image-to-image", "comfyui", "perceptual-style")]
    return "\n".join(("---", *lines, "---"))


def _picture(name: str) -> str:
    what = "The painting" if name.startswith("painting") else "A photo, and the photo in this style"
    return f"![{what}]({name})"


def _usage(repository: str) -> str:
    return f"""## Use

```sh
pip install perceptual-style
perceptual-style download {repository}
perceptual-style stylize photo.jpg -o out.jpg --style {repository}
```

```python
from perceptual_style.core import load_style

model = load_style("{repository}", download=True)
image = model.stylize(photo)  # (N, 3, H, W) RGB in [0, 1]
```

In ComfyUI: `perceptual-style download {repository} --folder ComfyUI/models/fast_style`, or put `{WEIGHTS}` there by hand, then
choose it in *Load Fast Style Model*."""


def _origin(facts: Mapping[str, Any], credit: str) -> list[tuple[str, str]]:
    rows = [("painting", credit or "not stated"), ("license of the weights", _text(facts.get("license")))]
    for key in ("family", "notes"):
        if isinstance(facts.get(key), str):
            rows.append(({"family": "file of the program"}.get(key, key), _text(facts[key])))
    return rows


def _recipe(recipe: object) -> list[tuple[str, str]]:
    """Return the numbers of a recipe, without their sources and what is off."""
    if not isinstance(recipe, Mapping):
        return [("recipe", _text(recipe))] if recipe else []
    rows = [
        (_text(key.replace("_", " ")), _text(value))
        for key, value in recipe.items()
        if isinstance(value, (str, int, float)) and key != "arch" and value not in (0, "")
    ]
    weights = recipe.get("weights")
    if isinstance(weights, Mapping):
        for kind in ("content", "style"):
            if isinstance(weights.get(kind), Mapping):
                named = ", ".join(
                    f"{layer} {value:g}" for layer, value in weights[kind].items() if isinstance(value, (int, float))
                )
                rows.append((f"{kind} weights", _text(named)))
    return rows


def _figures(figures: object) -> list[tuple[str, str]]:
    found = figures if isinstance(figures, Mapping) else {}
    losses = next((value for key, value in found.items() if str(key).startswith(_LOSSES)), None)
    if not isinstance(losses, Mapping):
        return []
    return [(_text(key), f"{value:.4g}") for key, value in losses.items() if isinstance(value, (int, float))]


def _yardstick(measures: Mapping[str, Any]) -> str:
    """Return the measures of ``evaluate style`` as text."""
    try:
        rows = [
            ("style distance", f"{measures['style distance']:.3f}"),
            ("style distance of the photos themselves", f"{measures['style distance of the photos']:.3f}"),
            ("content distance", f"{measures['content distance']:.3f}"),
            ("change when the photo moves by one pixel, of 255", f"{measures['steadiness']:.1f}"),
            ("photos", str(len(measures["photos"]))),
        ]
    except (KeyError, TypeError, ValueError):
        raise InputError("the measures of the style are not those of `perceptual-style evaluate style -o`") from None
    said = (
        "Measured with `perceptual-style evaluate style`, on photos that were not used in training. 0 is best in all."
    )
    return f"{_table(rows)}\n\n{said}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _text(value: object) -> str:
    """Return a fact as one line of Markdown without markup of its own: facts come from files."""
    return re.sub(r"([\\|<>\[\]*`_#])", r"\\\1", shortened(str(value), 300))


def _weights(model: StyleModel) -> bytes:
    """Return the style in this project's format, in float16 if that loses nothing."""
    tensors = [each for each in model.network.state_dict().values() if each.is_floating_point()]
    half = all(torch.equal(each, each.half().float()) for each in tensors)
    facts = {**model.facts, "task": "style", "name": model.name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        save_network(path, model.network, facts, half=half, pixels=model.pixels)
        return path.read_bytes()


def _encoded(picture: Tensor) -> bytes:
    content, _ = encode_images("picture.jpg", [ImageFile(picture)])
    return bytes(content)
