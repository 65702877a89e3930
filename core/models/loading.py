"""Open a network by name or from a file: find the file, read it, check its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from ..checkpoints.own_format import is_ours, load_network
from ..errors import ArchError, CheckpointError, InputError, listed, quoted, shortened
from ..hub.fetch import fetch, find, missing
from ..hub.manifest import find_entry, names
from ..hub.places import Folder
from ..hub.repositories import fetch_repository, find_repository, is_repository, missing_repository
from ..network.pixels import OURS, PixelConvention
from ..network.styles import Style, select, styles_in
from ..network.transform_net import TransformNet
from ..progress import ProgressCallback
from .image_model import ImageModel


def network_file(
    name_or_path: str | Path,
    task: str | None = None,
    *,
    download: bool = False,
    folder: Folder = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Return the checked file of a network that is given by name, or the given path itself.

    Args:
        name_or_path: Name or path.
        task: Task of the names to look among, as in the manifest. If None, all names.
        download: As in `load_style`.
        folder: As in `load_style`.
        progress: As in `load_style`.

    Raises:
        CheckpointError: As in `load_style`.
    """
    entry = find_entry(name_or_path, task)
    if entry is not None:
        found = fetch(entry, folder=folder, progress=progress) if download else find(entry, folder)
        if found is None:
            raise missing(entry, folder)
        return found
    if task in (None, "style") and is_repository(name_or_path):
        name = str(name_or_path)
        if download:
            return fetch_repository(name, folder=folder, progress=progress)
        found = find_repository(name, folder)
        if found is None:
            raise missing_repository(name)
        return found
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        what = {"style": "style", "upscale": "upscaler", "style-predictor": "predictor of styles"}.get(
            str(task), "network"
        )
        known = " or ".join(filter(None, [", ".join(names(task)), "the path of a file"]))
        raise CheckpointError(f"there is no {what} named {str(name_or_path)!r}; expected {known}")
    return path


Kind = TypeVar("Kind", bound=ImageModel)


def open_model(
    kind: type[Kind],
    path: Path,
    name: str | Path,
    *,
    style: Style | None = None,
    channel_order: str | None = None,
    output: str | None = None,
) -> Kind:
    """Return the model in the file that `network_file` returned for ``name``.

    Args:
        kind: StyleModel or UpscaleModel.
        path: The file.
        name: Name or path that the user gave.
        style: As in `load_style`.
        channel_order: As in `load_style`.
        output: As in `load_style`.

    Raises:
        CheckpointError: If the file cannot be opened, or holds a network for something else.
    """
    network, pixels, facts = open_network(path, style=style, channel_order=channel_order, output=output)
    if facts.get("task") != kind.task or not kind.takes(network.spec, facts):
        scale = network.spec.scale
        held = f"an x{scale} upscaler" if scale > 1 else f"a network for {quoted(facts.get('task'))}"
        raise CheckpointError(f"{path} holds {held}, not {kind.what}")
    if network.spec.styles > 1:
        known = [each["name"] for each in styles_in(facts)]
        raise CheckpointError(
            f"{path} holds {len(known)} styles: {listed(known)}; choose one, as in {Path(name).name}#{known[0]}"
        )
    entry = find_entry(name, kind.task)
    if entry is not None and not entry.is_bundled and style is None:
        facts |= {"name": entry.id} | {key: value for key, value in entry.as_json().items() if key in _PUBLISHED}
    named = facts.get("name")
    if not isinstance(named, str) or len(named) > _LONGEST_NAME or not named.isprintable():
        named = path.stem
    return kind(network, named, facts, pixels)


_LONGEST_NAME = 200  # characters: files come from anywhere, and messages name the model
_PUBLISHED = ("title", "license", "credit", "recipe", "notes")  # facts of a file of the Hub that only the manifest has


def open_network(
    path: str | Path, *, style: Style | None = None, channel_order: str | None = None, output: str | None = None
) -> tuple[TransformNet, PixelConvention, dict[str, Any]]:
    """Open any network that can be read, style or upscaler.

    Args:
        path: The file.
        style: As in `load_style`. If None, a network of several styles is returned unchanged.
        channel_order: As in `load_style`.
        output: As in `load_style`.

    Returns:
        The network, its pixel convention and its facts.

    Raises:
        CheckpointError: If the file is not a network.
        InputError: If the style, channel order or output is unknown.
    """
    try:
        if is_ours(path):
            network, facts = load_network(path)
            pixels = PixelConvention.parse(str(facts.pop("pixels", OURS)))
        else:
            from ..checkpoints.dialects import load_foreign  # fifteen families, which most runs never need

            network, pixels, facts = load_foreign(path)
    except (ArchError, InputError) as error:
        known = isinstance(error, CheckpointError)
        raise error if known else CheckpointError(f"{path}: {shortened(str(error), 300)}") from None
    if style is not None:
        network, facts = select(network, facts, style)
    if output is not None:
        network.spec = network.spec.with_options(output=output)
    return network, pixels.with_order(channel_order), facts
